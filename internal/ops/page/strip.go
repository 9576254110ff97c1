package page

import (
	"fmt"
	"strings"

	"ingestd/internal/store"
)

// strip is the history of a payer as a picture: one bar a run, the newest on the right. How a run ended is told by the height of its
// bar as well as by its colour, and Text says it in words.
type strip struct {
	Paths []stripPath
	Text  string
	N     int
}

// stripPath are all bars of one kind, as one SVG path.
type stripPath struct{ Kind, D string }

// The measures of a strip, in the units of its picture.
const (
	stripStep   = 5
	stripBottom = 18
)

// stripKinds are the kinds of bars, and how high each is.
var stripKinds = []struct {
	kind   string
	height int
	noun   string
}{
	{toneBad, 16, "failed"}, {toneWarn, 16, "held"}, {toneBusy, 6, "running"}, {toneGood, 10, "published"}, {toneOff, 3, "canceled"},
}

func kindOf(s store.State) string {
	switch s {
	case store.StateFailed:
		return toneBad
	case store.StateHeld:
		return toneWarn
	case store.StatePublished:
		return toneGood
	case store.StateCanceled:
		return toneOff
	case store.StateStarting, store.StatePolling, store.StateLoading, store.StatePublishing:
	}
	return toneBusy
}

func newStrip(past []store.PastExport) strip {
	s := strip{N: len(past)}
	if len(past) == 0 {
		s.Text = "No runs yet."
		return s
	}
	var parts []string
	for _, k := range stripKinds {
		var d strings.Builder
		n := 0
		for i, e := range past {
			if kindOf(e.State) != k.kind {
				continue
			}
			n++
			// The newest stands at the right end, also where there are few.
			fmt.Fprintf(&d, "M%d %dv-%d", (historyLength-len(past)+i)*stripStep+stripStep/2, stripBottom, k.height)
		}
		if n > 0 {
			s.Paths = append(s.Paths, stripPath{Kind: k.kind, D: d.String()})
			parts = append(parts, fmt.Sprintf("%d %s", n, k.noun))
		}
	}
	last := past[len(past)-1]
	s.Text = fmt.Sprintf("Last %s: %s. The newest is %s.", plural(len(past), "run"), strings.Join(parts, ", "), last.State)
	if last.ErrorCode != "" {
		s.Text = strings.TrimSuffix(s.Text, ".") + " (" + last.ErrorCode + ")."
	}
	return s
}
