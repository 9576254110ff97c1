package payersim

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v4"
)

// Stats are what the payer has seen and done since its start.
type Stats struct {
	// TokensIssued is the number of access tokens handed out.
	TokensIssued int64 `json:"tokens_issued"`
	// TokensRefused is the number of token requests that were answered with an error.
	TokensRefused int64 `json:"tokens_refused"`
	// JTIs is the number of assertions used up.
	JTIs int64 `json:"jtis"`
	// Unauthorized is the number of 401 answers.
	Unauthorized int64 `json:"unauthorized"`
	// KickOffs is the number of exports accepted.
	KickOffs int64 `json:"kickoffs"`
	// Polls is the number of status requests with a valid token, EarlyPolls how many of them were answered 429.
	Polls      int64 `json:"polls"`
	EarlyPolls int64 `json:"early_polls"`
	// Files is the number of downloads begun, FileBytes the body bytes sent for them (compressed where they were).
	Files     int64 `json:"files"`
	FileBytes int64 `json:"file_bytes"`
	// Deletes is the number of jobs that clients deleted, OpenJobs the number they did not.
	Deletes  int64 `json:"deletes"`
	OpenJobs int64 `json:"open_jobs"`
	// Faults is how many times a fault has struck (cuts, failures, revoked tokens).
	Faults int64 `json:"faults"`
	// Round is the newest round of the data, ExportRound the one that the last export showed.
	Round       int `json:"round"`
	ExportRound int `json:"export_round"`
}

// Stats returns the counters as they stand.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	jtis, jobs, shown := len(s.used), len(s.jobs), s.shown
	s.mu.Unlock()
	c := &s.count
	return Stats{
		TokensIssued: c.tokens.Load(), TokensRefused: c.tokenRefusals.Load(), JTIs: int64(jtis),
		Unauthorized: c.unauthorized.Load(), KickOffs: c.kickOffs.Load(), Polls: c.polls.Load(),
		EarlyPolls: c.earlyPolls.Load(), Files: c.files.Load(), FileBytes: c.fileBytes.Load(),
		Deletes: c.deletes.Load(), OpenJobs: int64(jobs), Faults: c.faults.Load(),
		Round: s.source.round(), ExportRound: shown,
	}
}

// Round is the round that the last export showed; 0 before the second export.
func (s *Server) Round() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown
}

// Advance starts the next round without an export and returns its number. The next export starts one more.
func (s *Server) Advance() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.source.advance(s.tick())
}

// Truth calls yield with every resource that the payer held in the round of the last export, as the raw line without
// its newline, until yield returns false. Lines of a data folder come with their repetitions, in the order of the
// export. The line is valid until yield returns. Injected bad lines are not part of the truth.
func (s *Server) Truth(yield func(resourceType, id string, line []byte) bool) error {
	return s.TruthAt(context.Background(), s.Round(), s.source.types(), yield)
}

// TruthAt is [Server.Truth] for any round up to the newest and for chosen types.
func (s *Server) TruthAt(
	ctx context.Context, round int, types []string, yield func(resourceType, id string, line []byte) bool,
) error {
	if round < 0 || round > s.source.round() {
		return fmt.Errorf("payersim: there is no round %d yet", round)
	}
	for _, resourceType := range types {
		pieces, err := s.source.plan(ctx, selection{resourceType: resourceType, round: round}, 1<<62)
		if err != nil {
			return err
		}
		for _, p := range pieces {
			goOn := true
			err := s.source.write(ctx, p, func(line []byte) bool {
				line = line[:len(line)-1]
				goOn = yield(resourceType, s.source.identify(line), line)
				return goOn
			})
			if err != nil || !goOn {
				return err
			}
		}
	}
	return nil
}

// serveTruth answers GET /_sim/truth[?type=Patient][&round=N] with NDJSON.
func (s *Server) serveTruth(w http.ResponseWriter, r *http.Request) {
	round, types := s.Round(), s.source.types()
	query := r.URL.Query()
	if text := query.Get("round"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > s.source.round() {
			http.Error(w, "there is no such round", http.StatusBadRequest)
			return
		}
		round = n
	}
	if chosen, ok := query["type"]; ok {
		for _, resourceType := range chosen {
			if !slices.Contains(types, resourceType) {
				http.Error(w, "this payer does not hold that type", http.StatusBadRequest)
				return
			}
		}
		types = chosen
	}
	w.Header().Set("Content-Type", "application/fhir+ndjson")
	w.Header().Set("X-Sim-Round", strconv.Itoa(round))
	buffered := bufio.NewWriterSize(w, 64<<10)
	var failed error
	err := s.TruthAt(r.Context(), round, types, func(_, _ string, line []byte) bool {
		if _, failed = buffered.Write(line); failed == nil {
			failed = buffered.WriteByte('\n')
		}
		return failed == nil
	})
	if err != nil || failed != nil || buffered.Flush() != nil {
		panic(http.ErrAbortHandler)
	}
}

const maxFaultsBytes = 1 << 20

// serveFaults answers GET /_sim/faults with the fault plan in force, as YAML.
func (s *Server) serveFaults(w http.ResponseWriter, _ *http.Request) {
	text, err := yaml.Dump(s.plan().Faults)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeBody(w, http.StatusOK, "application/yaml", text)
}

// replaceFaults answers PUT /_sim/faults: the body, YAML or JSON with the keys of a fault file, takes the plan's place, and what
// it counts starts at zero. What makes no sense is refused, and changes nothing.
func (s *Server) replaceFaults(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFaultsBytes))
	if err != nil {
		http.Error(w, "the faults cannot be read", http.StatusBadRequest)
		return
	}
	faults := Faults{}
	if len(bytes.TrimSpace(text)) > 0 { // nothing: no faults
		faults, err = parseFaults(text)
	}
	if err == nil {
		err = s.SetFaults(faults)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// serveStats answers GET /_sim/stats.
func (s *Server) serveStats(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.Stats())
}

// serveAdvance answers POST /_sim/advance.
func (s *Server) serveAdvance(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"round": s.Advance()})
}
