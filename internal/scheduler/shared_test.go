package scheduler

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/store"
)

func TestKICK8_payers_that_are_one_client_to_the_server_are_found(t *testing.T) {
	t.Parallel()
	payer := func(name, url, client, group string) config.Payer {
		return config.Payer{
			Name: name, FHIRURL: url, Enabled: true, Auth: config.Auth{ClientID: client},
			Export: config.Export{Level: "group", GroupID: group},
		}
	}
	off := payer("off", "https://a.example/r4", "c", "1")
	off.Enabled = false
	got := sharedClients([]config.Payer{
		payer("one", "https://a.example/r4", "c", "1"), payer("two", "https://a.example/r4/", "c", "1"),
		payer("other-group", "https://a.example/r4", "c", "2"), payer("other-client", "https://a.example/r4", "d", "1"),
		payer("other-server", "https://b.example/r4", "c", "1"), off,
	})
	if fmt.Sprint(got) != "[[one two]]" {
		t.Errorf("got %v, want one and two together", got)
	}
}

func TestKICK8_payers_that_are_one_client_to_the_server_take_turns(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := newPayer(t, func(c *config.Payer) { c.Auth.ClientID = "c" })
	var working atomic.Bool
	working.Store(true)
	p.onStatus = func(w http.ResponseWriter, n string) bool {
		if n == "1" && working.Load() {
			w.WriteHeader(http.StatusAccepted)
			return false
		}
		return true
	}
	p.onFile = onePatient
	other := &payer{Payer: p.Payer}
	other.Config.Name = "q"
	var err error
	if other.Client, err = export.New(export.Options{
		Payer: other.Config, Authorized: http.DefaultTransport, Plain: http.DefaultTransport,
	}); err != nil {
		t.Fatal(err)
	}
	e := newEngine(t, s, Options{}, p, other)
	first, err := e.Start(t.Context(), "p", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := e.Start(t.Context(), "q", RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	work(t, e)
	wait(t, "some polls", func() bool { return number(t, s, `SELECT polls FROM ingest.export WHERE id = $1`, first) >= 2 })
	if kickOffs, _ := p.seen(); len(kickOffs) != 1 {
		t.Errorf("%d exports were asked for at once", len(kickOffs))
	}
	if got := state(t, s, second); got != store.StateStarting {
		t.Errorf("the second export is %s", got)
	}
	working.Store(false)
	for _, id := range []int64{first, second} {
		wait(t, "the publish", func() bool { return state(t, s, id) == store.StatePublished })
	}
}
