package smartauth

import (
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	// skewNoise is what a Date of whole seconds and a request's way make of two clocks that agree.
	skewNoise = 3 * time.Second
	// skewAlert is the difference that an operator is told of.
	skewAlert = time.Minute
	// skewMax is the difference that is corrected for; a Date beyond it is taken as nonsense.
	skewMax = 24 * time.Hour
)

// clockSkew is how far a server's clock is ahead of ours, by the Date of its answers.
type clockSkew struct {
	mu       sync.Mutex
	offset   time.Duration // what is corrected for
	own      bool          // an assertion dated by this machine's clock was accepted where one with the correction was not
	measured time.Duration // what was seen last, nonsense or not
}

// observe takes the Date of an answer to a request that was sent and answered at these times. It returns the offset that
// holds from now on, and whether it changed by more than noise.
func (c *clockSkew) observe(header http.Header, sent, received time.Time) (offset time.Duration, changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil || header.Get("Age") != "" { // an answer out of a cache tells when it was made
		return c.offset, false
	}
	middle := sent.Add(received.Sub(sent) / 2).Round(0)
	measured := date.Add(500 * time.Millisecond).Sub(middle)
	c.measured = measured
	noise := skewNoise + received.Sub(sent)/2
	if measured.Abs() > skewMax || (measured-c.offset).Abs() <= noise {
		return c.offset, false
	}
	if measured.Abs() <= noise {
		measured = 0
	}
	c.offset = measured
	return measured, !c.own
}

// now is the time by the server's clock, or by this machine's own.
func (c *clockSkew) now(own bool) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if own {
		return time.Now().Round(0)
	}
	return time.Now().Round(0).Add(c.offset)
}

// describeSkew tells an operator of a difference.
func describeSkew(skew time.Duration) string {
	if skew.Abs() <= skewNoise {
		return "the server's clock agrees with this machine's"
	}
	relation := "ahead of"
	if skew < 0 {
		relation = "behind"
	}
	return fmt.Sprintf("the server's clock is %s %s this machine's", skew.Abs().Round(time.Second), relation)
}

// choice says whether assertions are dated by this machine's clock, and whether the two clocks differ at all. The Date of an
// answer may be a gateway's, and the clock by which assertions are judged another.
func (c *clockSkew) choice() (own, differ bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.own, c.offset != 0
}

// choose notes by which clock an assertion was dated that was accepted where one by the other was not.
func (c *clockSkew) choose(own bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own = own
}

// seen is the last difference measured, and whether it is one to tell an operator of.
func (c *clockSkew) seen() (measured time.Duration, alert bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.measured, c.measured.Abs() > skewAlert
}
