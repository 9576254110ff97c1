package fhir

import (
	"bytes"
	"fmt"
	"time"
)

// Reason says why a line cannot be loaded. The values are stable: they stand in ingest.quarantine and in metrics.
type Reason string

// The reasons that the scanner finds; the store adds those that only Postgres can tell.
const (
	ReasonNotJSON        Reason = "not_json"         // not one well-formed JSON value
	ReasonNotObject      Reason = "not_an_object"    // JSON, but an array or a scalar
	ReasonNoType         Reason = "no_resource_type" // no resourceType, or one that is no string
	ReasonUnknownType    Reason = "unknown_type"     // a resourceType that FHIR R4 to R5 do not have
	ReasonNoID           Reason = "no_id"            // no id, or one that is no string
	ReasonBadID          Reason = "bad_id"           // an id that is empty or longer than MaxIDBytes
	ReasonNUL            Reason = "nul_character"    // \u0000, which Postgres' text types cannot hold
	ReasonLoneSurrogate  Reason = "lone_surrogate"   // \ud800 to \udfff without its partner
	ReasonInvalidUTF8    Reason = "invalid_utf8"
	ReasonTooDeep        Reason = "too_deep" // nested deeper than MaxDepth
	ReasonTooLong        Reason = "too_long" // longer than limits.max_line
	ReasonRefused        Reason = "refused"  // Postgres refused the value, for example a number out of range
	ReasonMalformedEntry Reason = "malformed_entry"
)

const (
	// MaxIDBytes is the longest id that is taken. FHIR allows 64 characters; servers exceed that (protocol.md ND-2).
	MaxIDBytes = 255
	// MaxDepth is the deepest nesting of a line that is taken, far below what exhausts the stack of a Postgres backend.
	MaxDepth = 500
)

// LineError says that a line is not a resource that can be loaded, and where in the line that shows. It never quotes the
// line, which is PHI.
type LineError struct {
	Reason Reason
	// Offset is the byte of the line at which the fault shows, from 0.
	Offset int
	// Want says what was expected there.
	Want string
}

func (e *LineError) Error() string {
	return fmt.Sprintf("%s at byte %d: expected %s", e.Reason, e.Offset, e.Want)
}

// Keys are the facts of a resource that a row holds beside the resource itself. The slices are views of the scanned
// line, valid as long as it is.
type Keys struct {
	ResourceType []byte
	ID           []byte
	VersionID    []byte    // meta.versionId, nil where there is none
	LastUpdated  time.Time // meta.lastUpdated, zero where there is none or it is no instant
	PatientID    []byte    // the patient that the resource is about, nil where there is none
	Subsetted    bool      // meta.tag holds SUBSETTED: the resource is incomplete
}

// Scan validates that line is one JSON object that Postgres' jsonb can hold, and reads its keys in the same pass, without
// building a tree and without allocating. The line must not hold its line feed. An error is always a *LineError; keys
// that were found before the fault are returned with it, so that a quarantined line can still be named.
func Scan(line []byte) (Keys, error) {
	var keys Keys
	v := validator{data: line}
	i := v.space(0)
	if i == len(line) {
		return keys, &LineError{ReasonNotJSON, i, "a JSON object"}
	}
	if line[i] != '{' {
		end, err := v.value(i, 1)
		if err != nil {
			return keys, err
		}
		if end = v.space(end); end != len(line) {
			return keys, &LineError{ReasonNotJSON, end, "the end of the line after one JSON value"}
		}
		return keys, &LineError{ReasonNotObject, i, "a JSON object"}
	}

	var found members
	end, err := v.resource(i, &found)
	if err == nil {
		if end = v.space(end); end != len(line) {
			err = &LineError{ReasonNotJSON, end, "the end of the line after one JSON object"}
		}
	}
	// The keys are read even of a faulty line: they say in the quarantine which resource it was.
	keyErr := readKeys(line, &found, &keys)
	if err != nil {
		return keys, err
	}
	return keys, keyErr
}

// span is a value within the line: data[start:end].
type span struct{ start, end int }

// members are the top-level members of a resource that Scan looks into once the whole line is known to be JSON.
type members struct {
	resourceType, id, meta span
	// patient holds the members that may name the patient. Which of them counts depends on resourceType, which may
	// come last.
	patient [6]struct {
		name  span
		value span
	}
	patients int
}

// note keeps a member that counts; plain says that its name is written without escapes.
func (m *members) note(data []byte, name, value span, plain bool) {
	key := data[name.start:name.end]
	if !plain { // "\u0069d" is a way to write "id", and jsonb takes it for that
		key, _ = stringAt(data, span{name.start - 1, name.end + 1})
	}
	switch string(key) {
	case "resourceType":
		m.resourceType = value
	case "id":
		m.id = value
	case "meta":
		m.meta = value
	default:
		if isPatientMember(key) && m.patients < len(m.patient) {
			m.patient[m.patients].name, m.patient[m.patients].value = name, value
			m.patients++
		}
	}
}

// isPatientMember reports whether some type's patientMembers start with name. The test guards that the two agree.
func isPatientMember(name []byte) bool {
	switch string(name) {
	case "subject", "patient", "beneficiary", "participant", "actor", "entity", "candidate", "individual", "link",
		"target", "for", "deliverFor", "requester":
		return true
	}
	return false
}

// readKeys reads the keys from the members that were found in line.
func readKeys(line []byte, found *members, keys *Keys) error {
	resourceType, ok := stringAt(line, found.resourceType)
	if !ok || len(resourceType) == 0 {
		return &LineError{ReasonNoType, found.resourceType.start, "a member resourceType that is a string"}
	}
	keys.ResourceType = resourceType
	id, ok := stringAt(line, found.id)
	if !ok {
		return &LineError{ReasonNoID, found.id.start, "a member id that is a string"}
	}
	if len(id) == 0 || len(id) > MaxIDBytes {
		return &LineError{ReasonBadID, found.id.start, fmt.Sprintf("an id of 1 to %d bytes", MaxIDBytes)}
	}
	keys.ID = id
	if found.meta.end > 0 {
		readMeta(line, found.meta, keys)
	}
	if string(resourceType) == "Patient" {
		keys.PatientID = id
		return nil
	}
	for _, path := range patientMembers[string(resourceType)] {
		if keys.PatientID = found.patientAt(line, path); keys.PatientID != nil {
			break
		}
	}
	return nil
}

func readMeta(line []byte, meta span, keys *Keys) {
	var version, updated, tags span
	eachMember(line, meta, func(name []byte, value span) {
		switch string(name) {
		case "versionId":
			version = value
		case "lastUpdated":
			updated = value
		case "tag":
			tags = value
		}
	})
	if text, ok := stringAt(line, version); ok && len(text) > 0 {
		keys.VersionID = text
	}
	if text, ok := stringAt(line, updated); ok {
		keys.LastUpdated = parseInstant(text)
	}
	if tags.end == 0 || !bytes.Contains(line[tags.start:tags.end], []byte("SUBSETTED")) {
		return
	}
	eachElement(line, tags, func(tag span) bool {
		code, ok := stringAt(line, memberAt(line, tag, "code"))
		keys.Subsetted = ok && string(code) == "SUBSETTED"
		return !keys.Subsetted
	})
}

// patientAt returns the patient that the member at path names, or nil. The path is name or name.name.
func (m *members) patientAt(line []byte, path string) []byte {
	first, rest, nested := cutPath(path)
	for i := m.patients - 1; i >= 0; i-- { // of a repeated member jsonb keeps the last
		member := &m.patient[i]
		if string(line[member.name.start:member.name.end]) != first {
			continue
		}
		var id []byte
		eachElement(line, member.value, func(element span) bool {
			if nested {
				element = memberAt(line, element, rest)
			}
			reference, ok := stringAt(line, memberAt(line, element, "reference"))
			if ok {
				id = patientID(reference)
			}
			return id == nil
		})
		if len(id) > MaxIDBytes {
			return nil
		}
		return id
	}
	return nil
}

func cutPath(path string) (first, rest string, nested bool) {
	for i := range len(path) {
		if path[i] == '.' {
			return path[:i], path[i+1:], true
		}
	}
	return path, "", false
}

// parseInstant reads a FHIR instant, RFC 3339 with any fraction, also with an offset that lacks its colon; the zero time where it is
// none.
func parseInstant(text []byte) time.Time {
	var t time.Time
	if err := t.UnmarshalText(text); err != nil {
		if t, err = time.Parse("2006-01-02T15:04:05Z0700", string(text)); err != nil {
			return time.Time{}
		}
	}
	if t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}
