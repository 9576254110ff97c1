package payersim

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v4"
)

// Faults are the ways in which a simulated payer dawdles and fails. The zero value is a payer that works at once and
// tells clients to poll every second. Counts are over the life of the server; a fault strikes after a request has been
// found correct, so a wrong request is always told what is wrong with it.
type Faults struct {
	// ExportDuration is how long an export takes from its kick-off.
	ExportDuration time.Duration `yaml:"export_duration"`
	// RetryAfter is what a status answer tells the client to wait; the header has whole seconds, rounded up. Default
	// 1s, negative: no header, and any pace of polling is accepted.
	RetryAfter time.Duration `yaml:"retry_after"`
	// PollTolerance is how much earlier than told a poll may come before it is answered 429. Default 50ms, negative:
	// early polls are never refused.
	PollTolerance time.Duration `yaml:"poll_tolerance"`

	// Token are the faults of the authorization server.
	Token TokenFaults `yaml:"token"`
	// KickOff, Status, Manifest, File and Delete are those of the steps of an export.
	KickOff  KickOffFaults  `yaml:"kickoff"`
	Status   StatusFaults   `yaml:"status"`
	Manifest ManifestFaults `yaml:"manifest"`
	File     FileFaults     `yaml:"file"`
	Delete   DeleteFaults   `yaml:"delete"`

	// TokenEndpointFailFirst answers the first N valid token requests with 503; their jti are used up all the same.
	TokenEndpointFailFirst int `yaml:"token_endpoint_fail_first"`
	// KickOffFailFirst answers the first N kick-offs with 503 and Retry-After.
	KickOffFailFirst int `yaml:"kickoff_fail_first"`
	// StatusFailFirst answers the first N status requests with 503 and Retry-After.
	StatusFailFirst int `yaml:"status_fail_first"`
	// FileFailFirst answers the first N file requests with 503 and Retry-After.
	FileFailFirst int `yaml:"file_fail_first"`

	// BytesPerSecond limits each file response, 0 does not.
	BytesPerSecond int64 `yaml:"bytes_per_second"`
	// CutFileAtByte breaks the connection after that many body bytes, once per file. 0 does not.
	CutFileAtByte int64 `yaml:"cut_file_at_byte"`
	// RevokeTokensAfter makes each token invalid after N requests, 0 does not.
	RevokeTokensAfter int `yaml:"revoke_tokens_after"`
	// BadLines are inserted into the output.
	BadLines []BadLine `yaml:"bad_lines"`
}

// BadLine is a line that the payer's data do not hold and its output does.
type BadLine struct {
	// Type is the resource type whose output is spoilt.
	Type string `yaml:"type"`
	// AfterLine is the number of the type's good lines that come before it in an export, over all its files. An export
	// with fewer lines does not show it.
	AfterLine int `yaml:"after_line"`
	// Raw is the line, without newline.
	Raw string `yaml:"raw"`
}

const (
	defaultRetryAfter    = time.Second
	defaultPollTolerance = 50 * time.Millisecond
)

// LoadFaults reads a fault file: YAML with the keys of [Faults]; an unknown key, a wrong type or a second document is
// an error. Without a path there is none.
//
// Each setting is a key of Faults with its value in YAML, as in file.gzip=corrupt, and comes before what the file says.
func LoadFaults(path string, settings ...string) (Faults, error) {
	var text []byte
	if path != "" {
		var err error
		if text, err = os.ReadFile(path); err != nil {
			return Faults{}, fmt.Errorf("read fault file: %w", err)
		}
		f, err := parseFaults(text)
		if err != nil || len(settings) == 0 {
			if err != nil {
				err = fmt.Errorf("fault file %s: %w", path, err)
			}
			return f, err
		}
	}
	merged, err := withSettings(text, settings)
	if err != nil {
		return Faults{}, err
	}
	return parseFaults(merged)
}

// withSettings returns the YAML of a fault plan with single settings in it.
func withSettings(text []byte, settings []string) ([]byte, error) {
	plan := map[string]any{}
	if len(text) > 0 {
		if err := yaml.Load(text, &plan); err != nil {
			return nil, fmt.Errorf("read faults: %w", err)
		}
	}
	for _, setting := range settings {
		key, value, ok := strings.Cut(setting, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("fault %q: expected KEY=VALUE, such as file.gzip=corrupt", setting)
		}
		var parsed any
		if err := yaml.Load([]byte(value), &parsed); err != nil {
			return nil, fmt.Errorf("fault %s: its value is no YAML: %w", key, err)
		}
		at := plan
		names := strings.Split(key, ".")
		for _, name := range names[:len(names)-1] {
			inner, ok := at[name].(map[string]any)
			if !ok {
				inner = map[string]any{}
				at[name] = inner
			}
			at = inner
		}
		at[names[len(names)-1]] = parsed
	}
	merged, err := yaml.Dump(plan)
	if err != nil {
		return nil, fmt.Errorf("write faults: %w", err)
	}
	return merged, nil
}

func parseFaults(text []byte) (Faults, error) {
	var f Faults
	if err := yaml.Load(text, &f, yaml.WithKnownFields(), yaml.WithUniqueKeys()); err != nil {
		return f, fmt.Errorf("read faults: %w", err)
	}
	return f, f.check()
}

func (f Faults) check() error {
	var errs []error
	for name, n := range map[string]int64{
		"export_duration":           int64(f.ExportDuration),
		"token_endpoint_fail_first": int64(f.TokenEndpointFailFirst),
		"kickoff_fail_first":        int64(f.KickOffFailFirst),
		"status_fail_first":         int64(f.StatusFailFirst),
		"file_fail_first":           int64(f.FileFailFirst),
		"bytes_per_second":          f.BytesPerSecond,
		"cut_file_at_byte":          f.CutFileAtByte,
		"revoke_tokens_after":       int64(f.RevokeTokensAfter),
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("payersim: fault %s must not be negative", name))
		}
	}
	for i, bad := range f.BadLines {
		if bad.Type == "" || bad.AfterLine < 0 {
			errs = append(errs, fmt.Errorf("payersim: fault bad_lines[%d] needs a type, and an after_line from 0 on", i))
		}
	}
	return errors.Join(append(errs, f.Token.check(), f.checkExport())...)
}

func (f Faults) retryAfter() time.Duration {
	switch {
	case f.RetryAfter < 0:
		return 0
	case f.RetryAfter == 0:
		return defaultRetryAfter
	}
	return f.RetryAfter
}

// tooEarly tells whether a poll at now breaks the promise not to come before next.
func (f Faults) tooEarly(now, next time.Time) bool {
	if f.PollTolerance < 0 {
		return false
	}
	tolerance := f.PollTolerance
	if tolerance == 0 {
		tolerance = defaultPollTolerance
	}
	return now.Before(next.Add(-tolerance))
}

// badLines are the lines to insert into a piece: those that come after its first line at the earliest, or before it in
// the first piece.
func (f Faults) badLines(p piece) []BadLine {
	var in []BadLine
	if start := `{"resourceType":"Patient","id":"long-line","note":"`; f.File.LongLine > len(start) && p.resourceType == "Patient" && p.first == 0 {
		in = append(in, BadLine{Type: p.resourceType, Raw: start + strings.Repeat("x", f.File.LongLine-len(start)-2) + `"}`})
	}
	for _, bad := range f.BadLines {
		if bad.Type != p.resourceType || bad.AfterLine > p.first+p.lines {
			continue
		}
		if bad.AfterLine > p.first || p.first == 0 {
			in = append(in, bad)
		}
	}
	return in
}

// faultPlan is a set of faults and the count of which have struck.
type faultPlan struct {
	Faults

	mu     sync.Mutex
	struck map[string]int
}

// strike tells whether the fault has its turn, and takes it. key is what is counted: a fault's name, or that with a
// file's.
func (p *faultPlan) strike(key string, times int) bool {
	if times == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.struck[key] >= times {
		return false
	}
	if p.struck == nil {
		p.struck = map[string]int{}
	}
	p.struck[key]++
	return true
}
