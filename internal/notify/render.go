package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/template"
	"time"

	"ingestd/internal/config"
)

// maxBody bounds a rendered body: a template may loop.
const maxBody = 256 << 10

// render writes the body of an event for a target.
type render func(Event) ([]byte, error)

// newRender returns how a target's body is written. It fails where the target's own template does not fit events of every kind.
func newRender(target config.Notify) (render, error) {
	switch {
	case target.Body != "":
		return newTemplate(target.Body)
	case target.Template == "slack":
		return renderSlack, nil
	default:
		return renderJSON, nil
	}
}

func renderJSON(e Event) ([]byte, error) { return marshal(e) }

// marshal writes JSON in which < and > stand as they are.
func marshal(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	return bytes.TrimRight(out.Bytes(), "\n"), nil
}

// newTemplate parses a target's own template, and tries it on an event of each kind.
func newTemplate(text string) (render, error) {
	functions := template.FuncMap{"json": func(value any) (string, error) {
		text, err := marshal(value)
		return string(text), err
	}}
	parsed, err := template.New("body").Funcs(functions).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the template: %w", err)
	}
	execute := func(e Event) ([]byte, error) {
		out := &bounded{}
		if err := parsed.Execute(out, e); err != nil {
			return nil, fmt.Errorf("fill in the template: %w", err)
		}
		return out.Bytes(), nil
	}
	for _, kind := range []Kind{Failed, Held, Stale, Recovered, Test} {
		if _, err := execute(Sample(kind, time.Now())); err != nil {
			return nil, fmt.Errorf("event %s: %w", kind, err)
		}
	}
	return execute, nil
}

// bounded is a buffer of at most maxBody bytes.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxBody {
		return 0, fmt.Errorf("it writes more than %d bytes", maxBody)
	}
	return b.Buffer.Write(p)
}

// renderSlack writes a message as chat systems take it that read what Slack reads: {"text": …} in its mrkdwn.
func renderSlack(e Event) ([]byte, error) {
	return marshal(map[string]string{"text": message(e)})
}

// escapeSlack escapes what Slack's mrkdwn gives a meaning to.
var escapeSlack = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// message says in one or two lines what happened.
func message(e Event) string {
	payer := "*" + escapeSlack.Replace(e.Payer) + "*"
	var lines []string
	switch e.Event {
	case Failed:
		lines = append(lines, fmt.Sprintf(":x: %s: %s failed: `%s`", payer, exportText(e.Export), escapeSlack.Replace(e.Code)))
	case Held:
		text := fmt.Sprintf(":raised_hand: %s: %s is held back: somebody has to decide", payer, exportText(e.Export))
		if e.Export != nil && e.Export.Rows > 0 {
			text += fmt.Sprintf(". It would remove %d of %d rows", e.Export.Ghosts, e.Export.Rows)
		}
		lines = append(lines, text)
	case Stale:
		text := fmt.Sprintf(":hourglass: %s is stale: nothing was published for more than %s", payer, duration(e.FreshnessSLOSeconds))
		if e.LastSuccess != nil {
			text += ", the last on " + e.LastSuccess.UTC().Format("2006-01-02 15:04 UTC")
		}
		lines = append(lines, text)
	case Recovered:
		lines = append(lines, fmt.Sprintf(":white_check_mark: %s has recovered: %s is published%s", payer, exportText(e.Export), over(e)))
	case Test:
		lines = append(lines, ":wave: a test of ingestd's notifications")
	}
	if e.Hint != "" {
		lines = append(lines, "What to do: "+escapeSlack.Replace(e.Hint))
	}
	return strings.Join(lines, "\n")
}

func exportText(x *Export) string {
	if x == nil {
		return "an export"
	}
	return "export " + strconv.FormatInt(x.ID, 10)
}

// over says what is over, and for how long it lasted.
func over(e Event) string {
	if len(e.Incidents) == 0 {
		return ""
	}
	first := e.Incidents[0].OpenedAt
	kinds := make([]string, 0, len(e.Incidents))
	for _, i := range e.Incidents {
		kinds = append(kinds, string(i.Event))
		if i.OpenedAt.Before(first) {
			first = i.OpenedAt
		}
	}
	return fmt.Sprintf(", after %s of being %s", duration(e.OccurredAt.Sub(first).Seconds()), strings.Join(kinds, " and "))
}

// duration writes a duration to the minute, or to the second where it is shorter.
func duration(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	if d < time.Minute {
		return d.String()
	}
	d = d.Round(time.Minute)
	return strings.TrimSuffix(d.String(), "0s")
}
