// Package embedded runs a private Postgres cluster in a directory, from the binaries that are installed on this machine:
// database.url: embedded:DIR. It is enough for a trial, a demo, tests and a small site.
//
// The server listens on a Unix socket, which only its own user and root may open, and on no network address: that is its
// access control, and no password exists. Run as root, ingestd starts the server as an unprivileged user, because
// Postgres refuses to run as root.
//
// The directory holds:
//
//	data/           the cluster: UTF-8, collation C, checksums; data/ingestd.conf is written at each start
//	data.new/       a cluster that is being initialized; moved to data/ when it is whole
//	postgres.log    what the server says; postgres.log.1 is the one before
//	start.lock      held by the process that starts or stops the server
//	users.lock      held, shared, by each process that uses it
//	.s.PGSQL.5432   the socket; where DIR is too long for one, it is in a directory of its own under the temporary one
//
// Several processes may use one directory at the same time (a daemon and a psql, say): whoever finds itself alone when it
// stops also stops the server. The locks are the kernel's, so they end with a process that is killed. A server that
// outlived the process that started it is found by its pid file and used, not fought.
package embedded
