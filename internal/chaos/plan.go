package chaos

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// kind is a kind of trouble.
type kind string

// The kinds of trouble.
const (
	killInstance    kind = "kill -9 of an instance"
	stopInstance    kind = "SIGTERM to an instance"
	stopTwice       kind = "two SIGTERM to an instance"
	freezeInstance  kind = "SIGSTOP of an instance"
	reloadInstance  kind = "reload with other settings"
	reloadBroken    kind = "reload of a broken configuration"
	killBackend     kind = "kill of a Postgres backend"
	crashPostgres   kind = "crash of Postgres"
	cutConnections  kind = "connections to Postgres cut"
	stallNetwork    kind = "network to Postgres stalls"
	lockTables      kind = "tables locked by somebody else"
	payerMisbehaves kind = "payer misbehaves"
	payerGone       kind = "payer breaks all connections"
	revokeTokens    kind = "all tokens of a payer revoked"
	cancelExport    kind = "operator cancels an export"
	pausePayer      kind = "operator pauses a payer for a while"
	runPayer        kind = "operator runs a payer in full"
)

// weights say how often a kind comes, beside the others.
var weights = []struct {
	kind   kind
	weight int
}{
	{killInstance, 8},
	{stopInstance, 4},
	{stopTwice, 2},
	{freezeInstance, 4},
	{reloadInstance, 4},
	{reloadBroken, 2},
	{killBackend, 8},
	{crashPostgres, 2},
	{cutConnections, 4},
	{stallNetwork, 2},
	{lockTables, 2},
	{payerMisbehaves, 40},
	{payerGone, 4},
	{revokeTokens, 6},
	{cancelExport, 3},
	{pausePayer, 2},
	{runPayer, 4},
}

// event is a trouble that is going to happen.
type event struct {
	at   time.Duration // after the begin
	kind kind
	// target is the number of an instance, or of a payer.
	target int
	// lasts is for how long it does, where it lasts.
	lasts time.Duration
	// seed is for what else is left to chance.
	seed uint64
}

// String tells of the event in a line.
func (e event) String() string {
	text := fmt.Sprintf("%6.1fs %s, target %d", e.at.Seconds(), e.kind, e.target)
	if e.lasts > 0 {
		text += fmt.Sprintf(", %.1fs", e.lasts.Seconds())
	}
	return text
}

const (
	// meanGap is the mean time between two troubles.
	meanGap = 1500 * time.Millisecond
	// leastLasting and mostLasting bound what lasts.
	leastLasting = time.Second
	mostLasting  = 12 * time.Second
)

// newPlan draws what happens within a duration. The first round of every kind comes in a random order, so that a short run knows all of
// them; what follows comes by its weight.
func newPlan(seed uint64, d time.Duration, instances, payers int) []event {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a simulation, to be repeated by its seed
	total := 0
	var first []kind
	for _, w := range weights {
		total += w.weight
		first = append(first, w.kind)
	}
	r.Shuffle(len(first), func(i, j int) { first[i], first[j] = first[j], first[i] })
	draw := func() kind {
		n := r.IntN(total)
		for _, w := range weights {
			if n -= w.weight; n < 0 {
				return w.kind
			}
		}
		panic("the weights do not add up")
	}
	var plan []event
	for at := time.Duration(0); ; {
		at += time.Duration(r.ExpFloat64() * float64(meanGap))
		if at >= d {
			return plan
		}
		e := event{at: at, seed: r.Uint64(), lasts: leastLasting + time.Duration(r.Int64N(int64(mostLasting-leastLasting)))}
		if len(plan) < len(first) {
			e.kind = first[len(plan)]
		} else {
			e.kind = draw()
		}
		switch e.kind {
		case killInstance, stopInstance, stopTwice, freezeInstance, reloadInstance, reloadBroken:
			e.target = r.IntN(instances)
		case payerMisbehaves, payerGone, revokeTokens, cancelExport, pausePayer, runPayer:
			e.target = r.IntN(payers)
		case killBackend, crashPostgres, cutConnections, stallNetwork, lockTables:
		}
		plan = append(plan, e)
	}
}
