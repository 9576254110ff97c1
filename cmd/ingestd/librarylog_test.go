package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

//nolint:paralleltest // the standard logger is the process's
func TestMain_logs_nothing_that_a_payer_sends_behind_the_end_of_a_body(t *testing.T) {
	var logged lockedBuffer
	flags, writer := log.Flags(), log.Writer()
	t.Cleanup(func() { log.SetFlags(flags); log.SetOutput(writer) })
	log.SetOutput(&logged)
	logLibrariesTo(&logged)

	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 4<<10))
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
		<-read
		_, _ = io.WriteString(conn, `{"resourceType":"Patient","name":[{"family":"Weatherwax"}]}`)
		_, _ = conn.Read(make([]byte, 1)) // until the client hangs up
	}()
	defer func() { _ = listener.Close(); <-served }()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("http://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	close(read)
	for end := time.Now().Add(time.Minute); !strings.Contains(logged.String(), "Unsolicited"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("net/http says nothing of it")
		}
	}
	if text := logged.String(); strings.Contains(text, "Weatherwax") || strings.Contains(text, "Patient") {
		t.Errorf("got %q, which holds a resource", text)
	}
}
