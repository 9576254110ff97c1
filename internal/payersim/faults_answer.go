package payersim

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Answer is what a request gets that is correct, instead of what it deserves. Without any field but After and Times it is an
// empty 200.
type Answer struct {
	// After is how many requests of the kind get a good answer first.
	After int `yaml:"after"`
	// Times is how often it is given; 0 is once, negative for ever.
	Times int `yaml:"times"`
	// Status is the HTTP status, 200 without.
	Status int `yaml:"status"`
	// Headers are added as they stand: Retry-After, Location, Content-Type (default application/json).
	Headers map[string]string `yaml:"headers"`
	// Body is sent as it stands.
	Body string `yaml:"body"`
	// Padding is how many bytes of white space follow the body.
	Padding int64 `yaml:"padding"`
	// Silence is how long nothing is sent, not even the status.
	Silence time.Duration `yaml:"silence"`
	// Reset breaks the connection instead of an answer: "unread" does nothing before, "granted" does what was asked first, so
	// that its answer is lost.
	Reset string `yaml:"reset"`
}

func checkAnswers(name string, answers []Answer) error {
	var errs []error
	for i, answer := range answers {
		if !slices.Contains([]string{"", "unread", "granted"}, answer.Reset) {
			errs = append(errs, fmt.Errorf("payersim: fault %s[%d].reset must be unread or granted, not %q", name, i, answer.Reset))
		}
		if answer.After < 0 || answer.Padding < 0 || answer.Silence < 0 {
			errs = append(errs, fmt.Errorf("payersim: fault %s[%d] must not be negative", name, i))
		}
		errs = append(errs, checkStatus(fmt.Sprintf("%s[%d].status", name, i), answer.Status))
	}
	return errors.Join(errs...)
}

// badAnswer is the next of the bad answers whose turns are not over, nil for a good one. name tells the lists apart.
func (s *Server) badAnswer(name string, answers []Answer) *Answer {
	for i := range answers {
		answer, key := &answers[i], name+"["+strconv.Itoa(i)+"]"
		if s.plan().strike(key+".after", answer.After) {
			return nil
		}
		if answer.Times < 0 {
			s.count.faults.Add(1)
			return answer
		}
		if s.strike(key, max(answer.Times, 1)) {
			return answer
		}
	}
	return nil
}

// misanswer gives a bad answer to a good request; grant does what was asked.
func (s *Server) misanswer(w http.ResponseWriter, r *http.Request, answer *Answer, grant func()) {
	if answer.Silence > 0 {
		select {
		case <-time.After(answer.Silence):
		case <-r.Context().Done():
			return
		}
	}
	if answer.Reset != "" {
		if answer.Reset == "granted" {
			grant()
		}
		reset(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	for name, value := range answer.Headers {
		w.Header().Set(name, value)
	}
	status := answer.Status
	if status == 0 {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(answer.Body)) // the client may be gone
	space := []byte(strings.Repeat(" ", 64<<10))
	for left := answer.Padding; left > 0; left -= int64(len(space)) {
		if _, err := w.Write(space[:min(left, int64(len(space)))]); err != nil {
			return
		}
	}
}

// reset breaks the connection of a request, as a firewall does.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 ends the stream alone
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // so that closing sends RST
	}
	_ = conn.Close()
}
