package fhir

import (
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"unicode/utf8"
)

// validator checks JSON (RFC 8259) byte by byte, and beyond it the two things that JSON allows and Postgres' jsonb does
// not: \u0000 and lone surrogates. It keeps no state but the data, so that every method is a pure function of a position.
type validator struct{ data []byte }

// space returns the position of the first byte at or behind i that is no white space.
func (v *validator) space(i int) int {
	for i < len(v.data) && (v.data[i] == ' ' || v.data[i] == '\t' || v.data[i] == '\r' || v.data[i] == '\n') {
		i++
	}
	return i
}

// value checks the value that starts at i and returns the position behind it.
func (v *validator) value(i, depth int) (int, error) {
	if i >= len(v.data) {
		return i, &LineError{ReasonNotJSON, i, "a value, but the line ends"}
	}
	switch c := v.data[i]; c {
	case '"':
		return v.string(i)
	case '{', '[':
		return v.container(i, depth)
	case 't':
		return v.literal(i, "true")
	case 'f':
		return v.literal(i, "false")
	case 'n':
		return v.literal(i, "null")
	default:
		if c == '-' || '0' <= c && c <= '9' {
			return v.number(i)
		}
		return i, &LineError{ReasonNotJSON, i, "a value"}
	}
}

// resource checks the object that starts at i, the outermost of the line, and notes the members that the keys are read from.
func (v *validator) resource(i int, found *members) (int, error) {
	i = v.space(i + 1)
	if i < len(v.data) && v.data[i] == '}' {
		return i + 1, nil
	}
	for {
		if i >= len(v.data) || v.data[i] != '"' {
			return i, &LineError{ReasonNotJSON, i, "a member name in quotes"}
		}
		end := plainEnd(v.data, i+1) + 1
		plain := end <= len(v.data) && v.data[end-1] == '"'
		if !plain {
			var err error
			if end, err = v.string(i); err != nil {
				return end, err
			}
		}
		name := span{i + 1, end - 1}
		i = v.space(end)
		if i >= len(v.data) || v.data[i] != ':' {
			return i, &LineError{ReasonNotJSON, i, "a colon behind the member name"}
		}
		value := span{start: v.space(i + 1)}
		var err error
		if value.end, err = v.value(value.start, 2); err != nil {
			return value.end, err
		}
		found.note(v.data, name, value, plain)
		i = v.space(value.end)
		switch {
		case i < len(v.data) && v.data[i] == ',':
			i = v.space(i + 1)
		case i < len(v.data) && v.data[i] == '}':
			return i + 1, nil
		default:
			return i, &LineError{ReasonNotJSON, i, "a comma or a closing brace"}
		}
	}
}

// container checks the object or array that starts at i, with all that is in it. It is most of a scan's time, and therefore a loop over
// states with the open containers in a bit set, not a recursion, with the ways that text without white space takes first.
//
//nolint:gocognit,gocyclo // one state machine: to split it costs a quarter of its speed
func (v *validator) container(i, depth int) (int, error) {
	data := v.data
	var objects [MaxDepth/64 + 1]uint64 // by depth: whether the container there is an object
	outer := depth
	var c byte

open: // an object or array starts at i
	if depth > MaxDepth {
		return i, &LineError{ReasonTooDeep, i, "less nesting"}
	}
	c = data[i]
	i = v.space(i + 1)
	if c == '[' {
		objects[depth/64] &^= 1 << (depth % 64)
		if i < len(data) && data[i] == ']' {
			goto closed
		}
		goto value
	}
	objects[depth/64] |= 1 << (depth % 64)
	if i < len(data) && data[i] == '}' {
		goto closed
	}

member: // a member's name starts at i
	if i >= len(data) || data[i] != '"' {
		return i, &LineError{ReasonNotJSON, i, "a member name in quotes"}
	}
	if end := plainEnd(data, i+1); end < len(data) && data[end] == '"' {
		i = end + 1
	} else if end, err := v.string(i); err != nil {
		return end, err
	} else {
		i = end
	}
	if i >= len(data) || data[i] != ':' {
		if i = v.space(i); i >= len(data) || data[i] != ':' {
			return i, &LineError{ReasonNotJSON, i, "a colon behind the member name"}
		}
	}
	i++

value: // a value starts at i, or behind white space
	if i < len(data) && data[i] <= ' ' {
		i = v.space(i)
	}
	if i < len(data) {
		switch data[i] {
		case '"':
			if end := plainEnd(data, i+1); end < len(data) && data[end] == '"' {
				i = end + 1
				goto next
			}
		case '{', '[':
			depth++
			goto open
		}
	}
	if end, err := v.value(i, depth+1); err != nil {
		return end, err
	} else {
		i = end
	}

next: // a value ends before i
	if i < len(data) && data[i] <= ' ' {
		i = v.space(i)
	}
	if objects[depth/64]>>(depth%64)&1 == 1 {
		if i < len(data) && data[i] == ',' {
			if i++; i < len(data) && data[i] <= ' ' {
				i = v.space(i)
			}
			goto member
		}
		if i >= len(data) || data[i] != '}' {
			return i, &LineError{ReasonNotJSON, i, "a comma or a closing brace"}
		}
	} else {
		if i < len(data) && data[i] == ',' {
			i++
			goto value
		}
		if i >= len(data) || data[i] != ']' {
			return i, &LineError{ReasonNotJSON, i, "a comma or a closing bracket"}
		}
	}

closed: // a container ends at i
	i++
	if depth == outer {
		return i, nil
	}
	depth--
	goto next
}

func (v *validator) literal(i int, word string) (int, error) {
	if len(v.data)-i < len(word) || string(v.data[i:i+len(word)]) != word {
		return i, &LineError{ReasonNotJSON, i, "a value"}
	}
	return i + len(word), nil
}

func (v *validator) number(i int) (int, error) {
	if v.data[i] == '-' {
		i++
	}
	switch {
	case i < len(v.data) && v.data[i] == '0':
		i++
	default:
		end := v.digits(i)
		if end == i {
			return i, &LineError{ReasonNotJSON, i, "a digit"}
		}
		i = end
	}
	if i < len(v.data) && v.data[i] == '.' {
		end := v.digits(i + 1)
		if end == i+1 {
			return end, &LineError{ReasonNotJSON, end, "a digit behind the decimal point"}
		}
		i = end
	}
	if i < len(v.data) && (v.data[i] == 'e' || v.data[i] == 'E') {
		i++
		if i < len(v.data) && (v.data[i] == '+' || v.data[i] == '-') {
			i++
		}
		end := v.digits(i)
		if end == i {
			return end, &LineError{ReasonNotJSON, end, "a digit in the exponent"}
		}
		i = end
	}
	return i, nil
}

func (v *validator) digits(i int) int {
	for i < len(v.data) && '0' <= v.data[i] && v.data[i] <= '9' {
		i++
	}
	return i
}

// string checks the string whose opening quote stands at i and returns the position behind its closing quote.
func (v *validator) string(i int) (int, error) {
	i++
	for {
		i = plainEnd(v.data, i)
		if i >= len(v.data) {
			return i, &LineError{ReasonNotJSON, i, "a closing quote, but the line ends"}
		}
		switch c := v.data[i]; {
		case c == '"':
			return i + 1, nil
		case c == '\\':
			end, err := v.escape(i)
			if err != nil {
				return end, err
			}
			i = end
		case c < 0x20:
			return i, &LineError{ReasonNotJSON, i, "control characters in strings to be escaped"}
		default:
			r, size := utf8.DecodeRune(v.data[i:])
			if r == utf8.RuneError && size <= 1 {
				return i, &LineError{ReasonInvalidUTF8, i, "UTF-8"}
			}
			i += size
		}
	}
}

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// plainEnd returns the position of the first byte at or behind i that needs a closer look: a quote, a backslash, a
// control character or a byte outside ASCII. It looks at eight bytes at a time, twice a round: most of a resource is plain text.
func plainEnd(data []byte, i int) int {
	for i+16 <= len(data) {
		words := data[i : i+16 : i+16]
		if special := specials(words); special != 0 {
			return i + bits.TrailingZeros64(special)>>3
		}
		if special := specials(words[8:]); special != 0 {
			return i + 8 + bits.TrailingZeros64(special)>>3
		}
		i += 16
	}
	for i < len(data) && data[i] >= 0x20 && data[i] < 0x80 && data[i] != '"' && data[i] != '\\' {
		i++
	}
	return i
}

// specials sets the high bit of those of eight bytes that need a closer look, exactly for the first of them.
func specials(data []byte) uint64 {
	word := binary.LittleEndian.Uint64(data)
	quote := word ^ (lowBits * '"')
	backslash := word ^ (lowBits * '\\')
	// The subtractions borrow into the high bit of each byte that is zero (or, for control characters, below 0x20). They also set it where
	// it was set before, in bytes outside ASCII, and may behind a borrow, where it no longer matters.
	return ((quote - lowBits) | (backslash - lowBits) | (word - lowBits*0x20) | word) & highBits
}

// escape checks the escape sequence whose backslash stands at i and returns the position behind it.
func (v *validator) escape(i int) (int, error) {
	if i+1 >= len(v.data) {
		return i, &LineError{ReasonNotJSON, i, "an escape sequence, but the line ends"}
	}
	switch v.data[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2, nil
	case 'u':
	default:
		return i, &LineError{ReasonNotJSON, i, "an escape sequence of JSON"}
	}
	r, ok := v.hex4(i + 2)
	if !ok {
		return i, &LineError{ReasonNotJSON, i, "four hexadecimal digits behind \\u"}
	}
	switch {
	case r == 0:
		return i, &LineError{ReasonNUL, i, "no \\u0000"}
	case 0xdc00 <= r && r <= 0xdfff:
		return i, &LineError{ReasonLoneSurrogate, i, "a high surrogate before a low one"}
	case 0xd800 <= r && r <= 0xdbff:
		low, ok := v.hex4(i + 8)
		if !ok || v.data[i+6] != '\\' || v.data[i+7] != 'u' || low < 0xdc00 || low > 0xdfff {
			return i, &LineError{ReasonLoneSurrogate, i, "a low surrogate behind a high one"}
		}
		return i + 12, nil
	}
	return i + 6, nil
}

func (v *validator) hex4(i int) (rune, bool) {
	if i+4 > len(v.data) {
		return 0, false
	}
	var r rune
	for _, c := range v.data[i : i+4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// The functions below walk JSON that the validator has already found well-formed.

// stringAt returns the string at s, unescaped; false where s is empty or no string. Only a string with escapes is copied.
func stringAt(data []byte, s span) ([]byte, bool) {
	if s.end-s.start < 2 || data[s.start] != '"' {
		return nil, false
	}
	raw := data[s.start+1 : s.end-1]
	for _, c := range raw {
		if c == '\\' {
			var text string
			if err := json.Unmarshal(data[s.start:s.end], &text); err != nil {
				return nil, false
			}
			return []byte(text), true
		}
	}
	return raw, true
}

// memberAt returns the value of the member of the object at s; the empty span where s is no object or has no such member.
// Of a repeated member the last counts, as in jsonb.
func memberAt(data []byte, s span, name string) span {
	var found span
	eachMember(data, s, func(member []byte, value span) {
		if string(member) == name {
			found = value
		}
	})
	return found
}

// eachMember calls yield for each member of the object at s, with its name as it is written; not at all where s is no object.
func eachMember(data []byte, s span, yield func(name []byte, value span)) {
	if s.end == 0 || data[s.start] != '{' {
		return
	}
	v := validator{data: data[:s.end]}
	i := v.space(s.start + 1)
	for i < s.end && data[i] == '"' {
		nameEnd, err := v.string(i)
		if err != nil {
			return
		}
		start := v.space(v.space(nameEnd) + 1)
		end, err := v.value(start, 1)
		if err != nil {
			return
		}
		yield(data[i+1:nameEnd-1], span{start, end})
		if i = v.space(end); i < s.end && data[i] == ',' {
			i = v.space(i + 1)
		}
	}
}

// eachElement calls yield for each element of the array at s, or once for s itself where it is no array, until yield
// returns false.
func eachElement(data []byte, s span, yield func(span) bool) {
	if s.end == 0 {
		return
	}
	if data[s.start] != '[' {
		yield(s)
		return
	}
	v := validator{data: data[:s.end]}
	i := v.space(s.start + 1)
	for i < s.end && data[i] != ']' {
		end, err := v.value(i, 1)
		if err != nil || !yield(span{i, end}) {
			return
		}
		if i = v.space(end); i < s.end && data[i] == ',' {
			i = v.space(i + 1)
		}
	}
}
