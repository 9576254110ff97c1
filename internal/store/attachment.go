package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// AttachmentOptions say what becomes of content that the resources of an export refer to by URL.
type AttachmentOptions struct {
	// Inline puts the content into the resource; otherwise it goes into the table of attachments.
	Inline bool
	// Types are the media types that are fetched, with * for any subtype; empty: all.
	Types []string
	// Parallel is how many are fetched at once, at least 1.
	Parallel int
	// Fetch requests one. An error that IsRefused is for good: it is noted, and keeps nothing back.
	Fetch func(context.Context, Attachment) (AttachmentContent, error)
	// IsRefused tells an error that lasts from one that may pass.
	IsRefused func(error) bool
	// IsWait tells an error that asks for patience: all others wait with it, and it counts as no attempt.
	IsWait func(error) bool
}

// Attachment is content that a staged resource refers to.
type Attachment struct {
	ResourceType, ResourceID string
	Path                     []string // of the Attachment in the resource
	URL                      string   // may carry a signature: never printed
	ContentType              string
	Size                     int64 // -1 where the resource does not say
	Hash                     string
	RequiresToken            bool // as the manifest says of the file that held the resource
}

// AttachmentContent is what was fetched.
type AttachmentContent struct {
	Data        []byte
	ContentType string
}

// AttachmentsLeftError says that attachments could not be fetched this time; what was fetched is kept.
type AttachmentsLeftError struct {
	Left int
	Err  error // of the first
}

func (e *AttachmentsLeftError) Error() string {
	return fmt.Sprintf("%d attachments could not be fetched, the first of them: %v", e.Left, e.Err)
}

// Unwrap returns what the first of them failed with.
func (e *AttachmentsLeftError) Unwrap() error { return e.Err }

// maxAttachmentAttempts is how often an attachment is asked for before the export goes on without it.
const maxAttachmentAttempts = 5

// attachmentsAt are the elements that hold Attachments, by resource type, as jsonpath; * stands for the positions of an array.
var attachmentsAt = map[string][]string{
	"Communication":     {"payload", "*", "contentAttachment"},
	"DiagnosticReport":  {"presentedForm", "*"},
	"DocumentReference": {"content", "*", "attachment"},
	"Media":             {"content"},
}

// fetchAttachments fetches the attachments of what an export is about to publish: of changed resources only, because the
// staging tables hold no others by now. What is fetched stands in ingest.attachment, so that a publish that begins again goes on.
func (s *Store) fetchAttachments(ctx context.Context, conn *pgx.Conn, e Export, types []string, o AttachmentOptions) error {
	for _, resourceType := range types {
		if _, ok := attachmentsAt[resourceType]; !ok {
			continue
		}
		if err := s.listAttachments(ctx, conn, e, resourceType, o.Types); err != nil {
			return err
		}
	}
	if err := s.fetchPending(ctx, e.ID, o); err != nil {
		return err
	}
	if !o.Inline {
		return nil
	}
	for _, resourceType := range types {
		if _, ok := attachmentsAt[resourceType]; ok {
			if err := s.inlineAttachments(ctx, conn, e, resourceType); err != nil {
				return err
			}
		}
	}
	return nil
}

// listAttachments notes what the staged resources of a type refer to. Content that stands in the resource need not be fetched.
func (s *Store) listAttachments(ctx context.Context, conn *pgx.Conn, e Export, resourceType string, mediaTypes []string) error {
	table, err := tableName(resourceType)
	if err != nil {
		return err
	}
	from, path := attachmentFrom(attachmentsAt[resourceType])
	wanted := make([]string, len(mediaTypes))
	for i, mediaType := range mediaTypes {
		wanted[i] = strings.ReplaceAll(likeLiteral(strings.ToLower(mediaType)), "*", "%")
	}
	_, err = conn.Exec(ctx, fmt.Sprintf(`
		INSERT INTO ingest.attachment (export_id, resource_type, resource_id, path, url, content_type, expected_bytes, hash, requires_token)
		SELECT $1, $2, stage.id, %s, a.v->>'url', coalesce(a.v->>'contentType', ''),
			CASE WHEN a.v->>'size' ~ '^[0-9]{1,18}$' THEN (a.v->>'size')::bigint END, coalesce(a.v->>'hash', ''), file.requires_token
		FROM %s AS stage JOIN ingest.export_file AS file ON file.export_id = $1 AND file.ordinal = stage.file
		%s
		WHERE jsonb_typeof(a.v) = 'object' AND jsonb_typeof(a.v->'url') = 'string' AND NOT a.v ? 'data'
			AND (cardinality($3::text[]) = 0 OR lower(split_part(a.v->>'contentType', ';', 1)) LIKE ANY ($3))
		ON CONFLICT DO NOTHING`, path, quote(stageSchema, stageName(e.ID, table)), from), e.ID, resourceType, wanted)
	if err != nil {
		return fmt.Errorf("list the attachments of %s: %w", resourceType, err)
	}
	return nil
}

// attachmentFrom is the FROM items that find the Attachments a.v of a staged resource, and the expression of their path.
func attachmentFrom(path []string) (from, expression string) {
	at := slices.Index(path, "*")
	if at < 0 {
		return fmt.Sprintf(`CROSS JOIN LATERAL (SELECT stage.resource #> '{%s}') AS a (v)`, strings.Join(path, ",")),
			fmt.Sprintf(`'{%s}'::text[]`, strings.Join(path, ","))
	}
	list := strings.Join(path[:at], ",")
	from = fmt.Sprintf(`CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(stage.resource #> '{%[1]s}')
			WHEN 'array' THEN stage.resource #> '{%[1]s}' ELSE '[]' END) WITH ORDINALITY AS item (v, n)
		CROSS JOIN LATERAL (SELECT item.v #> '{%[2]s}') AS a (v)`, list, strings.Join(path[at+1:], ","))
	return from, fmt.Sprintf(`'{%s}'::text[] || (item.n - 1)::text || '{%s}'::text[]`, list, strings.Join(path[at+1:], ","))
}

func likeLiteral(text string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text)
}

// fetchPending asks for all that has not been fetched, a batch at a time, so that memory does not grow with their number.
func (s *Store) fetchPending(ctx context.Context, exportID int64, o AttachmentOptions) error {
	const batch = 1000
	var failed AttachmentsLeftError
	var last Attachment
	for {
		rows, err := s.pool.Query(ctx, `
			SELECT resource_type, resource_id, path, url, content_type, coalesce(expected_bytes, -1), hash, requires_token
			FROM ingest.attachment
			WHERE export_id = $1 AND state = 'pending' AND (resource_type, resource_id, path) > ($2, $3, $4)
			ORDER BY resource_type, resource_id, path LIMIT $5`,
			exportID, last.ResourceType, last.ResourceID, orEmpty(last.Path), batch)
		if err != nil {
			return fmt.Errorf("list the attachments to fetch: %w", err)
		}
		pending, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Attachment])
		if err != nil {
			return fmt.Errorf("list the attachments to fetch: %w", err)
		}
		if len(pending) == 0 {
			break
		}
		last = pending[len(pending)-1]
		left, err := s.fetchBatch(ctx, exportID, pending, o)
		if err != nil {
			return err
		}
		for _, err := range left {
			if failed.Left++; failed.Err == nil {
				failed.Err = err
			}
		}
	}
	if failed.Left > 0 {
		return &failed
	}
	return nil
}

func orEmpty(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}

// fetchBatch fetches some attachments and returns the errors of those that are to be tried again.
func (s *Store) fetchBatch(ctx context.Context, exportID int64, pending []Attachment, o AttachmentOptions) ([]error, error) {
	left := make([]error, len(pending))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(max(o.Parallel, 1))
	for i, a := range pending {
		group.Go(func() (err error) {
			left[i], err = s.fetchOne(groupCtx, exportID, a, o)
			return err
		})
	}
	err := group.Wait()
	return slices.DeleteFunc(left, func(err error) bool { return err == nil }), err
}

// fetchOne fetches one attachment and stores it, or why it could not be fetched. left is the failure of one that is to be tried
// again.
func (s *Store) fetchOne(ctx context.Context, exportID int64, a Attachment, o AttachmentOptions) (left, err error) {
	content, failure := o.Fetch(ctx, a)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx) //nolint:wrapcheck // the end of ctx is no failure of the fetch
	}
	if failure != nil && o.IsWait(failure) {
		return nil, failure
	}
	where := []any{exportID, a.ResourceType, a.ResourceID, a.Path}
	const key = ` WHERE export_id = $1 AND resource_type = $2 AND resource_id = $3 AND path = $4 AND state = 'pending'`
	if failure == nil {
		err := change(ctx, s.pool, `UPDATE ingest.attachment SET state = 'fetched', content = $5, fetched_type = $6,
			bytes = octet_length($5::bytea)`+key, append(where, content.Data, clip(content.ContentType, 200))...)
		return nil, err
	}
	var state string
	err = s.pool.QueryRow(ctx, `UPDATE ingest.attachment SET attempts = attempts + 1, reason = $5,
		state = CASE WHEN $6 OR attempts + 1 >= $7 THEN 'failed' ELSE 'pending' END`+key+` RETURNING state`,
		append(where, clip(failure.Error(), 1000), o.IsRefused(failure), maxAttachmentAttempts)...).Scan(&state)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, errStale
	}
	if err != nil {
		return nil, fmt.Errorf("note that an attachment was not fetched: %w", err)
	}
	if state == "failed" {
		return nil, nil
	}
	return failure, nil
}

// inlineAttachments puts what was fetched into the staged resources, as Attachment.data. The digest stays that of the line as
// the payer sent it, so that the resource counts as unchanged the next time.
func (s *Store) inlineAttachments(ctx context.Context, conn *pgx.Conn, e Export, resourceType string) error {
	table, err := tableName(resourceType)
	if err != nil {
		return err
	}
	stage := quote(stageSchema, stageName(e.ID, table))
	paths, err := inlinePaths(ctx, conn, e.ID, resourceType)
	if err != nil {
		return err
	}
	for _, path := range paths { // one by one, because a statement changes a row once
		_, err := conn.Exec(ctx, fmt.Sprintf(`
			UPDATE %s AS stage SET resource = jsonb_set(stage.resource, $3, (stage.resource #> $3)
				|| jsonb_build_object('data', translate(encode(a.content, 'base64'), E'\n', '')))
			FROM ingest.attachment AS a
			WHERE a.export_id = $1 AND a.resource_type = $2 AND a.path = $3 AND a.state = 'fetched' AND stage.id = a.resource_id`, stage),
			e.ID, resourceType, path)
		if err != nil {
			return fmt.Errorf("put the attachments into %s: %w", resourceType, err)
		}
	}
	return nil
}

// maxInlineBytes bounds the attachments within one resource: jsonb holds no value of more than 256 MiB, and base64 takes a third
// more.
const maxInlineBytes = 128 << 20

// inlinePaths lists where in the resources of a type the fetched attachments belong, once those are left out that no resource
// can hold.
func inlinePaths(ctx context.Context, conn *pgx.Conn, exportID int64, resourceType string) ([][]string, error) {
	_, err := conn.Exec(ctx, `
		UPDATE ingest.attachment SET state = 'failed', content = NULL, reason = 'the attachments of the resource are too large to stand in it'
		WHERE export_id = $1 AND resource_type = $2 AND state = 'fetched' AND resource_id IN (
			SELECT resource_id FROM ingest.attachment WHERE export_id = $1 AND resource_type = $2 AND state = 'fetched'
			GROUP BY resource_id HAVING sum(bytes) > $3)`, exportID, resourceType, maxInlineBytes)
	if err != nil {
		return nil, fmt.Errorf("leave out attachments that are too large: %w", err)
	}
	rows, err := conn.Query(ctx, `SELECT DISTINCT path FROM ingest.attachment
		WHERE export_id = $1 AND resource_type = $2 AND state = 'fetched'`, exportID, resourceType)
	if err != nil {
		return nil, fmt.Errorf("list where attachments belong: %w", err)
	}
	paths, err := pgx.CollectRows(rows, pgx.RowTo[[]string])
	if err != nil {
		return nil, fmt.Errorf("list where attachments belong: %w", err)
	}
	return paths, nil
}
