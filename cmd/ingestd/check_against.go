package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/ops"
)

const (
	// againstTimeout bounds what the daemon's answer may take.
	againstTimeout = 15 * time.Second
	// againstBytes bounds the answer: far more than 500 payers need.
	againstBytes = 64 << 20
)

// checkAgainst tells how a configuration differs from the one that a daemon uses.
func checkAgainst(cmd *cobra.Command, c *config.Config, address string, token config.Secret, output string) error {
	if output != "text" && output != "json" {
		return usageError{fmt.Errorf("--output %q: expected text or json", output)}
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.User != nil {
		return usageError{errors.New("--against: expected the admin URL of a daemon, such as http://127.0.0.1:8090")}
	}
	if token == "" {
		token = c.Admin.Token
	}
	used, err := askConfig(cmd.Context(), u.JoinPath("api/v1/config").String(), token)
	if err != nil {
		return fmt.Errorf("ask the daemon at %s for its configuration: %w", u.Host, err)
	}
	mine := c.Effective()
	differences := config.Compare(used.Effective, mine)
	if output == "json" {
		err = printJSON(cmd.OutOrStdout(), append([]config.Difference{}, differences...))
	} else {
		err = printDifferences(cmd.OutOrStdout(), differences, mine.Digest, used)
	}
	if err == nil && len(differences) > 0 {
		return exitError(exitFailed)
	}
	return err
}

func askConfig(ctx context.Context, address string, reference config.Secret) (ops.Configured, error) {
	var used ops.Configured
	ctx, cancel := context.WithTimeout(ctx, againstTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return used, fmt.Errorf("prepare the request: %w", err)
	}
	if reference != "" {
		token, err := daemon.NewSecrets(nil).Resolve(ctx, reference)
		if err != nil {
			return used, fmt.Errorf("the admin token: %w", err)
		}
		request.Header.Set("Authorization", "Bearer "+string(token))
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return used, fmt.Errorf("send the request: %w", err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return used, errors.New("it refuses the admin token (HTTP 401): expected admin.token to be that of the daemon, or --token")
	case http.StatusNotFound:
		return used, errors.New("it does not tell its configuration (HTTP 404): expected the admin listener of an ingestd that can be reloaded")
	default:
		return used, fmt.Errorf("it answers HTTP %d", response.StatusCode)
	}
	decoder := json.NewDecoder(io.LimitReader(response.Body, againstBytes))
	decoder.UseNumber()
	if err := decoder.Decode(&used); err != nil || used.Config == nil {
		return used, errors.New("its answer is not a configuration")
	}
	return used, nil
}

// printDifferences writes a line a key, the payers' keys beneath the payers. It is read as what would change: from what the
// daemon uses to what the file says.
func printDifferences(out io.Writer, differences []config.Difference, digest string, used ops.Configured) error {
	var b strings.Builder
	heading := ""
	for _, d := range differences {
		switch {
		case d.NeedsRestart():
			fmt.Fprintf(&b, "%s (after a restart)\n", printable(d.String()))
			continue
		case d.Payer == "":
			fmt.Fprintf(&b, "%s\n", printable(d.String()))
			continue
		case d.Key == "" && d.Change == config.Added:
			fmt.Fprintf(&b, "payer %s: added, %s\n", printable(d.Payer), printable(d.To))
			continue
		case d.Key == "":
			fmt.Fprintf(&b, "payer %s: removed, was %s\n", printable(d.Payer), printable(d.From))
			continue
		case heading != d.Payer:
			heading = d.Payer
			fmt.Fprintf(&b, "payer %s:\n", printable(d.Payer))
		}
		fmt.Fprintf(&b, "  %s\n", printable(d.String()))
	}
	if len(differences) == 0 {
		fmt.Fprintf(&b, "no difference: the daemon uses this configuration since %s (digest %s)\n",
			used.LoadedAt.UTC().Format(time.RFC3339), used.Digest)
	} else {
		fmt.Fprintf(&b, "\n%s from what the daemon uses since %s (digest %s, here %s)\n", count(len(differences), "difference"),
			used.LoadedAt.UTC().Format(time.RFC3339), used.Digest, digest)
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("print the differences: %w", err)
	}
	return nil
}
