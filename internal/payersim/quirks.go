package payersim

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// quirk is one way in which a real server differs from this one: it stands before the strict payer, and changes what is
// asked or what is answered.
type quirk func(s *Server, next http.Handler) http.Handler

// where tells the places of the protocol apart, by the request's path.
func where(r *http.Request) string {
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/$export"):
		return "kickoff"
	case strings.HasPrefix(path, statusPath):
		return "status"
	case strings.HasPrefix(path, filePath):
		return "file"
	}
	return ""
}

// held is an answer that is not sent yet, so that a quirk can change it. Files are never held.
type held struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (h *held) Header() http.Header { return h.header }

func (h *held) WriteHeader(status int) {
	if h.status == 0 {
		h.status = status
	}
}

func (h *held) Write(p []byte) (int, error) {
	h.WriteHeader(http.StatusOK)
	return h.body.Write(p)
}

// hold lets next answer into memory.
func hold(w http.ResponseWriter, r *http.Request, next http.Handler) *held {
	h := &held{header: w.Header()}
	next.ServeHTTP(h, r)
	return h
}

// send passes a held answer on.
func (h *held) send(w http.ResponseWriter) {
	if h.header.Get("Content-Length") != "" {
		h.header.Set("Content-Length", strconv.Itoa(h.body.Len()))
	}
	w.WriteHeader(max(h.status, http.StatusOK))
	_, _ = w.Write(h.body.Bytes()) // the client may be gone
}

// getOnly refuses a kick-off by POST, as most payers do.
func getOnly(s *Server, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if where(r) == "kickoff" && r.Method == http.MethodPost {
			s.methodNotAllowed(w, r, http.MethodGet)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// barePrefer refuses every preference but respond-async (DPC).
func barePrefer(s *Server, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if where(r) == "kickoff" && !slices.Equal(r.Header.Values("Prefer"), []string{"respond-async"}) {
			s.refuse(w, r, refusal{status: http.StatusBadRequest, code: "invalid", text: "the header Prefer must be respond-async"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// oneJob refuses a kick-off while the payer still has a job, finished or not, that nobody has deleted (CLN-2). retryAfter is
// sent as it stands; names lists the job's address in the refusal, as AB2D does (KICK-7).
func oneJob(retryAfter string, names bool) quirk {
	return func(s *Server, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if where(r) != "kickoff" {
				next.ServeHTTP(w, r)
				return
			}
			s.mu.Lock()
			var open []string
			for id := range s.jobs {
				open = append(open, s.origin(r)+statusPath+id)
			}
			s.mu.Unlock()
			if len(open) == 0 {
				next.ServeHTTP(w, r)
				return
			}
			if retryAfter != "" {
				w.Header().Set("Retry-After", retryAfter)
			}
			if names {
				w.Header().Set("Content-Location", strings.Join(open, ", "))
			}
			w.WriteHeader(http.StatusTooManyRequests)
		})
	}
}

// reusesJobs answers a kick-off that may come from a cache with the last job of the same request (HAPI).
func reusesJobs(s *Server, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if where(r) == "kickoff" && r.Header.Get("Cache-Control") != "no-cache" {
			s.mu.Lock()
			for id, j := range s.jobs {
				if j.request == s.origin(r)+r.URL.RequestURI() {
					s.mu.Unlock()
					w.Header().Set("Content-Location", s.origin(r)+statusPath+id)
					w.WriteHeader(http.StatusAccepted)
					return
				}
			}
			s.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

// answers changes the answers of one place; edit gets the decoded body where it is a JSON object, and returns it as it is to be
// sent.
func answers(place, method string, status int, edit func(h http.Header, body map[string]any) map[string]any) quirk {
	return func(_ *Server, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if where(r) != place || r.Method != method {
				next.ServeHTTP(w, r)
				return
			}
			answer := hold(w, r, next)
			if answer.status == status {
				var body map[string]any
				_ = json.Unmarshal(answer.body.Bytes(), &body) // nil where there is none
				if body = edit(answer.header, body); body != nil {
					text, err := json.Marshal(body)
					if err != nil {
						panic(err) // it was decoded from JSON
					}
					answer.body.Reset()
					answer.body.Write(text)
				}
			}
			answer.send(w)
		})
	}
}

// manifests changes the manifests that are sent.
func manifests(edit func(h http.Header, manifest map[string]any)) quirk {
	return answers("status", http.MethodGet, http.StatusOK, func(h http.Header, body map[string]any) map[string]any {
		edit(h, body)
		return body
	})
}

// eachFile calls edit with every file of a manifest.
func eachFile(manifest map[string]any, edit func(file map[string]any)) {
	for _, list := range []string{"output", "deleted", "error"} {
		files, _ := manifest[list].([]any)
		for _, file := range files {
			if object, ok := file.(map[string]any); ok {
				edit(object)
			}
		}
	}
}

// deleteStatus answers a DELETE that has worked with another status than 202.
func deleteStatus(status int) quirk {
	return func(_ *Server, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if where(r) != "status" || r.Method != http.MethodDelete {
				next.ServeHTTP(w, r)
				return
			}
			answer := hold(w, r, next)
			if answer.status == http.StatusAccepted {
				answer.status = status
			}
			answer.send(w)
		})
	}
}

// onlyNDJSON takes no other Accept for a file than application/ndjson (DPC, FILE-4).
func onlyNDJSON(s *Server, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if where(r) == "file" {
			if r.Header.Get("Accept") != "application/ndjson" {
				s.refuse(w, r, refusal{status: http.StatusNotAcceptable, code: "not-supported", text: "files are application/ndjson"})
				return
			}
			r.Header.Set("Accept", "application/fhir+ndjson")
		}
		next.ServeHTTP(w, r)
	})
}

// wrapsFiles sends a file as a Binary resource where it is not asked for as application/fhir+ndjson exactly (HAPI).
func wrapsFiles(_ *Server, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if where(r) != "file" || r.Header.Get("Accept") == "application/fhir+ndjson" {
			next.ServeHTTP(w, r)
			return
		}
		r.Header.Del("Accept-Encoding")
		answer := hold(w, r, next)
		if answer.status == http.StatusOK {
			data := base64.StdEncoding.EncodeToString(answer.body.Bytes())
			answer.body.Reset()
			answer.body.WriteString(`{"resourceType":"Binary","contentType":"application/fhir+ndjson","data":"` + data + `"}`)
			answer.header.Set("Content-Type", "application/fhir+json")
		}
		answer.send(w)
	})
}

// storagePath is where presigned files stand.
const storagePath = "/storage/"

// presigned redirects every file to storage at another origin, at an address that is good for itself and where a token must
// not be sent (Cerner, FILE-3).
func presigned(s *Server, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path, ok := strings.CutPrefix(r.URL.Path, storagePath); ok {
			if _, sent := r.Header["Authorization"]; sent || r.URL.Query().Get("signature") == "" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			s.mu.Lock()
			token, known := s.signed[r.URL.Query().Get("signature")]
			s.mu.Unlock()
			if !known {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			inner := r.Clone(r.Context())
			inner.URL.Path = "/" + path
			inner.Header.Set("Authorization", token)
			next.ServeHTTP(w, inner)
			return
		}
		if where(r) != "file" {
			next.ServeHTTP(w, r)
			return
		}
		if _, ok := s.authorize(w, r); !ok {
			return
		}
		signature := secret()
		s.mu.Lock()
		if s.signed == nil {
			s.signed = map[string]string{}
		}
		s.signed[signature] = r.Header.Get("Authorization")
		s.mu.Unlock()
		host := strings.Replace(r.Host, "127.0.0.1", "localhost", 1) // another origin, on the same listener
		w.Header().Set("Location", "http://"+host+storagePath+strings.TrimPrefix(r.URL.Path, "/")+"?signature="+signature)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
}

// closes ends the connection with every answer of one place (BCDA).
func closes(place string) quirk {
	return func(_ *Server, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if where(r) == place {
				w.Header().Set("Connection", "close")
			}
			next.ServeHTTP(w, r)
		})
	}
}

// ignoresRanges sends whole files in their compressed form whatever part is asked for, or a part of the wrong kind where it
// does not: the ranges of BCDA and DPC cannot be trusted (FILE-7).
func ignoresRanges(_ *Server, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if where(r) == "file" {
			r.Header.Del("Range")
		}
		next.ServeHTTP(w, r)
	})
}

// fileType sends files under another Content-Type.
func fileType(contentType string) quirk {
	return func(_ *Server, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if where(r) == "file" {
				w = &typedWriter{ResponseWriter: w, contentType: contentType}
			}
			next.ServeHTTP(w, r)
		})
	}
}

// typedWriter replaces the Content-Type of a good answer when it is begun.
type typedWriter struct {
	http.ResponseWriter

	contentType string
	begun       bool
}

func (t *typedWriter) WriteHeader(status int) {
	if !t.begun && status < 300 {
		t.Header().Set("Content-Type", t.contentType)
	}
	t.begun = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *typedWriter) Write(p []byte) (int, error) {
	if !t.begun {
		t.WriteHeader(http.StatusOK)
	}
	return t.ResponseWriter.Write(p)
}

// Unwrap lets a ResponseController reach the connection.
func (t *typedWriter) Unwrap() http.ResponseWriter { return t.ResponseWriter }
