package scheduler

import (
	"fmt"
	"testing"

	"ingestd/internal/config"
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
