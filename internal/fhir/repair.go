package fhir

// replacement is U+FFFD as an escape sequence: as long as the ones that it replaces.
const replacement = `\ufffd`

// RepairText replaces, in place, the escape sequences of a line of JSON that Postgres' jsonb cannot hold by U+FFFD, the replacement
// character: \u0000, and surrogates without their partner. It returns how many there were.
func RepairText(line []byte) (replaced int) {
	for i := 0; i+1 < len(line); i++ {
		if line[i] != '\\' {
			continue
		}
		unit, ok := codeUnit(line[i:])
		switch {
		case !ok:
			i++ // the escaped character, which may be a backslash
			continue
		case isHighSurrogate(unit):
			if low, ok := codeUnit(line[i+len(replacement):]); ok && isLowSurrogate(low) {
				i += 2*len(replacement) - 1
				continue
			}
		case unit != 0 && !isLowSurrogate(unit):
			i += len(replacement) - 1
			continue
		}
		copy(line[i:], replacement)
		replaced++
		i += len(replacement) - 1
	}
	return replaced
}

// codeUnit reads the escape sequence \uXXXX that a text begins with.
func codeUnit(text []byte) (unit uint16, ok bool) {
	if len(text) < len(replacement) || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	for _, c := range text[2:len(replacement)] {
		unit <<= 4
		switch {
		case '0' <= c && c <= '9':
			unit |= uint16(c - '0')
		case 'a' <= c && c <= 'f':
			unit |= uint16(c-'a') + 10
		case 'A' <= c && c <= 'F':
			unit |= uint16(c-'A') + 10
		default:
			return 0, false
		}
	}
	return unit, true
}

func isHighSurrogate(unit uint16) bool { return 0xd800 <= unit && unit < 0xdc00 }
func isLowSurrogate(unit uint16) bool  { return 0xdc00 <= unit && unit < 0xe000 }
