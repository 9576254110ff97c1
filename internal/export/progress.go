package export

import (
	"strconv"
	"strings"

	"ingestd/internal/fhir"
)

// maxProgress is how much of an X-Progress header is kept, in bytes.
const maxProgress = 200

// parseProgress cleans the text of an X-Progress header and reads a percentage out of it: "50% complete",
// "RUNNING: 12.00%", "In Progress (80 %)", "3 of 4", "3/4", or a plain number up to 100; -1 where there is none. The
// specification promises no format, so nothing is ever decided by it (POLL-3).
func parseProgress(header string) (text string, percent float64) {
	text = fhir.Printable(header, maxProgress)
	if before, _, found := strings.Cut(text, "%"); found {
		if value, ok := numberAtEnd(before); ok && value <= 100 {
			return text, value
		}
		return text, -1
	}
	if value, err := strconv.ParseFloat(text, 64); err == nil {
		if value >= 0 && value <= 100 {
			return text, value
		}
		return text, -1
	}
	for _, separator := range []string{" of ", "/"} {
		before, after, found := strings.Cut(text, separator)
		if !found {
			continue
		}
		done, ok := numberAtEnd(before)
		all, ok2 := numberAtStart(after)
		if ok && ok2 && all > 0 && done <= all {
			return text, 100 * done / all
		}
	}
	return text, -1
}

func isNumeric(c byte) bool { return '0' <= c && c <= '9' || c == '.' || c == ',' }

// numberAtEnd reads the number that text ends with.
func numberAtEnd(text string) (float64, bool) {
	text = strings.TrimRight(text, " ")
	start := len(text)
	for start > 0 && isNumeric(text[start-1]) {
		start--
	}
	value, ok := plainNumber(text[start:])
	return value, ok && (start == 0 || text[start-1] != '-')
}

// numberAtStart reads the number that text starts with.
func numberAtStart(text string) (float64, bool) {
	text = strings.TrimLeft(text, " ")
	end := 0
	for end < len(text) && isNumeric(text[end]) {
		end++
	}
	return plainNumber(text[:end])
}

// plainNumber reads digits with a decimal point or comma.
func plainNumber(text string) (float64, bool) {
	value, err := strconv.ParseFloat(strings.Replace(text, ",", ".", 1), 64)
	return value, err == nil
}
