package config

import (
	"reflect"
	"slices"
	"strings"
)

// live are the keys outside of payers and keys that take effect without a restart. All others keep their values until
// then: a new key belongs here only once something applies it.
var live = []string{
	"include", "payers", "keys", "log.level", "jwks.url", "reload.watch", "reload.removed_payers", "workers.chunk",
	"database.indexes", "fleet.max_exports", "notify", "retention.exports", "retention.quarantine", "retention.history",
}

// Live are the paths of the keys that take effect without a restart, those of lists with everything beneath.
func Live() []string { return slices.Clone(live) }

// NeedsRestart reports whether a difference takes effect with a restart of the daemon only, and not with a reload.
func (d Difference) NeedsRestart() bool {
	return d.Payer == "" && !slices.ContainsFunc(live, func(key string) bool {
		rest, ok := strings.CutPrefix(d.Key, key)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

// Reloaded returns the configuration that a running daemon can go over to from c, and in which keys that is not what next
// says, because they need a restart: there it stays as it is.
func (c *Config) Reloaded(next *Config) (effective *Config, kept []Difference) {
	merged := *next
	return &merged, keep(reflect.ValueOf(*c), reflect.ValueOf(&merged).Elem(), "")
}

// keep sets the keys that are not live back to the values of old, and returns those that had changed.
func keep(old, next reflect.Value, path string) []Difference {
	var kept []Difference
	for _, f := range orderedFields(old.Type()) {
		full, was, is := join(path, f.key), old.Field(f.index), next.Field(f.index)
		switch {
		case slices.Contains(live, full):
		case was.Kind() == reflect.Struct:
			kept = append(kept, keep(was, is, full)...)
		case !reflect.DeepEqual(was.Interface(), is.Interface()):
			kept = append(kept, Difference{Key: full, Change: Changed, From: shown(was), To: shown(is)})
			is.Set(was)
		}
	}
	return kept
}

// shown is a value as text, without secrets.
func shown(v reflect.Value) string {
	flat := make(map[string]string)
	flattenInto(flat, "", plain(dumpValue(v, "", nil)))
	return flat[""]
}
