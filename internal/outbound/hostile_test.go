package outbound

import (
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// answerRaw is a server that reads a request's header and answers with whatever write writes, until the client has gone.
func answerRaw(t *testing.T, write func(w io.Writer) error) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4<<10))
			for write(conn) == nil {
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-served })
	return "http://" + listener.Addr().String() + "/fhir"
}

//nolint:paralleltest // it measures what the process allocates
func TestTransport_bounds_a_header_that_never_ends(t *testing.T) {
	const most = 32 << 20
	lines := strings.Repeat("X-Progress: "+strings.Repeat("x", 1000)+"\r\n", 60)
	for name, start := range map[string]struct{ start, more string }{
		"many lines":   {"HTTP/1.1 200 OK\r\n", lines},
		"one line":     {"HTTP/1.1 202 Accepted\r\nX-Progress: ", strings.Repeat("x", 64<<10)},
		"a status":     {"HTTP/1.1 200 ", strings.Repeat("O", 64<<10)},
		"1xx answers":  {"", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 1000)},
		"100 Continue": {"", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1000)},
	} {
		t.Run(name, func(t *testing.T) {
			started := false
			url := answerRaw(t, func(w io.Writer) error {
				if !started {
					started = true
					if _, err := io.WriteString(w, start.start); err != nil {
						return err
					}
				}
				_, err := io.WriteString(w, start.more)
				return err
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := tryOnce(ctx, t, url, Options{})
			runtime.ReadMemStats(&after)
			if err == nil || ctx.Err() != nil {
				t.Fatalf("got %v, want the transport to refuse it by itself", err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > most {
				t.Errorf("allocated %d MiB, want at most %d", got>>20, most>>20)
			}
		})
	}
}

func TestTransport_bounds_the_time_of_a_header_that_comes_byte_by_byte(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]string{"a header": "HTTP/1.1 200 OK\r\nX: ", "1xx answers": "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 103 "} {
		started := false
		url := answerRaw(t, func(w io.Writer) error {
			text := "x"
			if !started {
				started, text = true, start
			}
			time.Sleep(time.Millisecond) // a slow server is what this is about
			_, err := io.WriteString(w, text)
			return err
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := tryOnce(ctx, t, url, Options{ResponseHeaderTimeout: 100 * time.Millisecond})
		if err == nil || ctx.Err() != nil {
			t.Errorf("%s: got %v, want the transport to give up by itself", name, err)
		}
		cancel()
	}
}

// tryOnce sends one request, and returns the error that it ends with.
func tryOnce(ctx context.Context, t *testing.T, url string, o Options) error {
	t.Helper()
	o.FHIRURL = url
	transport, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err == nil {
		_ = response.Body.Close()
	}
	return err
}
