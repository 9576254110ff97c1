package payersim

import (
	"bytes"
	"encoding/json"
	"time"
)

// scanned is what the simulator needs to know about a line. Members that are missing or of another type stay empty.
type scanned struct {
	resourceType string
	id           string
	lastUpdated  string
}

// scanLine finds the members of the outermost object (resourceType, id) and of its meta (lastUpdated) without decoding
// the rest: contained resources have members of the same names. A line that is not JSON yields what stood before the
// fault.
func scanLine(line []byte) scanned {
	var s scanned
	eachMember(line, func(key, value []byte) bool {
		switch string(key) {
		case "resourceType":
			s.resourceType = text(value)
		case "id":
			s.id = text(value)
		case "meta":
			eachMember(value, func(key, value []byte) bool {
				if string(key) == "lastUpdated" {
					s.lastUpdated = text(value)
				}
				return true
			})
		}
		return s.resourceType == "" || s.id == "" || s.lastUpdated == ""
	})
	return s
}

// updated is meta.lastUpdated in ms since 1970; ok is false where it is missing or unreadable.
func (s scanned) updated() (ms int64, ok bool) {
	at, err := time.Parse(time.RFC3339, s.lastUpdated)
	if err != nil {
		return 0, false
	}
	return at.UnixMilli(), true
}

// text decodes a JSON string, "" for other values.
func text(value []byte) string {
	if len(value) < 2 || value[0] != '"' {
		return ""
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1])
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}

// eachMember calls yield with the raw key (without quotes) and raw value of each member of a JSON object, until yield
// returns false or the text ends being JSON.
func eachMember(object []byte, yield func(key, value []byte) bool) {
	at := skipSpace(object, 0)
	if at >= len(object) || object[at] != '{' {
		return
	}
	at++
	for {
		at = skipSpace(object, at)
		if at >= len(object) || object[at] != '"' {
			return
		}
		end := skipString(object, at)
		if end < 0 {
			return
		}
		key := object[at+1 : end-1]
		at = skipSpace(object, end)
		if at >= len(object) || object[at] != ':' {
			return
		}
		at = skipSpace(object, at+1)
		end = skipValue(object, at)
		if end < 0 {
			return
		}
		if !yield(key, object[at:end]) {
			return
		}
		at = skipSpace(object, end)
		if at >= len(object) || object[at] != ',' {
			return
		}
		at++
	}
}

func skipSpace(b []byte, at int) int {
	for at < len(b) && (b[at] == ' ' || b[at] == '\t' || b[at] == '\r' || b[at] == '\n') {
		at++
	}
	return at
}

// skipString returns the index behind the string that begins at at, -1 if it does not end.
func skipString(b []byte, at int) int {
	at++
	for {
		quote := bytes.IndexByte(b[at:], '"')
		if quote < 0 {
			return -1
		}
		end := at + quote
		slashes := 0
		for end-1-slashes >= at && b[end-1-slashes] == '\\' {
			slashes++
		}
		at = end + 1
		if slashes%2 == 0 {
			return at
		}
	}
}

// skipValue returns the index behind the value that begins at at, -1 if it does not end.
func skipValue(b []byte, at int) int {
	depth := 0
	for at < len(b) {
		switch b[at] {
		case '"':
			if at = skipString(b, at); at < 0 {
				return -1
			}
			if depth == 0 {
				return at
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return at // the end of a number or literal
			}
			if depth--; depth == 0 {
				return at + 1
			}
		case ',':
			if depth == 0 {
				return at
			}
		}
		at++
	}
	return -1
}
