package store_test

import (
	"encoding/json"
	"strings"
	"testing"

	"ingestd/internal/store"
)

func TestCertificate_balances_and_is_the_same_each_time(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	file := output("Patient", patient("secret-id", "", "1"), patient("secret-id", "", "2"), "secret: no JSON", patient("b", "", "1"))
	e := begin(t, s, store.NewExport{Types: []string{"Patient"}}, file)
	stage(t, s, e, file)
	if c, err := s.Certificate(t.Context(), e.ID); err != nil || c.Ledger.Balanced {
		t.Errorf("the certificate of an export that is not published is %+v, %v", c.Ledger, err)
	}
	if _, err := publish(t, s, e.ID, permissive); err != nil {
		t.Fatal(err)
	}
	first, err := s.Certificate(t.Context(), e.ID)
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Certificate(t.Context(), e.ID)
	if err != nil {
		t.Fatal(err)
	}
	want := store.CertifiedLedger{Lines: 4, Inserted: 2, Superseded: 1, Quarantined: 1, Balanced: true}
	if first.Ledger != want || len(first.Files) != 1 || first.Files[0].Lines != 4 || len(first.Files[0].LinesHash) != 64 {
		t.Errorf("got %+v", first)
	}
	if first.Digest != second.Digest || len(first.Digest) != 64 {
		t.Errorf("two prints have the digests %s and %s", first.Digest, second.Digest)
	}
	text, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "secret") || strings.Contains(string(text), "payer.example") {
		t.Errorf("the certificate tells more than figures: %s", text)
	}
	if _, err := s.Certificate(t.Context(), 999); err != store.ErrNoExport {
		t.Errorf("got %v for an export that is not there", err)
	}
}
