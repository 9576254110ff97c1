package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ingestd/internal/fhir"
	"ingestd/internal/payersim"
)

// dataset is a folder of NDJSON, with the same data as rows that psql can copy.
type dataset struct {
	dir     string   // *.ndjson, for the payer
	parts   []string // rows in Postgres' text format, one folder a connection, a file a table
	tables  []string
	lines   int64
	bytes   int64
	changed int64 // lines that differ from the dataset that it was made from
}

// bytesPerPatient is what the generator makes of one patient, on average.
const bytesPerPatient = 80_000

// generate writes about size bytes of claims data, and, unless there are no connections to copy them, a second folder in which one line
// of a hundred is another, and rows.
func generate(ctx context.Context, dir string, size int64, connections int) (base, changed dataset, err error) {
	source, err := payersim.New(payersim.Options{
		Patients: int(max(size/bytesPerPatient, 1)), Seed: 1,
		Clients: []payersim.Client{{ID: "none", Secret: "none"}},
	})
	if err != nil {
		return base, changed, fmt.Errorf("generate data: %w", err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	base, changed = dataset{dir: filepath.Join(dir, "base")}, dataset{dir: filepath.Join(dir, "changed")}
	var types []string
	err = source.Truth(func(resourceType, _ string, _ []byte) bool {
		if len(types) == 0 || types[len(types)-1] != resourceType {
			types = append(types, resourceType)
		}
		return true
	})
	if err != nil {
		return base, changed, fmt.Errorf("generate data: %w", err)
	}
	for n := range connections {
		base.parts = append(base.parts, filepath.Join(dir, fmt.Sprintf("rows-%d", n)))
	}
	folders := []string{base.dir}
	if connections > 0 {
		folders = append(append(folders, changed.dir), base.parts...)
	}
	for _, folder := range folders {
		if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // generated data; psql may run as another user
			return base, changed, fmt.Errorf("make the data's folder: %w", err)
		}
	}
	for _, resourceType := range types {
		if err := writeType(ctx, source, resourceType, &base, &changed); err != nil {
			return base, changed, fmt.Errorf("write %s: %w", resourceType, err)
		}
	}
	return base, changed, nil
}

// writeType writes one type three times: as lines, as lines of which one in a hundred is changed, and as rows.
func writeType(ctx context.Context, source *payersim.Server, resourceType string, base, changed *dataset) (err error) {
	table, ok := fhir.TableName(resourceType)
	if !ok {
		return errors.New("no FHIR type")
	}
	base.tables = append(base.tables, table)
	paths := []string{filepath.Join(base.dir, resourceType+".ndjson")}
	if len(base.parts) > 0 {
		paths = append(paths, filepath.Join(changed.dir, resourceType+".ndjson"))
	}
	for _, part := range base.parts {
		paths = append(paths, filepath.Join(part, table))
	}
	files := make([]*bufio.Writer, len(paths))
	for i, path := range paths {
		file, err := os.Create(path)
		if err != nil {
			return fmt.Errorf("create a file: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		files[i] = bufio.NewWriterSize(file, 1<<20)
	}
	var failed error
	err = source.TruthAt(ctx, 0, []string{resourceType}, func(_, _ string, line []byte) bool {
		base.lines++
		base.bytes += int64(len(line)) + 1
		if len(base.parts) == 0 {
			_, failed = files[0].Write(append(line, '\n'))
			return failed == nil
		}
		other := line
		if base.lines%100 == 0 {
			other = change(line)
			changed.changed++
		}
		changed.lines++
		changed.bytes += int64(len(other)) + 1
		row, err := rowOf(line)
		if err != nil {
			failed = err
			return false
		}
		part := files[2+int(base.lines)%len(base.parts)]
		for file, text := range map[*bufio.Writer][]byte{files[0]: line, files[1]: other, part: row} {
			_, err := file.Write(append(text, '\n'))
			failed = errors.Join(failed, err)
		}
		return failed == nil
	})
	for _, file := range files {
		failed = errors.Join(failed, file.Flush())
	}
	return errors.Join(err, failed)
}

// change is the resource with another content, and the same id and length of its text but for one member.
func change(line []byte) []byte {
	return append(append(bytes.Clone(line[:len(line)-1]), `,"language":"en"`...), '}')
}

// rowColumns are the columns of the rows, in their order.
const rowColumns = "(payer, id, version_id, last_updated, patient_id, resource, digest, export_id, ingested_at)"

// rowOf is a resource as a row of our tables in the text format of COPY, with the keys that ingestd would find.
func rowOf(line []byte) ([]byte, error) {
	keys, err := fhir.Scan(line)
	if err != nil {
		return nil, fmt.Errorf("scan a generated line: %w", err)
	}
	updated := `\N`
	if !keys.LastUpdated.IsZero() {
		updated = keys.LastUpdated.Format(time.RFC3339Nano)
	}
	digest := sha256.Sum256(line)
	row := []string{
		"psql", escape(string(keys.ID)), orNull(keys.VersionID), updated, orNull(keys.PatientID), escape(string(line)),
		`\\x` + hex.EncodeToString(digest[:16]), "0", "2026-01-01T00:00:00Z",
	}
	return []byte(strings.Join(row, "\t")), nil
}

func orNull(text []byte) string {
	if text == nil {
		return `\N`
	}
	return escape(string(text))
}

var escape = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`).Replace
