package export

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestFILE5_encodings(t *testing.T) {
	t.Parallel()
	half := len(twoPatients) / 2
	for _, test := range []struct {
		name, header, body, encoding string
		code                         string
		action                       Action
	}{
		{"plain", "", twoPatients, "", "", 0},
		{"identity", "identity", twoPatients, "", "", 0},
		{"gzip", "gzip", zip(t, twoPatients), "gzip", "", 0},
		{"x-gzip", "X-GZIP", zip(t, twoPatients), "gzip", "", 0},
		{"gzip without a header", "", zip(t, twoPatients), "gzip", "", 0},
		{"plain under a gzip header", "gzip", twoPatients, "", "", 0},
		{"members", "gzip", zip(t, twoPatients[:half]) + zip(t, twoPatients[half:]), "gzip", "", 0},
		{"an empty member more", "gzip", zip(t, twoPatients) + zip(t, ""), "gzip", "", 0},
		{"an empty member first", "gzip", zip(t, "") + zip(t, twoPatients), "gzip", "", 0},
		{"compressed twice", "gzip", zip(t, zip(t, twoPatients)), "gzip, gzip", "", 0},
		{"a list without spaces", "gzip,gzip", zip(t, zip(t, twoPatients)), "gzip, gzip", "", 0},
		{"what an upload in chunks leaves in a store", "aws-chunked", twoPatients, "", "", 0},
		{"the same, compressed", "gzip,aws-chunked", zip(t, twoPatients), "gzip", "", 0},
		{"brotli", "br", "\x0b\x02", "", CodeFileEncoding, ActionFail},
		{"brotli in a list", "gzip, br", "\x0b\x02", "", CodeFileEncoding, ActionFail},
		{"cut in the trailer", "gzip", zip(t, twoPatients)[:len(zip(t, twoPatients))-3], "", CodeFileTruncated, ActionRetry},
		{"cut in the data", "gzip", zip(t, twoPatients)[:30], "", CodeFileTruncated, ActionRetry},
		{"cut in the header", "gzip", zip(t, twoPatients)[:5], "", CodeFileTruncated, ActionRetry},
		{"cut in the second member", "gzip", zip(t, twoPatients) + zip(t, twoPatients)[:12], "", CodeFileTruncated, ActionRetry},
		{"garbage behind", "gzip", zip(t, twoPatients) + "garbage behind it", "", CodeFileCorrupt, ActionRetry},
		{"wrong CRC", "gzip", zip(t, twoPatients)[:len(zip(t, twoPatients))-8] + "\x00\x00\x00\x00" +
			zip(t, twoPatients)[len(zip(t, twoPatients))-4:], "", CodeFileCorrupt, ActionRetry},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			header := map[string]string{"Content-Type": "application/fhir+ndjson"}
			if test.header != "" {
				header["Content-Encoding"] = test.header
			}
			p := newPayer(t, answer(200, header, test.body))
			got, body, err := fetch(t.Context(), p.client, p.file())
			if test.code != "" {
				wantError(t, err, test.code, test.action)
				return
			}
			if err != nil || got != twoPatients || body.Encoding() != test.encoding || !body.Complete() {
				t.Fatalf("got %q, %v", got, err)
			}
			if body.WireBytes() != int64(len(test.body)) || body.Bytes() != int64(len(twoPatients)) {
				t.Errorf("got %d bytes on the wire and %d read, want %d and %d", body.WireBytes(), body.Bytes(), len(test.body),
					len(twoPatients))
			}
			if got := p.seen()[0].Header["Accept-Encoding"]; len(got) != 1 || got[0] != "gzip" {
				t.Errorf("got Accept-Encoding %q, want the bare token gzip", got)
			}
		})
	}
}

func TestFILE5_expansionIsBounded(t *testing.T) {
	t.Parallel()
	data := bomb(t, `{"resourceType":"Patient","id":"1"}`+"\n", "\n", expansionAllowance>>20+8)
	p := newPayer(t, answer(200, nil, data))
	body, err := p.client.Open(t.Context(), p.file())
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	n, err := io.Copy(io.Discard, body)
	wantError(t, err, CodeFileExpansion, ActionFail)
	if n > expansionAllowance+wireBuffer {
		t.Errorf("got %d bytes before the limit", n)
	}
}

// raw answers with bytes as they are, and then closes the connection.
func raw(response string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, buffer, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = buffer.WriteString(response)
		_ = buffer.Flush()
		_ = conn.Close()
	}
}

func TestFILE6_aCutFileIsNeverWhole(t *testing.T) {
	t.Parallel()
	zipped := zip(t, twoPatients)
	chunked := func(body string, end string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%s", len(body), body, end)
	}
	lengthy := func(length int, body string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", length, body)
	}
	for _, test := range []struct {
		name, response string
		whole          bool
		delimited      bool
	}{
		{"length reached", lengthy(len(twoPatients), twoPatients), true, false},
		{"length missed at a line's end", lengthy(2*len(twoPatients), twoPatients), false, false},
		{"length missed in a line", lengthy(len(twoPatients), twoPatients[:50]), false, false},
		{"length missed by one", lengthy(len(twoPatients), twoPatients[:len(twoPatients)-1]), false, false},
		{"length missed at once", lengthy(len(twoPatients), ""), false, false},
		{"chunks with an end", chunked(twoPatients, "0\r\n\r\n"), true, false},
		{"chunks without an end", chunked(twoPatients, ""), false, false},
		{"chunk cut", chunked(twoPatients, "ff\r\n{"), false, false},
		{"gzip, length missed", lengthy(len(zipped)+20, zipped), false, false},
		{"gzip to the connection's end", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + zipped, true, false},
		{"cut gzip to the connection's end", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + zipped[:len(zipped)-1], false, false},
		{"plain to the connection's end", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + twoPatients, true, true},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n" + twoPatients, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPayer(t, raw(test.response))
			_, body, err := fetch(t.Context(), p.client, p.file())
			if !test.whole {
				wantError(t, err, CodeFileTruncated, ActionRetry)
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("got %v, want io.ErrUnexpectedEOF in it", err)
				}
				if body != nil && body.Complete() {
					t.Error("got Complete true")
				}
				return
			}
			if err != nil || !body.Complete() || body.CloseDelimited() != test.delimited {
				t.Errorf("got %v, body %+v, want close-delimited %v", err, body, test.delimited)
			}
		})
	}
}

func TestBody_an_end_stays_an_end(t *testing.T) {
	t.Parallel()
	p := newPayer(t, raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"+twoPatients))
	body, err := p.client.Open(t.Context(), p.file())
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	for range 3 {
		_, err := io.ReadAll(body)
		wantError(t, err, CodeFileTruncated, ActionRetry)
	}
}

func TestMAN6_checksum(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte(twoPatients))
	for _, encoded := range []string{twoPatients, zip(t, twoPatients)} {
		p := newPayer(t, answer(200, nil, encoded))
		f := p.file()
		f.SHA256 = hex.EncodeToString(sum[:])
		if got, _, err := fetch(t.Context(), p.client, f); err != nil || got != twoPatients {
			t.Errorf("got %q, %v", got, err)
		}
		f.SHA256 = strings.Repeat("0", 64)
		_, _, err := fetch(t.Context(), p.client, f)
		wantError(t, err, CodeFileChecksum, ActionRetry)
	}
}

func TestFILE9_aSilentPayerIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, start := range []string{"", twoPatients} {
		release := make(chan struct{})
		p := newPayer(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			_, _ = w.Write([]byte(start))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-release:
			}
		}, func(o *Options) { o.IdleTimeout = 30 * time.Millisecond })
		_, _, err := fetch(t.Context(), p.client, p.file())
		close(release)
		wantError(t, err, CodeFileStalled, ActionRetry)
	}
}

func TestFILE9_aSlowReaderIsNoSilentPayer(t *testing.T) {
	t.Parallel()
	const idle = 50 * time.Millisecond
	p := newPayer(t, answer(200, nil, twoPatients), func(o *Options) { o.IdleTimeout = idle })
	body, err := p.client.Open(t.Context(), p.file())
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	<-time.After(3 * idle) // the reader is busy: this is what is tested, not waited for
	if got, err := io.ReadAll(body); err != nil || string(got) != twoPatients {
		t.Errorf("got %q, %v", got, err)
	}
}
