package main

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// The parts of CycloneDX 1.6 (ECMA-424) that are used.
type (
	bom struct {
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		SerialNumber string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Ref        string     `json:"bom-ref"`
		Type       string     `json:"type"`
		Name       string     `json:"name"`
		Version    string     `json:"version,omitempty"`
		Scope      string     `json:"scope,omitempty"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Licenses   []licence  `json:"licenses,omitempty"`
		PURL       string     `json:"purl,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	licence struct {
		License struct {
			ID string `json:"id"`
		} `json:"license"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn"`
	}
)

// writeSBOM writes the bill of materials of a binary: what its linker noted of itself, with the licences of the modules.
func writeSBOM(ctx context.Context, repository, binary string, out io.Writer) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read what the binary is made of: %w", err)
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read the binary: %w", err)
	}
	modules, err := modulesOf(ctx, repository)
	if err != nil {
		return err
	}
	licences := make(map[string][]string)
	for _, m := range modules {
		if licences[m.Path], err = licencesIn(m.Dir); err != nil {
			return fmt.Errorf("%s: %w", m.Path, err)
		}
	}
	seconds, _ := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64) // 1970 where it is not set
	b := describe(info, sha256.Sum256(data), time.Unix(seconds, 0).UTC(), os.Getenv("VERSION"), licences)
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(b)
}

// describe makes the bill of materials. Its serial number follows from the binary, as a UUID of version 8.
func describe(info *debug.BuildInfo, sum [sha256.Size]byte, at time.Time, version string, licences map[string][]string) bom {
	serial := sum
	serial[6], serial[8] = serial[6]&0x0f|0x80, serial[8]&0x3f|0x80
	text := hex.EncodeToString(serial[:16])
	product := component{
		Ref: "ingestd", Type: "application", Name: "ingestd", Version: version,
		Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}}, Licenses: licencesOf([]string{"Apache-2.0"}),
	}
	for _, setting := range info.Settings {
		if setting.Key == "GOOS" || setting.Key == "GOARCH" || setting.Key == "CGO_ENABLED" {
			product.Properties = append(product.Properties, property{"build:" + setting.Key, setting.Value})
		}
	}
	b := bom{
		Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		SerialNumber: "urn:uuid:" + strings.Join([]string{text[:8], text[8:12], text[12:16], text[16:20], text[20:]}, "-"),
		Metadata:     metadata{Timestamp: at.Format(time.RFC3339), Component: product},
	}
	depends := dependency{Ref: product.Ref}
	add := func(c component) {
		c.Type, c.Scope, c.Ref = "library", "required", c.PURL
		b.Components = append(b.Components, c)
		depends.DependsOn = append(depends.DependsOn, c.Ref)
	}
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	add(component{Name: "std", Version: goVersion, PURL: "pkg:golang/std@" + goVersion, Licenses: licencesOf([]string{"BSD-3-Clause"})})
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := component{
			Name: m.Path, Version: m.Version, PURL: "pkg:golang/" + m.Path + "@" + m.Version, Licenses: licencesOf(licences[m.Path]),
		}
		if m.Sum != "" {
			c.Properties = []property{{"go:sum", m.Sum}}
		}
		add(c)
	}
	b.Dependencies = []dependency{depends}
	return b
}

func licencesOf(names []string) []licence {
	var list []licence
	for _, name := range names {
		if allowed[name] {
			var l licence
			l.License.ID = name
			list = append(list, l)
		}
	}
	return list
}
