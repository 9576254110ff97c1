package smartauth

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"ingestd/internal/config"
)

// origin is scheme, host and port of a URL, in one form: the unit that a token is confined to.
type origin struct{ scheme, host, port string }

func originOf(u *url.URL) origin {
	scheme := strings.ToLower(u.Scheme)
	port := u.Port()
	if port == "" {
		switch scheme {
		case "https":
			port = "443"
		case "http":
			port = "80"
		}
	}
	return origin{scheme: scheme, host: config.ComparableHost(u.Hostname()), port: port}
}

// parseOrigin reads an origin from a URL, or from host or host:port, which mean https.
func parseOrigin(text string) (origin, error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := parseEndpoint(text)
	if err != nil {
		return origin{}, err
	}
	return originOf(u), nil
}

// parseEndpoint parses an absolute URL that credentials may be sent to: https, or http on loopback.
func parseEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("it is not a URL") // the parser's message quotes the whole of it
	}
	if err := checkEndpoint(u); err != nil {
		return nil, err
	}
	return u, nil
}

func checkEndpoint(u *url.URL) error {
	switch {
	case u.Host == "" || u.Hostname() == "":
		return errors.New("it has no host")
	case u.User != nil:
		return errors.New("it holds a user name or password")
	case u.Fragment != "":
		return errors.New("it has a fragment")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && config.IsLoopbackHost(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return errors.New("it is http: https is required except on loopback")
	default:
		return fmt.Errorf("its scheme is %q: https is required", truncate(u.Scheme, 20))
	}
}

// headersFor sets the payer's extra headers on a request to the FHIR server's own origin, and takes them off one that a
// redirect led elsewhere.
func headersFor(request *http.Request, home origin, headers map[string]string) {
	same := originOf(request.URL) == home
	for name, value := range headers {
		if same {
			request.Header.Set(name, value)
		} else {
			request.Header.Del(name)
		}
	}
}

func hostOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	host := u.Host
	if name, port, err := net.SplitHostPort(host); err == nil && port == "443" {
		return name
	}
	return host
}
