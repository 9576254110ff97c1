package libraries

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/bytedance/sonic"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/minio/simdjson-go"
	"github.com/tidwall/gjson"
	"github.com/valyala/fastjson"

	"ingestd/internal/fhir"
)

// keys are what the loader must know of a line beside that it is JSON. Which member names the patient, the type decides; here it is
// looked for in two places, which is less than what the scanner does.
type keys struct {
	ResourceType string
	ID           string
	Meta         struct {
		VersionID   string
		LastUpdated string
	}
	Patient, Subject struct{ Reference string }
}

var errKeys = errors.New("no resourceType or id")

func (k *keys) check() error {
	if k.ResourceType == "" || k.ID == "" {
		return errKeys
	}
	return nil
}

func BenchmarkJSON(b *testing.B) {
	var (
		fast   fastjson.Parser
		parsed *simdjson.ParsedJson
		strict = sonic.Config{ValidateString: true}.Froze()
	)
	readers := []struct {
		name string
		read func(line []byte) error
	}{
		{"scanner", func(line []byte) error { _, err := fhir.Scan(line); return err }},
		{"encoding_json", func(line []byte) error {
			var k keys
			return errors.Join(json.Unmarshal(line, &k), k.check())
		}},
		{"jsontext", readTokens},
		{"sonic", func(line []byte) error {
			var k keys
			return errors.Join(strict.Unmarshal(line, &k), k.check())
		}},
		{"fastjson", func(line []byte) error {
			v, err := fast.ParseBytes(line)
			if err != nil {
				return err
			}
			for _, path := range [][]string{{"meta", "versionId"}, {"meta", "lastUpdated"}, {"patient", "reference"}, {"subject", "reference"}} {
				v.GetStringBytes(path...)
			}
			if v.GetStringBytes("resourceType") == nil || v.GetStringBytes("id") == nil {
				return errKeys
			}
			return nil
		}},
		{"gjson", func(line []byte) error {
			if !gjson.ValidBytes(line) {
				return errors.New("not JSON")
			}
			found := gjson.GetManyBytes(line, "resourceType", "id", "meta.versionId", "meta.lastUpdated", "patient.reference", "subject.reference")
			if !found[0].Exists() || !found[1].Exists() {
				return errKeys
			}
			return nil
		}},
		{"simdjson_go", func(line []byte) (err error) {
			if parsed, err = simdjson.Parse(line, parsed, simdjson.WithCopyStrings(false)); err != nil {
				return err
			}
			iter := parsed.Iter()
			for _, path := range [][]string{
				{"resourceType"}, {"id"}, {"meta", "versionId"}, {"meta", "lastUpdated"}, {"patient", "reference"}, {"subject", "reference"},
			} {
				if _, err := iter.FindElement(nil, path...); err != nil && len(path) == 1 {
					return errKeys
				}
			}
			return nil
		}},
	}
	for set, lines := range sets(b) {
		for _, r := range readers {
			b.Run(set+"/"+r.name, func(b *testing.B) {
				b.SetBytes(size(lines))
				b.ReportAllocs()
				for b.Loop() {
					for _, line := range lines {
						if err := r.read(line); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

// readTokens reads a line as a stream of tokens: it checks each, and keeps what it needs.
func readTokens(line []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(line))
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	seen := 0
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		switch name.String() {
		case "resourceType", "id":
			seen++
			_, err = d.ReadToken()
		case "meta", "patient", "subject":
			_, err = d.ReadValue()
		default:
			err = d.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	if seen != 2 {
		return errKeys
	}
	return nil
}

// What jsonb cannot hold, or is no JSON, must not pass: of each library this says what does.
func TestJSON_what_passes(t *testing.T) {
	var fast fastjson.Parser
	for name, line := range map[string]string{
		"NUL":            `{"resourceType":"Patient","id":"a","v":"\u0000"}`,
		"lone surrogate": `{"resourceType":"Patient","id":"a","v":"\ud800"}`,
		"invalid UTF-8":  "{\"resourceType\":\"Patient\",\"id\":\"a\",\"v\":\"\xff\"}",
		"control":        "{\"resourceType\":\"Patient\",\"id\":\"a\",\"v\":\"\x01\"}",
		"leading zero":   `{"resourceType":"Patient","id":"a","v":01}`,
		"trailing":       `{"resourceType":"Patient","id":"a"} {}`,
	} {
		var k keys
		_, scanner := fhir.Scan([]byte(line))
		_, fastErr := fast.Parse(line)
		_, simdErr := simdjson.Parse([]byte(line), nil)
		passes := map[string]bool{
			"scanner": scanner == nil, "encoding_json": json.Unmarshal([]byte(line), &k) == nil, "jsontext": readTokens([]byte(line)) == nil,
			"sonic": sonic.Config{ValidateString: true}.Froze().Unmarshal([]byte(line), &k) == nil, "fastjson": fastErr == nil,
			"gjson": gjson.Valid(line), "simdjson_go": simdErr == nil,
		}
		if passes["scanner"] {
			t.Errorf("%s passes the scanner", name)
		}
		t.Logf("%-15s passes %v", name, passes)
	}
}
