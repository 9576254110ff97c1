package demo

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// types are what the demo asks for.
var types = []string{"Coverage", "ExplanationOfBenefit", "Organization", "Patient", "Practitioner"}

// configure writes the configuration that an operator would write.
func (d *demo) configure(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	d.admin = listener.Addr().String()
	_ = listener.Close() // the daemon takes the port over

	var b strings.Builder
	fmt.Fprintf(&b, `# Written by ingestd demo.
database:
  url: %q
admin:
  listen: %q

keys:
`, "embedded:"+filepath.Join(d.Dir, "postgres"), d.admin)
	for _, p := range d.payers {
		fmt.Fprintf(&b, "  - {id: %s, private_key: %q, algorithm: %s}\n", p.keyID(), "file:"+p.keyFile(d.Dir), p.algorithm)
	}
	fmt.Fprintf(&b, `
defaults:
  schedule: "@every %s"
  limits: {poll_min: 1s, downloads: 2}
  export: {types: [%s]}

payers:
`, d.Interval, strings.Join(types, ", "))
	for _, p := range d.payers {
		fmt.Fprintf(&b, "  - name: %s\n    fhir_url: %s\n    auth: {client_id: %s, key: %s", p.name, p.url, p.clientID(), p.keyID())
		if p.kid != "" {
			fmt.Fprintf(&b, ", kid: %s", p.kid)
		}
		fmt.Fprintf(&b, "}\n    export: {level: %s", p.level)
		if p.groupID != "" {
			fmt.Fprintf(&b, ", group_id: %q", p.groupID)
		}
		b.WriteString("}\n")
	}
	if err := os.WriteFile(d.config, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}
