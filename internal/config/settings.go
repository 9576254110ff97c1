package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v4"
)

// The values of reload.removed_payers.
const (
	RemovedFinish = "finish"
	RemovedCancel = "cancel"
)

// Settings writes the payer's effective settings as JSON, by the keys of the file, for ReadSettings. They hold no secret:
// references stand as they were written, and the values of request headers not at all.
func (p Payer) Settings() ([]byte, error) {
	data, err := json.Marshal(p.tree())
	if err != nil {
		return nil, fmt.Errorf("write the settings of %s: %w", p.Name, err)
	}
	return data, nil
}

// ReadSettings reads what Settings wrote, perhaps that of another version: what is missing is built in, and keys that are
// not known here are passed over. The payer has no request headers.
func ReadSettings(data []byte) (Payer, error) {
	var document yaml.Node // JSON is YAML
	if err := yaml.Unmarshal(data, &document); err != nil || len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return Payer{}, errors.New("read the settings of a payer: expected a JSON object")
	}
	p := builtInPayer()
	d := &decoder{source: newSource("settings")}
	d.decode(document.Content[0], reflect.ValueOf(&p).Elem(), "")
	if p.Name == "" || p.FHIRURL == "" {
		return Payer{}, errors.New("read the settings of a payer: expected its name and its fhir_url")
	}
	p.Export.Headers = nil
	return p, nil
}

// Pinned returns the settings under which an export goes on that began with these: what decides which data it holds, and
// what becomes of them, is as it was. What it takes to get at them follows the payer's current settings, nil where the
// payer is no longer configured: where files and secrets lie, the credentials of the same client, request headers, and how
// hard the payer may be asked.
func (p Payer) Pinned(current *Payer) Payer {
	if current == nil {
		return p
	}
	p.TLS = current.TLS
	p.Export.Headers = current.Export.Headers
	p.Export.Log = current.Export.Log
	if p.Auth.Method == current.Auth.Method && p.Auth.ClientID == current.Auth.ClientID {
		p.Auth = current.Auth
	}
	largest := p.Limits
	p.Limits = current.Limits
	p.Limits.MaxLine, p.Limits.AttachmentBytes = largest.MaxLine, largest.AttachmentBytes
	return p
}
