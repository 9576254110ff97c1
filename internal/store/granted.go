package store

import (
	"fmt"
	"slices"

	"ingestd/internal/fhir"
)

// grants reports whether the export may hold resources of a type, as far as the authorization is known.
func (e Export) grants(resourceType string) bool {
	return e.Granted == nil || slices.Contains(e.Granted, resourceType)
}

// grantedTypes lists the types that are covered; nil where that is all of them.
func grantedTypes(covers func(resourceType string) bool) []string {
	if covers == nil {
		return nil
	}
	all := fhir.Types()
	types := slices.DeleteFunc(slices.Clone(all), func(resourceType string) bool { return !covers(resourceType) })
	if len(types) == len(all) {
		return nil
	}
	return types
}

// bothGranted is the SQL for the types that are in both of two lists, of which NULL is the one of all.
func bothGranted(a, b string) string {
	return fmt.Sprintf(`CASE WHEN %[1]s IS NULL THEN %[2]s WHEN %[2]s IS NULL THEN %[1]s
		ELSE ARRAY(SELECT unnest(%[1]s) INTERSECT SELECT unnest(%[2]s) ORDER BY 1) END`, a, b)
}
