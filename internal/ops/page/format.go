package page

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"ingestd/internal/fhir"
	"ingestd/internal/store"
)

// functions are what templates call.
var functions = template.FuncMap{
	"ago":   func(t any) template.HTML { return moment(t, "ago") },
	"in":    func(t any) template.HTML { return moment(t, "in") },
	"age":   func(t any) template.HTML { return moment(t, "age") },
	"at":    func(t any) template.HTML { return moment(t, "at") },
	"count": count[int64], "number": func(n int) string { return count(int64(n)) }, "bytes": byteCount, "duration": duration,
	"seconds": func(s float64) string { return duration(time.Duration(s * float64(time.Second))) },
	"plural":  plural, "printable": printable, "took": took, "skew": skew, "changed": changed,
	"join": strings.Join, "tone": func(state string) string { return kindOf(store.State(state)) }, "toInt64": func(n int) int64 { return int64(n) },
}

// maxText bounds what is shown of a text that a payer sent.
const maxText = 2000

// moment writes an instant as an element that says how long ago it is, or in how long, which the script keeps up to date.
func moment(t any, form string) template.HTML {
	var at time.Time
	switch t := t.(type) {
	case time.Time:
		at = t
	case *time.Time:
		if t != nil {
			at = *t
		}
	}
	if at.IsZero() {
		return `<span class="none">–</span>`
	}
	at = at.UTC()
	text, now := "", time.Now()
	switch form {
	case "ago":
		text = duration(now.Sub(at)) + " ago"
	case "age":
		text = duration(now.Sub(at))
	case "in":
		if text = "due"; at.After(now) {
			text = "in " + duration(at.Sub(now))
		}
	case "at":
		text = at.Format("2006-01-02 15:04:05")
	}
	stamp := at.Format(time.RFC3339)
	attribute := ""
	if form != "at" {
		attribute = ` data-form="` + form + `"`
	}
	//nolint:gosec // numbers, and texts of this function
	return template.HTML(`<time datetime="` + stamp + `" title="` + at.Format("2006-01-02 15:04:05 UTC") + `"` + attribute + `>` + text + `</time>`)
}

// duration writes a duration with the two units that matter: 3d 4h, 2h 5m, 7m 30s, 12s.
func duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return units(int(d.Minutes()), "m", int(d.Seconds())%60, "s")
	case d < 24*time.Hour:
		return units(int(d.Hours()), "h", int(d.Minutes())%60, "m")
	}
	return units(int(d.Hours())/24, "d", int(d.Hours())%24, "h")
}

func units(n int, unit string, rest int, unitOfRest string) string {
	text := strconv.Itoa(n) + unit
	if rest > 0 {
		text += "\u00a0" + strconv.Itoa(rest) + unitOfRest
	}
	return text
}

// byteCount writes a number of bytes in units of 1000: 12 B, 3.4 MB.
func byteCount(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10) + "\u00a0B"
	}
	value, names := float64(n)/1000, []string{"kB", "MB", "GB", "TB"}
	for len(names) > 1 && value >= 999.95 {
		value, names = value/1000, names[1:]
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + "\u00a0" + names[0]
}

// count writes a number with its thousands apart.
func count[N int | int64](n N) string {
	text := strconv.FormatInt(int64(n), 10)
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}

// share is a part of a whole in percent, where both are known.
func share(part, whole int64) int {
	if whole <= 0 {
		return -1
	}
	return int(math.Floor(100 * float64(min(part, whole)) / float64(whole)))
}

// printable makes text that a payer sent safe to show: no control characters, and not endless.
func printable(s string) string { return fhir.Printable(s, maxText) }

// took is a duration where it is worth a word.
func took(d time.Duration) string {
	if d < time.Second {
		return ""
	}
	return duration(d)
}

// skew is by how much a server's clock is wrong, where it is.
func skew(d time.Duration) string {
	switch {
	case d >= time.Second:
		return duration(d) + " ahead"
	case d <= -time.Second:
		return duration(-d) + " behind"
	}
	return ""
}
