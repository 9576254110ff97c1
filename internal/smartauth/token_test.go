package smartauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTOK3_every_form_of_expires_in_gives_a_sane_life(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value string
		life  time.Duration
		noted bool
	}{
		{`300`, 5 * time.Minute, false},
		{`"1200"`, 20 * time.Minute, false},
		{`" 1200 "`, 20 * time.Minute, false},
		{`299.9`, 299900 * time.Millisecond, false},
		{`"60.5"`, 60500 * time.Millisecond, false},
		{`1e3`, 1000 * time.Second, false},
		{`0.001`, time.Second, false},
		{``, lifeUnknown, true},
		{`null`, lifeUnknown, true},
		{`""`, lifeUnknown, true},
		{`"soon"`, lifeUnknown, true},
		{`{}`, lifeUnknown, true},
		{`[300]`, lifeUnknown, true},
		{`true`, lifeUnknown, true},
		{`"NaN"`, lifeUnknown, true},
		{`0`, lifeNone, true},
		{`-1`, lifeNone, true},
		{`"-Inf"`, lifeNone, true},
		{`1000000000`, lifeMax, true},
		{`"1e999"`, lifeMax, true},
		{`9223372036854775808000`, lifeMax, true},
	} {
		body := `{"access_token":"t","token_type":"BEARER"}`
		if test.value != "" {
			body = `{"access_token":"t","token_type":"BEARER","expires_in":` + test.value + `}`
		}
		got, err := parseTokenResponse([]byte(body))
		if err != nil {
			t.Errorf("expires_in %s: %v", test.value, err)
			continue
		}
		if got.life != test.life || (got.lifeNote != "") != test.noted {
			t.Errorf("expires_in %s: got %s (%q), want %s, noted: %t", test.value, got.life, got.lifeNote, test.life, test.noted)
		}
	}
}

func TestTOK3_a_token_without_life_is_neither_eternal_nor_fetched_for_every_request(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		source := newTestSource(t, newTestManager(t, ManagerOptions{}), Registration{
			Payer: "acme", FHIRURL: "https://fhir.example", TokenURL: "https://auth.example/token", ClientID: "c", Keys: []*Key{testKey()},
			Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
				requests++
				return answer(r, 200, fmt.Sprintf(`{"access_token":"t%d","expires_in":0}`, requests), nil), nil
			}),
		})
		end := time.Now().Add(time.Minute)
		for time.Now().Before(end) {
			mustToken(t, source)
			time.Sleep(50 * time.Millisecond)
		}
		if requests < 5 || requests > 8 {
			t.Errorf("requests in a minute: got %d, want one every ten seconds", requests)
		}
	})
}

func TestToken_is_over_by_either_clock(t *testing.T) {
	t.Parallel()
	now := time.Now()
	token := Token{Obtained: now, Expires: now.Add(time.Minute), value: newSecret("t"), serial: 1}
	if !token.live(now.Add(50 * time.Second)) {
		t.Error("not live ten seconds before its end")
	}
	if token.live(now.Add(59 * time.Second)) {
		t.Error("live a second before its end, when no request arrives in time")
	}
	slept := now.Round(0).Add(time.Hour) // the wall clock went on while the monotonic one stood still
	if token.live(slept) {
		t.Error("live after the machine slept for an hour")
	}
	if (Token{}).live(now) {
		t.Error("no token is live")
	}
}

func TestUSE2_a_token_is_renewed_between_80_and_90_percent_of_its_life(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, test := range []struct{ life, earliest, latest time.Duration }{
		{5 * time.Minute, 240 * time.Second, 270 * time.Second},
		{time.Hour, 48 * time.Minute, 54 * time.Minute},
		{time.Minute, 38 * time.Second, 40 * time.Second},
		{30 * time.Second, 19 * time.Second, 20 * time.Second},
		{lifeNone, lifeNone, lifeNone},
	} {
		for range 100 {
			got := refreshTime(Token{Obtained: now, Expires: now.Add(test.life)}).Sub(now)
			if got < test.earliest || got > test.latest {
				t.Errorf("life %s: renewed after %s, want between %s and %s", test.life, got, test.earliest, test.latest)
			}
		}
	}
}

// holder is how careless code meets a secret: deep in a struct, exported or not.
type holder struct {
	Token  Token
	token  Token
	Key    *Key
	key    *Key
	Reg    Registration
	secret secret
	list   []Token
	byName map[string]Token
}

func TestSecrets_redact_themselves_in_every_format(t *testing.T) {
	t.Parallel()
	const value = "very-secret-token-value"
	token := Token{value: newSecret(value), Expires: time.Now(), Scopes: []string{"system/Patient.read"}}
	key := testKey()
	pem, err := key.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	private, err := ParseKey("", "", pem)
	if err != nil {
		t.Fatal(err)
	}
	registration := Registration{Payer: "acme", ClientID: value, Keys: []*Key{private}, Headers: map[string]string{"X-Key": value}}
	h := holder{token, token, private, private, registration, token.value, []Token{token}, map[string]Token{"a": token}}
	scalar := fmt.Sprintf("%v", key.Signer()) // how the numbers of a key print, to see that they do not
	digits := strings.FieldsFunc(scalar, func(r rune) bool { return r < '0' || r > '9' })
	forbidden := []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%X", value)}
	for _, number := range digits {
		if len(number) > 30 {
			forbidden = append(forbidden, number)
		}
	}
	if len(forbidden) < 4 {
		t.Fatalf("the test knows no number of the key: %v", digits)
	}
	var outputs []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, subject := range []any{h, &h, token, &token, private, *private, registration, &registration, token.value, h.list, h.byName} {
			outputs = append(outputs, fmt.Sprintf(verb, subject))
		}
	}
	for _, subject := range []any{h, token, private, registration.Keys, h.list, token.value, map[string]any{"t": token}} {
		data, err := json.Marshal(subject)
		if err != nil {
			if strings.Contains(err.Error(), "func") { // Registration holds functions
				continue
			}
			t.Fatal(err)
		}
		outputs = append(outputs, string(data))
	}
	for _, newHandler := range []func(*bytes.Buffer) slog.Handler{
		func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
	} {
		var log bytes.Buffer
		logger := slog.New(newHandler(&log))
		logger.Info("x", "token", token, "key", private, "registration", registration, "holder", h, "list", h.list, "secret", token.value)
		outputs = append(outputs, log.String())
	}
	text, err := token.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for _, output := range append(outputs, string(text)) {
		for _, bad := range forbidden {
			if strings.Contains(output, bad) {
				t.Errorf("%q stands in %s", truncate(bad, 30), truncate(output, 400))
			}
		}
	}
}
