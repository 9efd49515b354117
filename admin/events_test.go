package admin

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"scas/session"
)

type sse struct{ event, data string }

// follow returns the events and comments ("" event) of a stream as they come.
func follow(t *testing.T, url string, headers ...string) <-chan sse {
	t.Helper()
	resp := open(t, "GET", url, "", headers...)
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatal(resp.Status, resp.Header)
	}
	ch := make(chan sse, 64)
	go func() {
		defer close(ch)
		in := bufio.NewReader(resp.Body)
		var e sse
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			line = strings.TrimRight(line, "\n")
			switch {
			case strings.HasPrefix(line, "event: "):
				e.event = line[7:]
			case strings.HasPrefix(line, "data: "):
				e.data = line[6:]
			case strings.HasPrefix(line, ":"):
				ch <- sse{"", line}
			case line == "" && e.event != "":
				ch <- e
				e = sse{}
			}
		}
	}()
	return ch
}

func next(t *testing.T, ch <-chan sse) sse {
	t.Helper()
	select {
	case e, ok := <-ch:
		if !ok {
			t.Fatal("the stream ended")
		}
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no event")
	}
	return sse{}
}

func TestEvents(t *testing.T) {
	w := newWorld()
	w.put("before", "10.10.1.2", session.Playing, 1)
	_, hs := serve(t, w, Config{}, false)
	ch := follow(t, hs.URL+"/v1/events")
	w.put("a", "10.10.1.2", session.Playing, 1)
	w.PutTransfer(session.Transfer{ID: "t", State: session.Armed})
	w.PutTransfer(session.Transfer{ID: "t", State: session.Attached})

	var r session.Record
	if e := next(t, ch); e.event != "session" || json.Unmarshal([]byte(e.data), &r) != nil || r.ID != "a" || !strings.Contains(e.data, `"tracks":[]`) {
		t.Errorf("%+v", e)
	}
	for _, want := range []session.TransferState{session.Armed, session.Attached} {
		var x session.Transfer
		if e := next(t, ch); e.event != "transfer" || json.Unmarshal([]byte(e.data), &x) != nil || x.State != want {
			t.Errorf("%+v, want %s", e, want)
		}
	}
}

func TestHeartbeat(t *testing.T) {
	_, hs := serve(t, newWorld(), Config{Heartbeat: 20 * time.Millisecond}, true)
	ch := follow(t, hs.URL+"/v1/events")
	for range 2 {
		if e := next(t, ch); e.event != "" || e.data == "" {
			t.Errorf("%+v", e)
		}
	}
}

func TestTooManyStreams(t *testing.T) {
	s, hs := serve(t, newWorld(), Config{MaxStreams: 1}, true)
	follow(t, hs.URL+"/v1/events")
	if resp := do(t, "GET", hs.URL+"/v1/events", ""); resp.StatusCode != http.StatusServiceUnavailable {
		t.Error(resp.Status)
	}
	if s.Stats()["streams_refused"] != 1 {
		t.Error(s.Stats())
	}
}

// A reader that takes nothing is let go, whoever notices first, and nobody waits for it.
func TestSlowReader(t *testing.T) {
	w := newWorld()
	s, hs := serve(t, w, Config{Stall: 50 * time.Millisecond}, true)
	resp := open(t, "GET", hs.URL+"/v1/events", "") // its body is never read
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	big := session.Record{ID: "a", URL: session.Ptr("rtsp://m/" + strings.Repeat("x", 64<<10))}
	deadline := time.Now().Add(30 * time.Second)
	for s.Stats()["streams_dropped"] == 0 {
		if time.Now().After(deadline) {
			t.Fatal("still served")
		}
		w.Put(big)
	}
	ch := follow(t, hs.URL+"/v1/events") // a better one is served
	w.put("b", "10.10.1.2", session.Playing, 1)
	if e := next(t, ch); e.event != "session" {
		t.Errorf("%+v", e)
	}
}

func TestStreamsEndWithTheServer(t *testing.T) {
	s, hs := serve(t, newWorld(), Config{}, true)
	ch := follow(t, hs.URL+"/v1/events")
	s.cancel()
	select {
	case _, ok := <-ch:
		if ok {
			t.Error("an event")
		}
	case <-time.After(20 * time.Second):
		t.Error("still open")
	}
}
