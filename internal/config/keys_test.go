package config

import (
	"reflect"
	"strings"
	"testing"
)

// walk visits the keys of a struct: every key, with its path and the value that holds its default. A list of structs is
// visited as path[].
func walk(value reflect.Value, path string, visit func(path string, v reflect.Value)) {
	for _, f := range orderedFields(value.Type()) {
		v, full := value.Field(f.index), join(path, f.key)
		visit(full, v)
		switch {
		case v.Kind() == reflect.Struct:
			walk(v, full, visit)
		case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
			walk(zeroElement(full, v.Type().Elem()), full+"[]", visit)
		}
	}
}

func TestKeys_are_those_of_the_types(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"defaults": true}
	walk(reflect.ValueOf(*builtIn()), "", func(path string, v reflect.Value) {
		known[path] = true
		k, ok := keys[path]
		if !ok || k.text == "" {
			t.Errorf("%s is not described", path)
		}
		if (k.low != "" || k.high != "") && !v.CanInt() && !v.CanFloat() {
			t.Errorf("%s has bounds, and is no number", path)
		}
		if (k.enum != nil || k.want != "") && v.Kind() != reflect.String {
			t.Errorf("%s is described as a string, and is none", path)
		}
	})
	for path := range keys {
		if !known[path] {
			t.Errorf("%s is described, and is no key", path)
		}
	}
}

func TestBuiltIn_keeps_the_bounds_of_all_keys(t *testing.T) {
	t.Parallel()
	p := newParser("built-in")
	p.main.lines[""] = 1
	c := checker{p, location{p.main, ""}}
	c.bounds(reflect.ValueOf(*builtIn()), "", "")
	c.bounds(reflect.ValueOf(builtInKey()), "", "keys[]")
	c.bounds(reflect.ValueOf(builtInPayer()), "", "payers[]")
	for _, problem := range p.problems {
		if !strings.Contains(problem.Text, "is missing") {
			t.Error(problem)
		}
	}
}

func TestBounds_refuse_what_is_just_outside(t *testing.T) {
	t.Parallel()
	visit := func(path string, v reflect.Value) {
		k := describeKey(path)
		for _, side := range []struct {
			bound string
			step  float64
		}{{k.low, -1}, {k.high, 1}} {
			if side.bound == "" {
				continue
			}
			p := newParser("bounds")
			p.main.lines[""] = 1
			c := checker{p, location{p.main, ""}}
			limit := bound(v.Type(), side.bound)
			value := reflect.New(v.Type()).Elem()
			set := func(n float64) {
				if v.CanFloat() {
					value.SetFloat(n)
				} else {
					value.SetInt(int64(n))
				}
			}
			set(limit)
			if c.number(value, path, k); len(p.problems) != 0 {
				t.Errorf("%s refuses its bound: %v", path, p.problems)
			}
			set(limit + side.step)
			if c.number(value, path, k); len(p.problems) != 1 {
				t.Errorf("%s accepts %v, beyond its bound %s", path, value, side.bound)
			}
		}
	}
	walk(reflect.ValueOf(*builtIn()), "", visit)
}

func TestEditDistance_counts_slips(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"url", "url", 0},
		{"ulr", "url", 1},
		{"uri", "url", 1},
		{"fhirurl", "fhir_url", 1},
		{"exprot", "export", 1},
		{"downlods", "downloads", 1},
		{"kitten", "sitting", 3},
		{"", "abc", 3},
		{strings.Repeat("x", 100_000), "url", 100_000},
	} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("%.20q to %q: got %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

func TestParseSize_reads_units_and_refuses_the_rest(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{
		"0": 0, "1024": 1 << 10, "7B": 7, "512KiB": 512 << 10, "64 MiB": 64 << 20, "1GiB": 1 << 30,
		"": -1, "MiB": -1, "-1MiB": -1, "+1": -1, "1.5GiB": -1, "64MB": -1, "64mib": -1, "1  KiB": -1, "99999999999GiB": -1, "9999999999999999999": -1,
	} {
		got, err := parseSize(text)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
		if want > 0 && err == nil {
			if again, err := parseSize(got.String()); err != nil || again != got {
				t.Errorf("%q is written as %s, and read as %d", text, got, again)
			}
		}
	}
}
