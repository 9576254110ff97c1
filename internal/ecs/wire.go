package ecs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// callTimeout bounds one request: the agent asks ECS in turn.
	callTimeout = 10 * time.Second
	maxAnswer   = 64 << 10
)

// state is the body of a request.
type state struct {
	ProtectionEnabled bool `json:"ProtectionEnabled"`          //nolint:tagliatelle // the agent's names
	ExpiresInMinutes  int  `json:"ExpiresInMinutes,omitempty"` //nolint:tagliatelle // the agent's names
}

// answer is the body of an answer, of which one member is there.
type answer struct {
	Protection *struct {
		ProtectionEnabled bool `json:"ProtectionEnabled"`
	} `json:"protection"`
	Failure *struct {
		Reason string `json:"Reason"`
		Detail string `json:"Detail"`
	} `json:"failure"`
	Error *struct {
		Code    string `json:"Code"`
		Message string `json:"Message"`
	} `json:"error"`
}

// agent is the endpoint of the agent.
type agent struct {
	url  string
	http *http.Client
}

func newAgent(uri string) (*agent, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("ECS_AGENT_URI is not an http URL")
	}
	return &agent{url: strings.TrimRight(uri, "/") + "/task-protection/v1/state", http: &http.Client{
		Transport:     &http.Transport{MaxIdleConns: 1, IdleConnTimeout: time.Minute}, // it is on the host: no proxy leads there
		Timeout:       callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// put sets the protection. A service may refuse it in an answer that is otherwise a good one.
func (a *agent) put(ctx context.Context, s state) error {
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("set the protection: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, a.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("set the protection: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := a.http.Do(request)
	if err != nil {
		return fmt.Errorf("the agent of ECS does not answer: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	var got answer
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err == nil {
		err = json.Unmarshal(text, &got)
	}
	switch {
	case got.Error != nil:
		return fmt.Errorf("the agent of ECS answers %d: %s: %s", response.StatusCode, got.Error.Code, got.Error.Message)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("the agent of ECS answers %d", response.StatusCode)
	case got.Failure != nil:
		return fmt.Errorf("ECS refuses: %s %s", got.Failure.Reason, got.Failure.Detail)
	case err != nil:
		return fmt.Errorf("the answer of the agent of ECS cannot be read: %w", err)
	case got.Protection == nil || got.Protection.ProtectionEnabled != s.ProtectionEnabled:
		return errors.New("the agent of ECS answers, and has not done what it was asked for")
	}
	return nil
}
