package fhir

import "bytes"

// GuessID returns what is most likely the id of the resource in line: the first member of that name, without looking whether the
// line is JSON or at which depth the member stands. It costs a fraction of Scan, and is good for one purpose: to look up whether this
// very line, by its digest, was taken before under this id. It returns nil where a guess is not worth a look-up; the bytes it returns are
// printable ASCII, at most MaxIDBytes of them.
func GuessID(line []byte) []byte {
	i := bytes.Index(line, []byte(`"id"`))
	if i < 0 {
		return nil
	}
	i = skipSpaces(line, i+len(`"id"`))
	if i >= len(line) || line[i] != ':' {
		return nil
	}
	i = skipSpaces(line, i+1)
	if i >= len(line) || line[i] != '"' {
		return nil
	}
	id := line[i+1:]
	for n, c := range id[:min(len(id), MaxIDBytes+1)] {
		switch {
		case c == '"' && n > 0:
			return id[:n:n]
		case c <= ' ' || c > '~' || c == '"' || c == '\\':
			return nil
		}
	}
	return nil
}

func skipSpaces(line []byte, i int) int {
	for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
		i++
	}
	return i
}
