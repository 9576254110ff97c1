package config

import (
	"errors"
	"regexp"
	"strconv"
	"time"
)

// Window is a time of each day, by the clock on the wall: from From, up to and without To, both as the time since
// midnight. One whose To is not later than its From goes past midnight. The zero Window is none.
type Window struct{ From, To time.Duration }

var windowText = regexp.MustCompile(`^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)$`)

// ParseWindow reads a window that is written as HH:MM-HH:MM; 24:00 is the end of the day.
func ParseWindow(text string) (Window, error) {
	m := windowText.FindStringSubmatch(text)
	if m == nil || m[3] == "24" && m[4] != "00" {
		return Window{}, errors.New("expected two times of day such as 08:00-18:00")
	}
	var parts [4]int
	for i := range parts {
		parts[i], _ = strconv.Atoi(m[i+1]) // two digits
	}
	at := func(hour, minute int) time.Duration { return time.Duration(60*hour+minute) * time.Minute }
	w := Window{at(parts[0], parts[1]), at(parts[2], parts[3]) % (24 * time.Hour)}
	if w.From == w.To {
		return Window{}, errors.New("expected two different times of day, such as 08:00-18:00")
	}
	return w, nil
}

// Holds reports whether a time of day lies in the window.
func (w Window) Holds(sinceMidnight time.Duration) bool {
	if w.From < w.To {
		return w.From <= sinceMidnight && sinceMidnight < w.To
	}
	return w.From != w.To && (sinceMidnight >= w.From || sinceMidnight < w.To)
}

// Length is how long the window is on a day without a change of clocks.
func (w Window) Length() time.Duration {
	if w.To < w.From {
		return w.To + 24*time.Hour - w.From
	}
	return w.To - w.From
}
