package store_test

import (
	"strings"
	"testing"

	"ingestd/internal/store"
)

// subset is a Patient that its server marks as incomplete.
func subset(id, lastUpdated, note string) string {
	whole := patient(id, lastUpdated, note)
	tag := `"tag":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}]`
	if before, after, ok := strings.Cut(whole, `"meta":{`); ok {
		return before + `"meta":{` + tag + `,` + after
	}
	return strings.TrimSuffix(whole, "}") + `,"meta":{` + tag + `}}`
}

func TestND8_an_incomplete_resource_never_replaces_a_complete_one(t *testing.T) {
	t.Parallel()
	const old, recent = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
	for name, test := range map[string]struct {
		before []string // published first; nil: nothing is
		lines  []string
		want   string
		ledger store.Ledger
	}{
		"published complete": {
			[]string{patient("a", old, "whole")},
			[]string{subset("a", recent, "part")},
			"whole",
			store.Ledger{Lines: 1, Superseded: 1},
		},
		"published incomplete": {
			[]string{subset("a", old, "part")}, []string{subset("a", recent, "other")}, "other", store.Ledger{Lines: 1, Updated: 1},
		},
		"complete over incomplete": {
			[]string{subset("a", old, "part")}, []string{patient("a", recent, "whole")}, "whole", store.Ledger{Lines: 1, Updated: 1},
		},
		"where nothing stands":   {nil, []string{subset("a", recent, "part")}, "part", store.Ledger{Lines: 1, Inserted: 1}},
		"complete line first":    {nil, []string{patient("a", old, "whole"), subset("a", recent, "part")}, "whole", store.Ledger{Lines: 2, Inserted: 1, Superseded: 1}},
		"incomplete line first":  {nil, []string{subset("a", recent, "part"), patient("a", old, "whole")}, "whole", store.Ledger{Lines: 2, Inserted: 1, Superseded: 1}},
		"unchanged and a subset": {[]string{patient("a", old, "whole")}, []string{patient("a", old, "whole"), subset("a", recent, "part")}, "whole", store.Ledger{Lines: 2, Unchanged: 1, Superseded: 1}},
		"complete and the published subset": {
			[]string{subset("a", old, "part")},
			[]string{patient("a", old, "whole"), subset("a", old, "part")},
			"whole",
			store.Ledger{Lines: 2, Updated: 1, Superseded: 1},
		},
		"both new and a published one": {
			[]string{patient("z", old, "other")},
			[]string{subset("a", recent, "part"), patient("a", old, "whole")},
			"whole",
			store.Ledger{Lines: 2, Inserted: 1, Superseded: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			kind := store.NewExport{Kind: store.KindIncremental}
			if test.before != nil {
				run(t, s, kind, output("Patient", test.before...))
			}
			wantLedger(t, run(t, s, kind, output("Patient", test.lines...)), test.ledger)
			if got := rows(t, s, "fhir.patient")["a"].Resource; !strings.Contains(got, `"`+test.want+`"`) {
				t.Errorf("got %s, want the note %q", got, test.want)
			}
		})
	}
}

func TestND8_a_resource_that_an_export_holds_incomplete_is_no_ghost(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	run(t, s, store.NewExport{}, output("Patient", patient("a", "", "whole"), patient("b", "", "1")))
	e := run(t, s, store.NewExport{RemovesGhosts: true}, output("Patient", subset("a", "", "part"), patient("b", "", "1")))
	wantLedger(t, e, store.Ledger{Lines: 2, Unchanged: 1, Superseded: 1})
	if _, there := rows(t, s, "fhir.patient")["a"]; !there {
		t.Error("the resource was removed as a ghost")
	}
}
