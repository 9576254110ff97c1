package reliability

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// Summary is what a run comes to.
type Summary struct {
	Rows    int     `json:"rows"`
	Proven  int     `json:"proven"` // kept wholly or partly, and all tests passed
	Failed  int     `json:"failed"` // a test failed, was skipped, or did not run
	NotKept int     `json:"not_kept"`
	Seconds float64 `json:"seconds"`
	Faults  []Proof `json:"faults"`
}

// Summarize counts the rows.
func Summarize(proofs []Proof, took time.Duration) Summary {
	s := Summary{Rows: len(proofs), Seconds: took.Seconds(), Faults: proofs}
	for _, p := range proofs {
		switch {
		case strings.HasPrefix(p.Kept, "no: "):
			s.NotKept++
		case !p.Passed:
			s.Failed++
		default:
			s.Proven++
		}
	}
	return s
}

// Whole reports whether every fault is proven to be survived.
func (s Summary) Whole() bool { return s.Proven == s.Rows }

// Print writes a line for each test of each row, and what all come to.
func (s Summary) Print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "#\tfault\ttest\tresult\tseconds")
	for _, p := range s.Faults {
		fault := fmt.Sprintf("%d\t%s", p.Number, clip(p.Fault))
		if len(p.Tests) == 0 {
			fmt.Fprintf(table, "%s\t-\t%s\t\n", fault, clip(p.Kept))
		}
		for i, t := range p.Tests {
			if i > 0 {
				fault = "\t"
			}
			result := t.Result
			if t.Count > 1 {
				result = fmt.Sprintf("%s (%d)", t.Result, t.Count)
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%.1f\n", fault, t.Test, result, t.Seconds)
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	_, err := fmt.Fprintf(w, "\n%d of %d faults are provoked and survived; of %d a test failed, was skipped or did not run; %d have no test; %.0f s\n",
		s.Proven, s.Rows, s.Failed, s.NotKept, s.Seconds)
	if err != nil {
		return fmt.Errorf("print the sum: %w", err)
	}
	return nil
}

// Write writes the summary as JSON.
func (s Summary) Write(path string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	return nil
}

const widest = 60

func clip(text string) string {
	if runes := []rune(text); len(runes) > widest {
		return string(runes[:widest-1]) + "…"
	}
	return text
}
