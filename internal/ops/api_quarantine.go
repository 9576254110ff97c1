package ops

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"ingestd/internal/store"
)

// longTimeout is what a request may take that moves data.
const longTimeout = 10 * time.Minute

// removeRequest is the body of a request to remove a payer.
type removeRequest struct {
	Yes bool `json:"yes"`
}

// routeData registers the part of the API that is about what is stored.
func (s *Server) routeData(mux *http.ServeMux) {
	d := s.direct
	mux.Handle("GET /api/v1/quarantine", s.answer(http.StatusOK, func(ctx context.Context, r *http.Request) (any, error) {
		limit, err := limitOf(r)
		if err != nil {
			return nil, err
		}
		query := r.URL.Query()
		filter := store.QuarantineFilter{Payer: query.Get("payer"), Reason: query.Get("reason"), Loaded: query.Get("loaded") == "true"}
		if text := query.Get("export"); text != "" {
			if filter.ExportID, err = strconv.ParseInt(text, 10, 64); err != nil || filter.ExportID <= 0 {
				return nil, badRequest("export: expected the number of an export")
			}
		}
		return d.Quarantine(ctx, filter, limit)
	}))
	mux.Handle("GET /api/v1/quarantine/{id}", s.answer(http.StatusOK, func(ctx context.Context, r *http.Request) (any, error) {
		// Without a token, whoever is on the host could read what a payer sent.
		if s.options.Guard.Open() {
			return nil, &Problem{
				Code: "token_needed", Message: "what a line holds is PHI: it is told by a daemon with admin.token only", Status: http.StatusForbidden,
				Hint: "set admin.token, or run 'ingestd quarantine show' on the database",
			}
		}
		id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if err != nil || id <= 0 {
			return nil, badRequest("expected the number of a quarantined line in the path")
		}
		return d.QuarantinedRaw(ctx, id, s.actor(r))
	}))
	mux.Handle("GET /api/v1/exports/{id}/certificate", s.answer(http.StatusOK, func(ctx context.Context, r *http.Request) (any, error) {
		id, err := exportID(r)
		if err != nil {
			return nil, err
		}
		return d.Certificate(ctx, id)
	}))
	mux.Handle("POST /api/v1/exports/{id}/quarantine/retry", s.answerWithin(longTimeout, http.StatusOK,
		func(ctx context.Context, r *http.Request) (any, error) {
			id, err := exportID(r)
			if err == nil {
				err = decode(r, &struct{}{})
			}
			if err != nil {
				return nil, err
			}
			return d.RetryQuarantine(ctx, id, s.actor(r))
		}))
	mux.Handle("POST /api/v1/payers/{name}/remove", s.answerWithin(longTimeout, http.StatusOK,
		func(ctx context.Context, r *http.Request) (any, error) {
			var body removeRequest
			if err := decode(r, &body); err != nil {
				return nil, err
			}
			return d.RemovePayer(ctx, r.PathValue("name"), body.Yes, s.actor(r))
		}))
}
