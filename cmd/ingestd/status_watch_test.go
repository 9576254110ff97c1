package main

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFitScreen_never_draws_more_rows_than_the_terminal_has_and_says_what_is_left_out(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, "payer%d  idle%s\n", i, strings.Repeat(" x", i%30))
	}
	text := b.String()
	for _, size := range [][2]int{{80, 24}, {40, 10}, {20, 3}, {10, 2}, {200, 101}, {80, 500}, {0, 0}} {
		width, height := size[0], size[1]
		got := fitScreen(text, width, height)
		if height == 0 || height >= 101 && width == 200 || height == 500 {
			if got != text {
				t.Errorf("%dx%d: something was cut although there is room", width, height)
			}
			continue
		}
		rows, shown := 0, 0
		for line := range strings.Lines(got) {
			rows += max(1, (utf8.RuneCountInString(strings.TrimSuffix(line, "\n"))+width-1)/width)
			if strings.HasPrefix(line, "payer") {
				shown++
			}
		}
		if rows > height-1 {
			t.Errorf("%dx%d: %d rows are drawn", width, height, rows)
		}
		if want := fmt.Sprintf("… %d lines more", 100-shown); !strings.Contains(got, want[:min(len(want), width)]) {
			t.Errorf("%dx%d: want %q in\n%s", width, height, want, got)
		}
	}
}
