package verify

import "testing"

func TestSameJSON_compares_by_value(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{`{"a":1,"b":[true,null,"x"]}`, `{ "b" : [true, null, "x"], "a" : 1 }`, true},
		{`{"a":1e2}`, `{"a":100}`, true},
		{`{"a":1.00}`, `{"a":1.00}`, true},
		{`{"a":1.00}`, `{"a":1.0}`, false},
		{`{"a":0.10}`, `{"a":0.1}`, false},
		{`{"a":-0.0}`, `{"a":0.0}`, true},
		{`{"a":-1.0}`, `{"a":1.0}`, false},
		{`{"a":-0.0}`, `{"a":0}`, false},
		{`{"a":1.5e1}`, `{"a":15}`, true},
		{`{"a":1} {"a":2}`, `{"a":1}`, false},
		{`{"a":12345678901234567890123}`, `{"a":12345678901234567890124}`, false},
		{`{"a":1}`, `{"a":"1"}`, false},
		{`{"a":1}`, `{"a":1,"b":2}`, false},
		{`[1,2]`, `[2,1]`, false},
		{`{"a":null}`, `{"b":null}`, false},
		{`{"a":`, `{"a":`, false},
	} {
		if got := SameJSON([]byte(test.a), []byte(test.b)); got != test.want {
			t.Errorf("SameJSON(%s, %s) = %v, want %v", test.a, test.b, got, test.want)
		}
	}
}

func TestDifferences_counts_what_came_changed_and_went(t *testing.T) {
	t.Parallel()
	old, recent := make(Source), make(Source)
	old.Add("Patient", "same", []byte("1"))
	old.Add("Patient", "changed", []byte("1"))
	old.Add("Patient", "gone", []byte("1"))
	recent.Add("Patient", "same", []byte("1"))
	recent.Add("Patient", "changed", []byte("2"))
	recent.Add("Patient", "new", []byte("1"))
	recent.Add("Coverage", "new", []byte("1"))
	got := Differences(old, recent)
	if got["Patient"] != (Change{1, 1, 1}) || got["Coverage"] != (Change{Inserted: 1}) {
		t.Errorf("got %v", got)
	}
}
