package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

func TestClassify_tells_licences_apart(t *testing.T) {
	t.Parallel()
	const mit = "Permission is hereby granted, free of charge, to any person\nobtaining a copy… THE SOFTWARE IS PROVIDED \"AS IS\""
	for text, want := range map[string]string{
		mit: "MIT",
		"                                 Apache License\n                           Version 2.0, January 2004":                "Apache-2.0",
		"Redistribution and use in source and binary forms … Neither the name of Google":                                       "BSD-3-Clause",
		"Redistribution and use in source and binary forms … following disclaimer.":                                            "BSD-2-Clause",
		"GNU GENERAL PUBLIC LICENSE Version 3":                                                                                 "GPL",
		"GNU AFFERO GENERAL PUBLIC LICENSE":                                                                                    "AGPL-3.0",
		"Copyright (c) 2015 HashiCorp, Inc. Mozilla Public License, version 2.0 … the GNU General Public License, Version 2.0": "MPL-2.0",
		"All rights reserved.": "", "": "",
	} {
		if got := classify(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	for _, test := range []struct {
		names []string
		want  bool
	}{{nil, false}, {[]string{"MIT"}, true}, {[]string{"MIT", "GPL"}, false}, {[]string{"unknown (LICENSE)"}, false}} {
		if got := permitted(test.names); got != test.want {
			t.Errorf("%v: allowed is %t, want %t", test.names, got, test.want)
		}
	}
}

func TestLicencesIn_reads_every_licence_at_the_top(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"LICENSE.md": "Apache License Version 2.0", "COPYING": "GNU General Public License version 2", "README.md": "MIT", "LICENSES": "x",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := licencesIn(dir)
	if want := "GPL Apache-2.0"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("got %v, %v, want %s", got, err, want)
	}
}

func TestDescribe_is_a_bill_of_materials_that_is_the_same_each_time(t *testing.T) {
	t.Parallel()
	info := &debug.BuildInfo{
		GoVersion: "go1.26.8", Settings: []debug.BuildSetting{{Key: "GOARCH", Value: "arm64"}, {Key: "-ldflags", Value: "secret"}},
		Deps: []*debug.Module{{Path: "example.org/a", Version: "v1.2.3", Sum: "h1:x"}},
	}
	sum := sha256.Sum256([]byte("binary"))
	licences := map[string][]string{"example.org/a": {"MIT"}}
	one := describe(info, sum, time.Unix(1, 0).UTC(), "1.0", licences)
	data, err := json.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"bomFormat":"CycloneDX"`, `"purl":"pkg:golang/example.org/a@v1.2.3"`, `"purl":"pkg:golang/std@1.26.8"`, `"license":{"id":"MIT"}`,
		`"timestamp":"1970-01-01T00:00:01Z"`, `"build:GOARCH","value":"arm64"`,
	} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("%s is missing in %s", want, data)
		}
	}
	if bytes.Contains(data, []byte("secret")) {
		t.Errorf("flags of the build came in: %s", data)
	}
	again, _ := json.Marshal(describe(info, sum, time.Unix(1, 0).UTC(), "1.0", licences))
	if !bytes.Equal(data, again) {
		t.Error("the same binary gave other bytes")
	}
}
