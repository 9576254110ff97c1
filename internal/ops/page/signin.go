package page

import (
	"net/http"
	"net/url"
	"strings"

	"ingestd/internal/fhir"
	"ingestd/internal/ops"
)

// maxName bounds what an operator is called.
const maxName = 100

// signInBody is what the sign-in form shows.
type signInBody struct {
	Next  string
	Name  string
	Error string
	Hint  string
}

func (p *Page) signInForm(w http.ResponseWriter, r *http.Request) {
	v := &visit{page: p, w: w, r: r}
	if problem := p.options.Guard.CheckHost(r); problem != nil {
		v.problem(problem)
		return
	}
	next := localPath(r.URL.Query().Get("next"))
	if v.session = p.sessions.of(r); !v.session.isZero() {
		http.Redirect(w, r, next, http.StatusSeeOther) //nolint:gosec // localPath has seen that it is one of this listener
		return
	}
	v.showSignIn(http.StatusOK, signInBody{Next: next})
}

func (v *visit) showSignIn(status int, body signInBody) {
	if err := v.show(status, "sign-in", v.chrome("Sign in", "", body)); err != nil {
		v.fail(err)
	}
}

// signIn takes the admin token and the operator's name, and gives a session. Wrong tokens are counted with the API's.
func (p *Page) signIn(w http.ResponseWriter, r *http.Request) {
	v := &visit{page: p, w: w, r: r}
	if problem := v.checkForm(); problem != nil {
		v.problem(problem)
		return
	}
	body := signInBody{Next: localPath(r.PostForm.Get("next")), Name: fhir.Printable(strings.TrimSpace(r.PostForm.Get("operator")), maxName)}
	if body.Name == "" {
		body.Error, body.Hint = "A name is needed.", "It stands in the audit beside what you do."
		v.showSignIn(http.StatusUnprocessableEntity, body)
		return
	}
	if problem := p.options.Guard.CheckToken(r.RemoteAddr, r.PostForm.Get("token")); problem != nil {
		body.Error, body.Hint = "That is not the admin token.", "It is what admin.token of the daemon's configuration refers to."
		if problem.Status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "5")
			body.Error, body.Hint = "Too many attempts from this address.", "Wait some seconds; until then, the right token is refused, too."
		}
		p.options.Logger.WarnContext(r.Context(), "status page: a sign-in was refused", "remote", v.actor().RemoteAddress, "code", problem.Code)
		v.showSignIn(problem.Status, body)
		return
	}
	p.sessions.give(w, r, body.Name)
	p.options.Logger.InfoContext(r.Context(), "status page: an operator signed in", "operator", body.Name, "remote", v.actor().RemoteAddress)
	http.Redirect(w, r, body.Next, http.StatusSeeOther)
}

func (p *Page) signOut(w http.ResponseWriter, r *http.Request) {
	v := &visit{page: p, w: w, r: r, session: p.sessions.of(r)}
	if problem := v.checkForm(); problem != nil {
		v.problem(problem)
		return
	}
	if !v.session.isZero() {
		if problem := v.checkCSRF(); problem != nil {
			v.problem(problem)
			return
		}
		p.sessions.end(w, r, v.session)
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// checkForm refuses a form that does not come from a page of this listener, and reads it.
func (v *visit) checkForm() *ops.Problem {
	if problem := v.page.options.Guard.CheckHost(v.r); problem != nil {
		return problem
	}
	if problem := v.page.options.Guard.CheckOrigin(v.r); problem != nil {
		return &ops.Problem{
			Code: problem.Code, Message: "This form was sent from a page of another origin.", Status: problem.Status,
			Hint: "Open the status page under one name only. A proxy has to pass on the Host that the browser asked for.",
		}
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm)
	if err := v.r.ParseForm(); err != nil {
		return &ops.Problem{Code: ops.CodeBadRequest, Message: "The form cannot be read.", Status: http.StatusBadRequest}
	}
	return nil
}

// checkCSRF refuses a form that was not made for this session.
func (v *visit) checkCSRF() *ops.Problem {
	if v.page.sessions.isCSRF(v.session, v.r.PostForm.Get("csrf")) {
		return nil
	}
	return &ops.Problem{
		Code: "csrf", Message: "This form does not belong to your sign-in.", Status: http.StatusForbidden,
		Hint: "Load the page again, and repeat what you did.",
	}
}

// localPath is where to go on, if that is a path of this listener, and the overview otherwise.
func localPath(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(u.Path, "/") ||
		strings.HasPrefix(text, "//") || strings.ContainsAny(text, "\\\r\n\t") || strings.HasPrefix(u.Path, "//") {
		return "/"
	}
	return u.RequestURI()
}
