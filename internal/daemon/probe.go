package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"ingestd/internal/config"
	"ingestd/internal/export"
	"ingestd/internal/smartauth"
)

// parameters compares what the payer's definition of its export operation takes with what is configured. It says nothing where
// the payer has no definition of its own.
func parameters(ctx context.Context, client *export.Client, definition string, p config.Payer) []smartauth.Finding {
	if definition == "" {
		return nil
	}
	taken, err := client.ExportParameters(ctx, definition)
	if err != nil || len(taken) == 0 {
		return nil // what a server does not tell of its operation is no trouble
	}
	missing := slices.DeleteFunc(client.ParametersOf(p.Export.Since != "never"), func(name string) bool { return slices.Contains(taken, name) })
	if len(missing) == 0 {
		return []smartauth.Finding{{
			Check: "parameters", Level: smartauth.LevelOK, Detail: "the export operation takes " + strings.Join(taken, ", "),
		}}
	}
	return []smartauth.Finding{{
		Check: "parameters", Level: smartauth.LevelWarn,
		Detail: fmt.Sprintf("the export operation takes %s, and not %s", strings.Join(taken, ", "), strings.Join(missing, ", ")),
		Fix: "Ask the payer whether exports take them all the same; if not, take them out of the payer's export section, or set " +
			"export.handling to lenient for those that are optional.",
	}}
}

// probe looks whether the FHIR server takes the token that the token endpoint issued: another server, often of another
// team. It reads a resource that does not exist, once with the token and once without, which shows what a 404 is worth.
func probe(ctx context.Context, client *export.Client, p config.Payer) smartauth.Finding {
	finding := func(level smartauth.Level, detail, fix string) smartauth.Finding {
		return smartauth.Finding{Check: "probe", Level: level, Detail: detail, Fix: fix}
	}
	resourceType := "Patient"
	if len(p.Export.Types) > 0 && !slices.Contains(p.Export.Types, resourceType) {
		resourceType = p.Export.Types[0] // which the token covers
	}
	status, err := client.Probe(ctx, resourceType, true)
	if err != nil {
		fix := "Try again; if it stays so, ask the payer."
		if failure, ok := errors.AsType[*export.Error](err); ok && failure.Hint != "" {
			fix = sentence(failure.Hint)
		}
		return finding(smartauth.LevelFail, "the FHIR server cannot be asked: "+err.Error(), fix)
	}
	with := "authorization: none"
	if p.Auth.Method != "none" {
		with = "the token"
	}
	switch {
	case status == http.StatusUnauthorized:
		return finding(smartauth.LevelFail, "the FHIR server refuses "+with+" (HTTP 401)",
			"Ask the payer whether the client is enabled for this FHIR server; check auth.audience and auth.scopes, and that fhir_url is the "+
				"server that the token is for.")
	case status == http.StatusForbidden:
		return finding(smartauth.LevelWarn, "the FHIR server does not let "+with+" read "+resourceType+" (HTTP 403)",
			"Nothing, if exports work: some clients may export and not read. Otherwise check the granted scopes with the payer.")
	case status == http.StatusTooManyRequests || status >= 500:
		return finding(smartauth.LevelWarn, fmt.Sprintf("the FHIR server is not well, or busy (HTTP %d)", status), "Try again later.")
	case p.Auth.Method == "none":
		return finding(smartauth.LevelOK, fmt.Sprintf("the FHIR server answers without a token (HTTP %d)", status), "")
	}
	without, err := client.Probe(ctx, resourceType, false)
	if err == nil && (without == http.StatusUnauthorized || without == http.StatusForbidden) {
		return finding(smartauth.LevelOK, fmt.Sprintf("the FHIR server takes the token: HTTP %d with it, %d without", status, without), "")
	}
	return finding(smartauth.LevelOK,
		fmt.Sprintf("the FHIR server does not object to the token (HTTP %d); it has no reads to try it with", status), "")
}
