package scheduler

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestQuieter_logs_what_the_job_engine_repeats_once_a_minute_and_how_often_it_came(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(newQuieter(slog.NewTextHandler(&out, nil))).With("engine", "river")
		for range 600 { // five minutes of an outage
			log.Error("producer: Error fetching jobs", "queue", "bulk")
			log.Info("producer: Job counts")
			time.Sleep(500 * time.Millisecond)
		}
		text := out.String()
		if n := strings.Count(text, "Error fetching jobs"); n != 5 {
			t.Errorf("%d lines in five minutes, want one a minute:\n%s", n, text)
		}
		if n := strings.Count(text, "repeated=119"); n != 4 {
			t.Errorf("%d lines tell of the 119 before them, want four:\n%s", n, text)
		}
		if strings.Contains(text, "Job counts") {
			t.Error("what the job engine says of itself is logged")
		}
		out.Reset()
		for range 3 {
			log.Error("jobexecutor.JobExecutor: Job panicked")
		}
		if n := strings.Count(out.String(), "panicked"); n != 3 {
			t.Errorf("%d of 3 jobs that panicked are told", n)
		}
	})
}
