package smartauth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// flakyPayer is an authorization server and a FHIR server in memory: a wire for virtual time. A share of token requests
// fails in the ways that networks and servers have.
type flakyPayer struct {
	mu       sync.Mutex
	random   *rand.Rand
	failing  float64
	life     time.Duration
	jtis     map[string]bool
	tokens   map[string]time.Time // by value: when its life ends
	requests int
	failed   int
	issued   int
	refused  int // requests to the FHIR server with a token that was over
	reused   int // assertions seen twice
}

func (p *flakyPayer) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/token") {
		return p.token(r)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	value := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !time.Now().Before(p.tokens[value]) {
		p.refused++
		return answer(r, http.StatusUnauthorized, "", nil), nil
	}
	return answer(r, http.StatusOK, "", nil), nil
}

func (p *flakyPayer) token(r *http.Request) (*http.Response, error) {
	if r.GetBody != nil {
		return nil, errors.New("the request could be sent again by a layer below")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read the form: %w", err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, fmt.Errorf("parse the form: %w", err)
	}
	fault := p.take(form)
	select { // the way there and back
	case <-time.After(80 * time.Millisecond):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	switch fault {
	case 0:
		return answer(r, http.StatusInternalServerError, "<html>oops</html>", nil), nil
	case 1:
		return answer(r, http.StatusTooManyRequests, "", http.Header{"Retry-After": {"2"}}), nil
	case 2: // hangs
		<-r.Context().Done()
		return nil, r.Context().Err()
	case 3: // the connection is reset after the request was read
		return nil, errors.New("connection reset by peer")
	}
	return answer(r, http.StatusOK, p.issue(), nil), nil
}

// take notes the assertion and decides what happens to the request: a fault, or -1 for none.
func (p *flakyPayer) take(form url.Values) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests++
	jti := jtiOf(form.Get("client_assertion"))
	if jti == "" || p.jtis[jti] {
		p.reused++
	}
	p.jtis[jti] = true
	if p.random.Float64() >= p.failing {
		return -1
	}
	p.failed++
	return p.random.IntN(4)
}

func (p *flakyPayer) issue() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.issued++
	value := fmt.Sprintf("token-%d", p.issued)
	p.tokens[value] = time.Now().Add(p.life)
	return fmt.Sprintf(`{"access_token": %q, "token_type": "bearer", "expires_in": %d}`, value, int(p.life.Seconds()))
}

func jtiOf(assertion string) string {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Jti string `json:"jti"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return ""
	}
	return claims.Jti
}

func answer(r *http.Request, status int, body string, header http.Header) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: r}
}

func TestManager_serves_200_callers_for_30_days_over_an_endpoint_that_fails_30_percent_of_the_time(t *testing.T) {
	t.Parallel()
	days := 30
	switch {
	case testing.Short():
		days = 1
	case raceEnabled:
		days = 3
	}
	key, err := GenerateKey("ES256", "")
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %d days", seed, days)
	synctest.Test(t, func(t *testing.T) {
		const clients, callersPerClient = 20, 10
		period := time.Duration(days) * 24 * time.Hour
		server := &flakyPayer{
			random: rand.New(rand.NewPCG(seed, 1)), failing: 0.3, life: 5 * time.Minute,
			jtis: make(map[string]bool), tokens: make(map[string]time.Time),
		}
		m := NewManager(ManagerOptions{})
		end := time.Now().Add(period)
		var group sync.WaitGroup
		for client := range clients {
			source := newTestSource(t, m, Registration{
				Payer: fmt.Sprintf("payer%d", client), FHIRURL: "https://fhir.example.org/r4", TokenURL: "https://auth.example.org/token",
				ClientID: fmt.Sprintf("client-%d", client), Keys: []*Key{key}, Types: []string{"Patient"}, Transport: server,
			})
			wire := source.Transport(server, TransportOptions{})
			for caller := range callersPerClient {
				random := rand.New(rand.NewPCG(seed, uint64(client*callersPerClient+caller+2)))
				group.Go(func() {
					for time.Now().Before(end) {
						request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://fhir.example.org/r4/status", http.NoBody)
						if err != nil {
							t.Error(err)
							return
						}
						response, err := wire.RoundTrip(request)
						if err != nil {
							t.Errorf("a caller of client %d got an error: %v", client, err)
							return
						}
						if response.StatusCode != http.StatusOK {
							t.Errorf("a caller of client %d got HTTP %d", client, response.StatusCode)
							return
						}
						time.Sleep(time.Duration(random.Int64N(int64(15 * time.Minute))))
					}
				})
			}
		}
		group.Wait()
		m.Close()

		server.mu.Lock()
		defer server.mu.Unlock()
		least := float64(clients) * period.Seconds() / server.life.Seconds()
		leastRequests := least / (1 - server.failing)
		t.Logf("issued %d (least %.0f: ×%.3f), requests %d (least %.0f: ×%.3f), failed %d, refused %d", server.issued, least,
			float64(server.issued)/least, server.requests, leastRequests, float64(server.requests)/leastRequests, server.failed, server.refused)
		if server.reused != 0 {
			t.Errorf("%d assertions had a jti that was seen before, or none", server.reused)
		}
		if server.refused != 0 {
			t.Errorf("%d requests were sent with a token that was over", server.refused)
		}
		if got := float64(server.issued) / least; got > 1.2 {
			t.Errorf("tokens issued: got ×%.3f of the least possible, want at most ×1.2", got)
		}
		if got := float64(server.requests) / leastRequests; got > 1.2 {
			t.Errorf("token requests: got ×%.3f of the least possible, want at most ×1.2", got)
		}
	})
}
