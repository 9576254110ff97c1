package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"ingestd/internal/fhir"
	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

const (
	// maxBody bounds the body of a request to the API.
	maxBody = 16 << 10
	// apiTimeout bounds what a request waits for the database.
	apiTimeout = 20 * time.Second
	// maxConnections bounds those to the admin listener: what callers hold open is taken from what payers and Postgres need.
	maxConnections = 256

	defaultLimit = 20
	maxLimit     = 1000

	// OperatorHeader carries what the caller of the API calls itself, for the audit.
	OperatorHeader = "Ingestd-Operator"
	maxOperator    = 100
)

// exportRef names an export in an answer of the API.
type exportRef struct {
	ExportID int64 `json:"export_id"`
}

// startRequest is the body of a request for an export.
type startRequest struct {
	Payer string `json:"payer"`
	Full  bool   `json:"full"`
	Since string `json:"since"`
}

// payersRef names payers in an answer of the API.
type payersRef struct {
	Payers []string `json:"payers"`
}

// routeAPI registers the API.
func (s *Server) routeAPI(mux *http.ServeMux) {
	d := s.direct
	handle := func(pattern string, status int, f func(ctx context.Context, r *http.Request) (any, error)) {
		mux.Handle(pattern, s.answer(status, f))
	}
	handle("GET /api/v1/payers", http.StatusOK, func(ctx context.Context, _ *http.Request) (any, error) { return d.Status(ctx) })
	handle("GET /api/v1/instances", http.StatusOK, func(ctx context.Context, _ *http.Request) (any, error) { return d.Instances(ctx) })
	mux.HandleFunc("GET /api/v1/config", s.config)
	handle("GET /api/v1/exports", http.StatusOK, func(ctx context.Context, r *http.Request) (any, error) {
		limit, err := limitOf(r)
		if err != nil {
			return nil, err
		}
		query := r.URL.Query()
		return d.Exports(ctx, ExportFilter{Payer: query.Get("payer"), State: store.State(query.Get("state")), Limit: limit})
	})
	handle("GET /api/v1/exports/{id}", http.StatusOK, func(ctx context.Context, r *http.Request) (any, error) {
		id, err := exportID(r)
		if err != nil {
			return nil, err
		}
		return d.Export(ctx, id)
	})
	handle("GET /api/v1/audit", http.StatusOK, s.audit)
	handle("POST /api/v1/exports", http.StatusCreated, func(ctx context.Context, r *http.Request) (any, error) {
		var body startRequest
		if err := decode(r, &body); err != nil {
			return nil, err
		}
		if body.Payer == "" || body.Full && body.Since != "" {
			return nil, badRequest("expected payer, and full or since or neither")
		}
		o := scheduler.RunOptions{Full: body.Full, By: s.actor(r)}
		var err error
		if o.Since, err = instant("since", body.Since); err != nil {
			return nil, err
		}
		id, err := d.Start(ctx, body.Payer, o)
		return exportRef{id}, err
	})
	for name, decide := range map[string]func(context.Context, int64, store.Actor) error{
		"cancel": d.Cancel, "release": d.Release, "reject": d.Reject,
	} {
		handle("POST /api/v1/exports/{id}/"+name, http.StatusOK, func(ctx context.Context, r *http.Request) (any, error) {
			id, err := exportID(r)
			if err == nil {
				err = decode(r, &struct{}{})
			}
			if err != nil {
				return nil, err
			}
			return exportRef{id}, decide(ctx, id, s.actor(r))
		})
	}
	handle("POST /api/v1/exports/{id}/retry", http.StatusCreated, func(ctx context.Context, r *http.Request) (any, error) {
		id, err := exportID(r)
		if err == nil {
			err = decode(r, &struct{}{})
		}
		if err != nil {
			return nil, err
		}
		retried, err := d.Retry(ctx, id, s.actor(r))
		return exportRef{retried}, err
	})
	for name, act := range map[string]func(context.Context, string, store.Actor) ([]string, error){
		"pause": d.Pause, "resume": d.Resume,
	} {
		f := func(ctx context.Context, r *http.Request) (any, error) {
			if err := decode(r, &struct{}{}); err != nil {
				return nil, err
			}
			payers, err := act(ctx, r.PathValue("name"), s.actor(r)) // none: all
			return payersRef{payers}, err
		}
		handle("POST /api/v1/payers/{name}/"+name, http.StatusOK, f)
		handle("POST /api/v1/"+name, http.StatusOK, f)
	}
	s.routeData(mux)
}

// audit answers what the audit tells of a time, an action or an object.
func (s *Server) audit(ctx context.Context, r *http.Request) (any, error) {
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	query := r.URL.Query()
	filter := store.AuditFilter{Action: query.Get("action"), Object: query.Get("object")}
	if filter.Since, err = instant("since", query.Get("since")); err != nil {
		return nil, err
	}
	if filter.Until, err = instant("until", query.Get("until")); err != nil {
		return nil, err
	}
	if text := query.Get("all"); text != "" {
		if filter.All, err = strconv.ParseBool(text); err != nil {
			return nil, badRequest("all: expected true or false")
		}
	}
	if text := query.Get("after"); text != "" {
		filter.OldestFirst = true
		if filter.After, err = strconv.ParseInt(text, 10, 64); err != nil || filter.After < 0 {
			return nil, badRequest("after: expected the number of an event, or 0 for the first")
		}
	}
	return s.direct.Audit(ctx, filter, limit)
}

// answer makes a handler of what answers a request with a value or an error.
func (s *Server) answer(status int, f func(ctx context.Context, r *http.Request) (any, error)) http.Handler {
	return s.answerWithin(apiTimeout, status, f)
}

// answerWithin is answer of what may take longer than other requests.
func (s *Server) answerWithin(timeout time.Duration, status int, f func(ctx context.Context, r *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		if timeout > apiTimeout {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(timeout + apiTimeout)) // a recorder of tests has none
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		value, err := f(ctx, r)
		if err == nil {
			writeJSON(w, status, value)
			return
		}
		p := Explain(err)
		if p.Status >= http.StatusInternalServerError && p.Code != "schema" {
			s.options.Logger.WarnContext(ctx, "admin API: a request failed", "method", r.Method, "route", r.Pattern, "error", err)
			p = &Problem{Code: p.Code, Message: "the request failed: the daemon's log says why", Status: p.Status}
			if p.Code == "database" && store.SQLState(err) == "" {
				p.Message = "the database does not answer"
			}
		}
		writeJSON(w, p.Status, p)
	})
}

// actor is who asks: by their own word, as far as it can be printed, and by their address.
func (s *Server) actor(r *http.Request) store.Actor {
	by := store.Actor{Name: fhir.Printable(r.Header.Get(OperatorHeader), maxOperator), Source: store.SourceAPI, Host: s.options.Host}
	if by.Name == "" {
		by.Name = "a caller of the API"
	}
	by.RemoteAddress, _, _ = net.SplitHostPort(r.RemoteAddr)
	return by
}

func badRequest(format string, args ...any) error {
	return &Problem{Code: CodeBadRequest, Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}

func exportID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id <= 0 {
		return 0, badRequest("expected the number of an export in the path")
	}
	return id, nil
}

func limitOf(r *http.Request) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return defaultLimit, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxLimit {
		return 0, badRequest("limit: expected a number from 1 to %d", maxLimit)
	}
	return limit, nil
}

func instant(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return at, badRequest("%s: expected an instant such as 2026-01-31T00:00:00Z", name)
	}
	return at, nil
}

// decode reads the JSON body of a request: one object without unknown members; none stands for an empty one.
func decode(r *http.Request, body any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(body)
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			err = more
			if err == nil {
				err = errors.New("more than one value")
			}
		}
	}
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &tooLarge):
		return &Problem{
			Code: "too_large", Message: fmt.Sprintf("the body is larger than %d bytes", maxBody), Status: http.StatusRequestEntityTooLarge,
		}
	}
	return badRequest("the body is not the JSON object that is expected here")
}
