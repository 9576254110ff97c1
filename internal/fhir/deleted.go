package fhir

import (
	"bytes"
	"strings"
)

// Reference names a resource at a payer.
type Reference struct{ Type, ID string }

// EachDeleted reads one line of a deleted file: a transaction Bundle whose entries with request.method DELETE name the
// resources that are gone (Bulk Data 3.0, Response - Complete Status, deleted). It calls apply for each deletion, in order, and
// reject for each entry (counted from 0; -1 for the whole Bundle) that is not applied, because it does not say plainly which one
// resource to delete - conditional deletes, other methods, unknown types -, with what was wrong, without quoting the payer. It
// builds no tree; only the references themselves are allocated. The error is a *LineError where the line is no Bundle at all;
// an error of apply ends it and is returned as it is.
func EachDeleted(line []byte, apply func(Reference) error, reject func(entry int, why string)) error {
	bundle, err := bundleIn(line)
	if err != nil {
		return err
	}
	if kind, ok := stringAt(line, bundle.kind); ok && string(kind) != "transaction" {
		reject(-1, "a Bundle of another type than transaction")
		return nil
	}
	entries := bundle.entries
	if entries.end == 0 {
		return nil
	}
	if line[entries.start] != '[' {
		reject(-1, "entry is no array")
		return nil
	}
	number := 0
	var applyErr error
	eachElement(line, entries, func(entry span) bool {
		ref, why := deletedBy(line, entry)
		if why != "" {
			reject(number, why)
		} else {
			applyErr = apply(ref)
		}
		number++
		return applyErr == nil
	})
	return applyErr
}

// bundle is where the members of a Bundle stand that deletions are read from.
type bundle struct{ resourceType, kind, entries span }

// bundleIn validates line and returns the members of the Bundle that it holds.
func bundleIn(line []byte) (bundle, error) {
	v := validator{data: line}
	start := v.space(0)
	if start == len(line) || line[start] != '{' {
		return bundle{}, &LineError{ReasonNotObject, start, "a Bundle"}
	}
	end, err := v.value(start, 1)
	if err != nil {
		return bundle{}, err
	}
	if rest := v.space(end); rest != len(line) {
		return bundle{}, &LineError{ReasonNotJSON, rest, "the end of the line after one Bundle"}
	}
	// The line is well-formed from here on, so that the walk below meets no error.
	var b bundle
	for i := v.space(start + 1); i < end && line[i] == '"'; {
		nameEnd, _ := v.string(i)
		value := span{start: v.space(v.space(nameEnd) + 1)}
		value.end, _ = v.value(value.start, 1)
		switch string(line[i+1 : nameEnd-1]) {
		case "resourceType":
			b.resourceType = value
		case "type":
			b.kind = value
		case "entry":
			b.entries = value
		}
		if i = v.space(value.end); line[i] == ',' {
			i = v.space(i + 1)
		}
	}
	if resourceType, ok := stringAt(line, b.resourceType); !ok || string(resourceType) != "Bundle" {
		return bundle{}, &LineError{ReasonMalformedEntry, start, "a resource of type Bundle"}
	}
	return b, nil
}

// deletedBy returns the resource that an entry deletes, or why the entry is not applied.
func deletedBy(line []byte, entry span) (Reference, string) {
	request := memberAt(line, entry, "request")
	if request.end == 0 {
		return Reference{}, "no request"
	}
	method, ok := stringAt(line, memberAt(line, request, "method"))
	if !ok || !bytes.EqualFold(method, []byte("DELETE")) {
		return Reference{}, "a method other than DELETE"
	}
	target, ok := stringAt(line, memberAt(line, request, "url"))
	if !ok || len(target) == 0 {
		return Reference{}, "no url"
	}
	return deletedReference(string(target))
}

// deletedReference reads Type/id, with a leading slash or as the end of an absolute URL.
func deletedReference(target string) (Reference, string) {
	if strings.ContainsAny(target, "?#") {
		return Reference{}, "a conditional delete"
	}
	path, id, ok := cutLast(strings.TrimSuffix(target, "/"), '/')
	if !ok || id == "" {
		return Reference{}, "a url that is not Type/id"
	}
	_, resourceType, nested := cutLast(path, '/')
	if !nested {
		resourceType = path
	} else if prefix := path[:len(path)-len(resourceType)-1]; prefix != "" && !strings.Contains(prefix, "://") {
		return Reference{}, "a url that is not Type/id"
	}
	switch {
	case !KnownType(resourceType):
		return Reference{}, "a url of an unknown resource type"
	case len(id) > MaxIDBytes:
		return Reference{}, "an id that is too long"
	case strings.IndexByte(id, 0) >= 0:
		return Reference{}, "an id with a NUL character"
	}
	return Reference{Type: resourceType, ID: id}, ""
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, false
}
