// Package embedded runs a private Postgres cluster in a directory, from the binaries that are installed on this machine:
// database.url: embedded:DIR. It is enough for a trial, a demo, tests and a small site.
//
// The server listens on a Unix socket in a directory of its own and on no network address; the socket's permissions are
// its access control. Run as root, ingestd starts the server as an unprivileged user, because Postgres refuses to run as
// root.
//
// Several processes may use one directory at the same time (a daemon and a psql, say). Each holds a shared lock on a file
// in it; whoever finds itself alone when it stops also stops the server. A server that outlived the process that started
// it is found by its pid file and used, not fought.
package embedded
