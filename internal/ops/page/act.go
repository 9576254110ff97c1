package page

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"ingestd/internal/scheduler"
	"ingestd/internal/store"
)

// change makes a handler of a form that changes something. act returns where to go on.
func (p *Page) change(act func(ctx context.Context, v *visit) (string, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := &visit{page: p, w: w, r: r, session: p.sessions.of(r)}
		if problem := v.checkForm(); problem != nil {
			v.problem(problem)
			return
		}
		if v.session.isZero() {
			// Without a token, too: the audit wants a name, and the form a session that it belongs to.
			http.Redirect(w, r, "/sign-in?next="+url.QueryEscape(v.back()), http.StatusSeeOther)
			return
		}
		if problem := v.checkCSRF(); problem != nil {
			v.problem(problem)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		next, err := act(ctx, v)
		if err != nil {
			v.fail(err)
			return
		}
		p.known.forget() // what was read before is no longer so
		http.Redirect(w, r, next, http.StatusSeeOther)
	})
}

// back is the page that a form was sent from.
func (v *visit) back() string {
	if back := v.r.PostForm.Get("back"); back != "" {
		return localPath(back)
	}
	// With what the overview was filtered by. checkForm has seen that it is of this origin.
	if from, err := url.Parse(v.r.Referer()); err == nil && from.Host == v.r.Host {
		return localPath(from.RequestURI())
	}
	return "/"
}

// doneAt is where to go on after an act, with what it did.
func doneAt(path, done string) string {
	u, err := url.Parse(path)
	if err != nil {
		return "/"
	}
	query := u.Query()
	query.Set("done", done)
	u.RawQuery = query.Encode()
	return u.String()
}

// doneTexts are what pages say that an act did.
var doneTexts = map[string]string{
	"run": "An export was enqueued.", "run-full": "A full export was enqueued.", "pause": "The payer's schedules rest now.",
	"resume": "The payer's schedules go on.", "nothing": "Nothing had to be changed.",
	"cancel": "The export was canceled.", "release": "The export was released: it is going to be published.",
	"reject": "The export was rejected.", "retry": "This export asks again for what the other one asked for.",
}

func doneText(done string) string { return doneTexts[done] }

func (p *Page) actOnPayer(ctx context.Context, v *visit) (string, error) {
	name, act := v.r.PathValue("name"), v.r.PathValue("act")
	d, by := p.options.Direct, v.actor()
	switch act {
	case "run", "run-full":
		if _, err := d.Start(ctx, name, scheduler.RunOptions{Full: act == "run-full", By: by}); err != nil {
			return "", err
		}
		return doneAt(v.back(), act), nil
	case "pause", "resume":
		rest := d.Pause
		if act == "resume" {
			rest = d.Resume
		}
		names, err := rest(ctx, name, by)
		if err != nil {
			return "", err
		}
		if len(names) == 0 {
			act = "nothing"
		}
		return doneAt(v.back(), act), nil
	}
	return "", errNoPage
}

func (p *Page) actOnExport(ctx context.Context, v *visit) (string, error) {
	id, err := exportID(v.r)
	if err != nil {
		return "", err
	}
	d, by := p.options.Direct, v.actor()
	act := v.r.PathValue("act")
	if act == "retry" {
		retried, err := d.Retry(ctx, id, by)
		if err != nil {
			return "", err
		}
		return doneAt(exportPath(retried), act), nil
	}
	decide, ok := map[string]func(context.Context, int64, store.Actor) error{
		"cancel": d.Cancel, "release": d.Release, "reject": d.Reject,
	}[act]
	if !ok {
		return "", errNoPage
	}
	if err := decide(ctx, id, by); err != nil {
		return "", err
	}
	return doneAt(exportPath(id), act), nil
}

func exportPath(id int64) string { return "/exports/" + strconv.FormatInt(id, 10) }

func exportID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id <= 0 {
		return 0, errNoPage
	}
	return id, nil
}

// confirmBody asks before an act that is not to be undone.
type confirmBody struct {
	Question, Explains, Button string
	Action, Back               string
	Danger                     bool
}

// confirmPage asks whether an operator means it.
func (p *Page) confirmPage(v *visit) error {
	if v.session.isZero() {
		v.toSignIn()
		return nil
	}
	act, name := v.r.PathValue("act"), v.r.PathValue("name")
	if name != "" {
		if act != "run-full" || !p.hasPayer(name) {
			return errNoPage
		}
		return v.show(http.StatusOK, "confirm", v.chrome("Run "+name+" in full?", "", confirmBody{
			Question: "Ask " + name + " for all of its data?", Button: "Run in full",
			Explains: "A full export takes longer than an incremental one, and removes what the payer no longer has where load.remove_ghosts says so.",
			Action:   "/payers/" + name + "/run-full", Back: "/payers/" + name,
		}))
	}
	id, err := exportID(v.r)
	if err != nil {
		return err
	}
	x, err := p.export(v.r.Context(), id)
	if err != nil {
		return err
	}
	number := strconv.FormatInt(id, 10)
	body := confirmBody{Action: exportPath(id) + "/" + act, Back: exportPath(id)}
	switch act {
	case "cancel":
		body.Question, body.Button, body.Danger = "Cancel export "+number+" of "+x.Value.Payer+"?", "Cancel the export", true
		body.Explains = "It ends here and at the payer. What was staged is dropped; what is published stays as it is."
	case "release":
		body.Question, body.Button = "Publish export "+number+" of "+x.Value.Payer+" as it is?", "Release"
		body.Explains = "It was held back for this reason: " + x.Value.errorText() + " A release publishes it nevertheless."
	case "reject":
		body.Question, body.Button, body.Danger = "Reject export "+number+" of "+x.Value.Payer+"?", "Reject", true
		body.Explains = "It ends without being published. What is published stays as it is; the next export asks again."
	case "retry":
		body.Question, body.Button = "Retry export "+number+" of "+x.Value.Payer+"?", "Retry"
		body.Explains = "A new export asks for the same as this one did."
	default:
		return errNoPage
	}
	return v.show(http.StatusOK, "confirm", v.chrome(body.Question, "", body))
}

func (p *Page) hasPayer(name string) bool {
	for _, payer := range p.options.Direct.Payers() {
		if payer.Name == name {
			return true
		}
	}
	return false
}
