package config_test

import (
	"testing"
	"time"

	"ingestd/internal/config"
)

func TestParseWindow_takes_two_different_times_of_day(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"08:00-18:00": 10 * time.Hour, "22:30-06:00": 7*time.Hour + 30*time.Minute, "20:00-24:00": 4 * time.Hour, "00:00-00:01": time.Minute,
	} {
		w, err := config.ParseWindow(text)
		if err != nil || w.Length() != want {
			t.Errorf("%s: got %s, %v; want %s", text, w.Length(), err, want)
		}
	}
	for _, text := range []string{"", "8:00-18:00", "08:00", "08:00-08:00", "08:00-24:30", "24:00-08:00", "00:00-24:00", "08:60-09:00", "08:00 - 18:00"} {
		if w, err := config.ParseWindow(text); err == nil {
			t.Errorf("%q is taken as %v", text, w)
		}
	}
}

func TestWindow_holds_its_beginning_and_not_its_end(t *testing.T) {
	t.Parallel()
	for text, inside := range map[string]map[string]bool{
		"08:00-18:00": {"07h59m59s": false, "8h": true, "17h59m59s": true, "18h": false, "0h": false},
		"22:00-06:00": {"21h59m59s": false, "22h": true, "23h59m": true, "0h": true, "5h59m59s": true, "6h": false, "12h": false},
	} {
		w, err := config.ParseWindow(text)
		if err != nil {
			t.Fatal(err)
		}
		for at, want := range inside {
			d, err := time.ParseDuration(at)
			if err != nil {
				t.Fatal(err)
			}
			if got := w.Holds(d); got != want {
				t.Errorf("%s at %s: got %v", text, at, got)
			}
		}
	}
	if (config.Window{}).Holds(0) {
		t.Error("the window that is none holds midnight")
	}
}
