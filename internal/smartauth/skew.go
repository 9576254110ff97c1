package smartauth

import (
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
	return measured, true
}

// now is the time by the server's clock.
func (c *clockSkew) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Round(0).Add(c.offset)
}

// seen is the last difference measured, and whether it is one to tell an operator of.
func (c *clockSkew) seen() (measured time.Duration, alert bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.measured, c.measured.Abs() > skewAlert
}
