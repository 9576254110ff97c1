package config

import (
	"fmt"
	"strings"
)

// suggest names the known key that is nearest to an unknown one, or lists them all where none is near.
func suggest(name string, known []string) string {
	best, distance := "", max(2, len(name)/3)+1
	for _, key := range known {
		if n := editDistance(name, key); n < distance {
			best, distance = key, n
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	return "expected one of " + strings.Join(known, ", ")
}

// editDistance is the Levenshtein distance of two names, where swapped neighbours count as one edit. A name too long to
// be a slip for the other is far away without further looking.
func editDistance(a, b string) int {
	if len(a) > 2*len(b)+2 {
		return len(a)
	}
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			substitution := row[j]
			if a[i] != b[j] {
				substitution++
			}
			next[j+1] = min(next[j]+1, row[j+1]+1, substitution)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
