package admin

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"scas/session"
)

// fakeHistory remembers what it was asked.
type fakeHistory struct {
	asked   Filter
	entries []Entry
	err     error
}

func (h *fakeHistory) Log(_ context.Context, f Filter) ([]Entry, error) {
	h.asked = f
	return h.entries, h.err
}

func TestLog(t *testing.T) {
	at := time.Date(2026, 7, 1, 20, 0, 0, 0, time.UTC)
	full := fullTransfer()
	h := &fakeHistory{entries: []Entry{
		{At: at, Event: "play", Gateway: "gw1", AoR: session.Ptr("sip:bob@x"), Session: &session.Record{ID: "s1"}},
		{At: at, Event: "transfer", Gateway: "gw1", Transfer: &full},
	}}
	w := newWorld()
	w.history = h
	_, hs := serve(t, w, Config{}, true)
	get := func(query string, status int) string {
		t.Helper()
		resp := do(t, "GET", hs.URL+"/v1/log"+query, "")
		raw, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != status {
			t.Errorf("%s: %s, want %d: %s", query, resp.Status, status, raw)
		}
		return string(raw)
	}
	said := get("?since=2026-07-01T00:00:00Z&until=2026-07-02T00:00:00.5Z&aor=sip:bob@x&terminal=tv&gateway=gw1&event=play&limit=7", 200)
	if want := (Filter{at.Add(-20 * time.Hour), at.Add(4*time.Hour + 500*time.Millisecond), "sip:bob@x", "gw1", "play", "tv", 7}); h.asked != want {
		t.Errorf("asked %+v", h.asked)
	}
	for _, want := range []string{`"event":"play"`, `"server":null`, `"tracks":[]`, `"transfer":null`, `"session":null`, `"id":"` + full.ID + `"`} {
		if !strings.Contains(said, want) {
			t.Errorf("no %s in %s", want, said)
		}
	}
	if get("", 200); h.asked != (Filter{Limit: 1000}) {
		t.Errorf("asked %+v", h.asked)
	}
	for _, query := range []string{"?since=yesterday", "?limit=0", "?limit=10001", "?limit=x", "?event=pause", "?user=bob"} {
		get(query, 400)
	}
	h.err = errors.New("the store does not answer")
	get("", 503)
	w.history = nil
	_, hs = serve(t, w, Config{}, true)
	if said := get("", 501); !strings.Contains(said, `"code":"unsupported"`) {
		t.Error(said)
	}
}
