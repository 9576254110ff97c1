package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// roundsOfADay is how often each payer is exported in a soak: once for each hour of a day.
const roundsOfADay = 24

// Endurance is what came of a soak.
type Endurance struct {
	Verdict

	// Series are the figures over its time.
	Series []Series `json:"series"`
}

// Rising names the figures that rose by more than is allowed.
func (e *Endurance) Rising() []string {
	var rising []string
	for _, s := range e.Series {
		if s.Growth > s.Allowed {
			rising = append(rising, fmt.Sprintf("%s of %s rose by %.1f, at most %.1f is allowed", s.Measure, s.Of, s.Growth, s.Allowed))
		}
	}
	return rising
}

// Soak lets ingestd work in peace for as long as the options say, in which each payer is exported as often as in a day with a schedule of
// hours, and measures it meanwhile. Then everything is compared as after Run. The error is a failure to find out.
func Soak(ctx context.Context, o Options) (e Endurance, err error) {
	if o.Interval == 0 {
		o.Interval = max(o.Duration/roundsOfADay, time.Second).Round(time.Second)
	}
	o = o.withDefaults()
	w, err := newWorld(ctx, o)
	defer func() { err = errors.Join(err, w.close()) }()
	if err != nil {
		return e, err
	}
	w.say("%d instances, %d payers, each exported every %s, for %s", o.Instances, o.Payers, o.Interval, o.Duration)
	if err := w.begin(ctx); err != nil {
		return e, err
	}
	if e.Series, err = w.measure(ctx); err != nil {
		return e, fmt.Errorf("measure it: %w", err)
	}
	w.say("quiet: the exports that run end, and each payer is exported once more")
	last, err := w.settle(ctx)
	if err != nil {
		return e, fmt.Errorf("let it settle: %w", err)
	}
	e.Verdict, err = w.judge(ctx, last)
	return e, err
}

// Print writes what came of it for people.
func (e *Endurance) Print(out io.Writer) error {
	fmt.Fprintf(out, "\n%-28s %-12s %10s %10s %10s %10s\n", "", "", "median", "highest", "growth", "allowed")
	for _, s := range e.Series {
		fmt.Fprintf(out, "%-28s %-12s %10.1f %10.1f %+10.1f %10.1f\n", s.Measure, s.Of, s.level(), s.highest(), s.Growth, s.Allowed)
	}
	fmt.Fprintf(out, "growth is that of the trend after the first third, in which caches and pools fill\n\n%d ledgers balance, %d rows verified\n", e.Ledgers, e.Rows)
	for _, wrong := range append(e.Rising(), e.Wrong...) {
		fmt.Fprintf(out, "WRONG: %s\n", wrong)
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return fmt.Errorf("print what came of it: %w", err)
	}
	return nil
}
