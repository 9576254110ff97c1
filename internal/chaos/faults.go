package chaos

import (
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"ingestd/internal/payersim"
)

// calm is a payer that behaves.
func calm() payersim.Faults {
	return payersim.Faults{ExportDuration: 500 * time.Millisecond, RetryAfter: time.Second, BytesPerSecond: 500_000}
}

// misbehaviour changes how a payer behaves. Each is by itself survivable: what it spoils is tried again, or fails openly, and a
// later export makes up for it.
type misbehaviour func(r *rand.Rand, f *payersim.Faults, foreign string)

// misbehaviours are all that payers may do, by the names under which they are counted.
var misbehaviours = map[string]misbehaviour{
	"token endpoint fails": func(r *rand.Rand, f *payersim.Faults, _ string) { f.TokenEndpointFailFirst = 1 + r.IntN(3) },
	"token answer is lost": func(_ *rand.Rand, f *payersim.Faults, _ string) {
		f.Token.Answers = []payersim.Answer{{Reset: "granted"}}
	},
	"tokens die early": func(r *rand.Rand, f *payersim.Faults, _ string) { f.RevokeTokensAfter = 2 + r.IntN(6) },
	"kick-off is refused for a while": func(r *rand.Rand, f *payersim.Faults, _ string) {
		f.KickOffFailFirst = 1 + r.IntN(2)
	},
	"kick-off's answer is lost": func(_ *rand.Rand, f *payersim.Faults, _ string) {
		f.KickOff.Answers = []payersim.Answer{{Reset: "granted"}}
	},
	"kick-off is refused": func(_ *rand.Rand, f *payersim.Faults, _ string) {
		f.KickOff.Answers = []payersim.Answer{{Status: http.StatusBadRequest, Body: `{"resourceType":"OperationOutcome","issue":[]}`}}
	},
	"status relative": func(_ *rand.Rand, f *payersim.Faults, _ string) { f.KickOff.ContentLocation = "relative" },
	"status abroad":   func(_ *rand.Rand, f *payersim.Faults, foreign string) { f.KickOff.ContentLocation = foreign },
	"status fails":    func(r *rand.Rand, f *payersim.Faults, _ string) { f.StatusFailFirst = 1 + r.IntN(4) },
	"status says too many requests": func(_ *rand.Rand, f *payersim.Faults, _ string) {
		f.Status.Answers = []payersim.Answer{{Status: http.StatusTooManyRequests, Times: 2, Headers: map[string]string{"Retry-After": "1"}}}
	},
	"job is lost": func(_ *rand.Rand, f *payersim.Faults, _ string) {
		f.Status.Answers = []payersim.Answer{{Status: http.StatusNotFound, Times: 8}}
	},
	"manifest is HTML": func(_ *rand.Rand, f *payersim.Faults, _ string) {
		f.Status.Answers = []payersim.Answer{{Headers: map[string]string{"Content-Type": "text/html"}, Body: "<html>we are back soon</html>"}}
	},
	"manifest in pages":   func(r *rand.Rand, f *payersim.Faults, _ string) { f.Manifest.FilesPerPage = 1 + r.IntN(3) },
	"manifest repeats":    func(_ *rand.Rand, f *payersim.Faults, _ string) { f.Manifest.Repeat = 1 },
	"manifest counts off": func(_ *rand.Rand, f *payersim.Faults, _ string) { f.Manifest.CountOff = 1 },
	"files abroad":        func(_ *rand.Rand, f *payersim.Faults, foreign string) { f.Manifest.Origin = foreign },
	"empty files":         func(r *rand.Rand, f *payersim.Faults, _ string) { f.Manifest.EmptyFiles = 1 + r.IntN(4) },
	"files fail":          func(r *rand.Rand, f *payersim.Faults, _ string) { f.FileFailFirst = 1 + r.IntN(6) },
	"files break off":     func(r *rand.Rand, f *payersim.Faults, _ string) { f.CutFileAtByte = 1 + r.Int64N(60_000) },
	"files end early":     func(r *rand.Rand, f *payersim.Faults, _ string) { f.File.End, f.File.EndAt = "eof", 1+r.Int64N(60_000) },
	"ranges are ignored": func(r *rand.Rand, f *payersim.Faults, _ string) {
		f.File.Range, f.CutFileAtByte = "ignored", 1+r.Int64N(60_000)
	},
	"ranges are wrong": func(r *rand.Rand, f *payersim.Faults, _ string) {
		f.File.Range, f.CutFileAtByte = "wrong", 1+r.Int64N(60_000)
	},
	"gzip is corrupt once":  func(_ *rand.Rand, f *payersim.Faults, _ string) { f.File.Gzip, f.File.GzipTimes = "corrupt", 1 },
	"gzip is cut once":      func(_ *rand.Rand, f *payersim.Faults, _ string) { f.File.Gzip, f.File.GzipTimes = "truncated", 1 },
	"nothing is compressed": func(_ *rand.Rand, f *payersim.Faults, _ string) { f.File.Gzip = "none" },
	"odd line ends": func(r *rand.Rand, f *payersim.Faults, _ string) {
		f.File.Text = []string{"crlf", "bom", "blank_lines", "no_final_newline"}[r.IntN(4)]
	},
	"links expire": func(r *rand.Rand, f *payersim.Faults, _ string) { f.File.ExpireAfter = 1 + r.IntN(2) },
	"slow files":   func(r *rand.Rand, f *payersim.Faults, _ string) { f.BytesPerSecond = 30_000 + r.Int64N(60_000) },
	"slow exports": func(r *rand.Rand, f *payersim.Faults, _ string) {
		f.ExportDuration = time.Duration(2+r.IntN(6)) * time.Second
	},
	"DELETE fails": func(_ *rand.Rand, f *payersim.Faults, _ string) {
		f.Delete.Answers = []payersim.Answer{{Status: 500, Times: 2}}
	},
	"bad lines": func(r *rand.Rand, f *payersim.Faults, _ string) {
		f.BadLines = []payersim.BadLine{
			{Type: "Coverage", AfterLine: r.IntN(5), Raw: `{"resourceType":"Coverage","id":"` + strings.Repeat("x", 300) + `"}`},
			{Type: "ExplanationOfBenefit", AfterLine: r.IntN(50), Raw: `{"resourceType":"ExplanationOfBenefit","id":"torn","x":`},
		}
	},
}

// misbehave is a random fault plan of one to three misbehaviours, and their names.
func misbehave(r *rand.Rand, foreign string) (payersim.Faults, []string) {
	names := slices.Sorted(maps.Keys(misbehaviours)) // by name: a map has no order that a seed could repeat
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	names = names[:1+r.IntN(3)]
	f := calm()
	for _, name := range names {
		misbehaviours[name](r, &f, foreign)
	}
	return f, names
}
