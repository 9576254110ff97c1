package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/smartauth"
)

// copyReady loads the rows that are ready with psql, over as many connections as there are parts, into tables like ours, and
// then builds the indexes that ours have: the quickest way to the same end.
func (b *bench) copyReady(ctx context.Context) (Usage, error) {
	var like strings.Builder
	like.WriteString("DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench;\n")
	for _, table := range b.base.tables {
		fmt.Fprintf(&like, "CREATE TABLE bench.%s (LIKE fhir.%s INCLUDING ALL EXCLUDING INDEXES);\n",
			pgx.Identifier{table}.Sanitize(), pgx.Identifier{table + "__" + warmUp}.Sanitize())
	}
	if _, err := b.db.Exec(ctx, like.String()); err != nil {
		return Usage{}, fmt.Errorf("make psql's tables: %w", err)
	}
	return b.watch(ctx, func() (Usage, error) {
		var commands []*exec.Cmd
		for _, part := range b.base.parts {
			var script strings.Builder
			for _, table := range b.base.tables {
				fmt.Fprintf(&script, "\\copy bench.%s %s from '%s'\n", table, rowColumns, filepath.Join(part, table))
			}
			command := b.psql(ctx)
			command.Stdin = strings.NewReader(script.String())
			commands = append(commands, command)
		}
		copied, err := measure(ctx, commands...)
		if err != nil {
			return copied, err
		}
		var script strings.Builder
		for _, table := range b.base.tables {
			fmt.Fprintf(&script, "ALTER TABLE bench.%s ADD PRIMARY KEY (payer, id) INCLUDE (digest);\nCREATE INDEX ON bench.%[1]s (patient_id);\n", table)
		}
		command := b.psql(ctx)
		command.Stdin = strings.NewReader(script.String())
		indexed, err := measure(ctx, command)
		copied.Seconds += indexed.Seconds
		copied.CPUSeconds += indexed.CPUSeconds
		return copied, err
	})
}

func (b *bench) psql(ctx context.Context) *exec.Cmd {
	//nolint:gosec // the command is fixed
	return exec.CommandContext(ctx, "psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", b.database.URL())
}

// script is what a user would write: all files to disk, then jq and psql, a file at a time on each connection.
const script = `
set -euo pipefail
cd "$WORK"
xargs -P "$CONNECTIONS" -n 2 sh -c 'curl -sSf --compressed -o "$0" "$1"' < files
convert() {
	jq -r '["script", .id, .meta.versionId, .meta.lastUpdated,
		((.patient // .subject // .beneficiary // {}).reference // "" | split("/") | last), tojson] | @tsv' "$1" |
	psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 "$DATABASE" --command \
		"\\copy bench.script_$2 from pstdin with (null '')"
}
export -f convert
xargs -P "$CONNECTIONS" -n 2 bash -c 'convert "$0" "$1"' < tables
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 "$DATABASE" < indexes
`

// runScript measures the script. The export itself is started for it: what is compared is the way of the data.
func (b *bench) runScript(ctx context.Context) (Usage, error) {
	dir := filepath.Join(b.options.Dir, "script")
	if err := os.RemoveAll(dir); err != nil {
		return Usage{}, fmt.Errorf("clear the script's folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return Usage{}, fmt.Errorf("make the script's folder: %w", err)
	}
	files, err := b.exportForScript(ctx)
	if err != nil {
		return Usage{}, err
	}
	var urls, tables, create, indexes strings.Builder
	create.WriteString("DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench;\n")
	for _, table := range b.base.tables {
		fmt.Fprintf(&create, `CREATE TABLE bench.script_%s (payer text, id text, version_id text, last_updated timestamptz,
			patient_id text, resource jsonb COMPRESSION lz4);`, table)
		fmt.Fprintf(&indexes, "ALTER TABLE bench.script_%s ADD PRIMARY KEY (payer, id);\nCREATE INDEX ON bench.script_%[1]s (patient_id);\n", table)
	}
	for n, file := range files {
		name := fmt.Sprintf("%d.ndjson", n)
		fmt.Fprintf(&urls, "%s %s\n", name, file.URL)
		fmt.Fprintf(&tables, "%s %s\n", name, tableOf(file.Type))
	}
	for name, text := range map[string]string{"files": urls.String(), "tables": tables.String(), "indexes": indexes.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return Usage{}, fmt.Errorf("write the script's input: %w", err)
		}
	}
	if _, err := b.db.Exec(ctx, create.String()); err != nil {
		return Usage{}, fmt.Errorf("make the script's tables: %w", err)
	}
	return b.watch(ctx, func() (Usage, error) {
		command := exec.CommandContext(ctx, "bash", "-c", script)
		command.Env = append(os.Environ(), "WORK="+dir, "DATABASE="+b.database.URL(), fmt.Sprintf("CONNECTIONS=%d", len(b.base.parts)))
		return measure(ctx, command)
	})
}

// exportForScript starts an export at the payer whose files anybody may read, and returns its files.
func (b *bench) exportForScript(ctx context.Context) ([]export.File, error) {
	manager := smartauth.NewManager(smartauth.ManagerOptions{})
	defer manager.Close()
	base := b.payer.urls["script"]
	source, err := manager.Source(smartauth.Registration{
		Payer: "script", FHIRURL: base, ClientID: clientID, Keys: []*smartauth.Key{b.key},
	})
	if err != nil {
		return nil, fmt.Errorf("register the script: %w", err)
	}
	client, err := export.New(export.Options{
		Payer:      config.Payer{Name: "script", FHIRURL: base, Export: config.Export{Level: "system", Method: "get"}},
		Authorized: source.Transport(nil, smartauth.TransportOptions{}), Plain: http.DefaultTransport,
	})
	if err != nil {
		return nil, fmt.Errorf("make the script's client: %w", err)
	}
	started, err := client.KickOff(ctx, export.KickOffRequest{})
	if err != nil {
		return nil, fmt.Errorf("start the script's export: %w", err)
	}
	status, err := client.Poll(ctx, started.StatusURL)
	if err != nil {
		return nil, fmt.Errorf("ask for the script's files: %w", err)
	}
	if !status.Complete {
		return nil, errors.New("the script's export is not complete at once")
	}
	return status.Manifest.Output, nil
}
