package kv

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"scas/session"
)

func TestLogFilters(t *testing.T) {
	s := embeddedStore(t, t.TempDir())
	began := time.Now().Add(-time.Hour).UTC()
	bob, eve := session.Ptr("sip:bob@ims.example"), session.Ptr("sip:eve@ims.example")
	r, tr := record("s1"), transfer("t1", session.Done)
	tr.To = session.Terminal{Name: "beamer", IP: netip.MustParseAddr("10.10.1.9")}
	for i, e := range []Entry{
		{Event: Played, Gateway: "gw1", AoR: bob, Session: &r},
		{Event: Moved, Gateway: "gw1", AoR: bob, Transfer: &tr},
		{Event: Over, Gateway: "gw1", AoR: bob, Session: &r},
		{Event: Played, Gateway: "gw2", AoR: eve, Session: &r},
		{Event: Played, Gateway: "gw2"},
	} {
		e.At = began.Add(time.Duration(i) * time.Minute)
		if err := s.AppendLog(fmt.Sprint(i), e); err != nil {
			t.Fatal(err)
		}
		flush(t, s) // lanes keep no order between entries
	}
	if err := s.AppendLog("0", Entry{Event: Played, Gateway: "gw1", AoR: bob}); err != nil {
		t.Fatal(err)
	}
	flush(t, s)
	for _, c := range []struct {
		name string
		f    Filter
		want []int // minutes
	}{
		{"all, each once", Filter{}, []int{0, 1, 2, 3, 4}},
		{"one user", Filter{AoR: *bob}, []int{0, 1, 2}},
		{"one gateway", Filter{Gateway: "gw2"}, []int{3, 4}},
		{"one kind", Filter{Event: Played}, []int{0, 3, 4}},
		{"user and kind", Filter{AoR: *bob, Event: Over}, []int{2}},
		{"a user with dots and stars", Filter{AoR: "*"}, nil},
		{"from", Filter{Since: began.Add(3 * time.Minute)}, []int{3, 4}},
		{"to", Filter{Until: began.Add(2 * time.Minute)}, []int{0, 1}},
		{"between", Filter{Since: began.Add(time.Minute), Until: began.Add(2 * time.Minute)}, []int{1}},
		{"the future", Filter{Since: time.Now().Add(time.Hour)}, nil},
		{"terminal by name", Filter{Terminal: "phone"}, []int{0, 1, 2, 3}},
		{"target by address", Filter{Terminal: "10.10.1.9"}, []int{1}},
		{"newest", Filter{Limit: 1}, []int{4}},
		{"newest two of a user", Filter{Limit: 2, AoR: *bob}, []int{1, 2}},
		{"more than there are", Filter{Limit: 9}, []int{0, 1, 2, 3, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := s.Log(t.Context(), c.f)
			if err != nil {
				t.Fatal(err)
			}
			var minutes []int
			for _, e := range got {
				minutes = append(minutes, int(e.At.Sub(began).Minutes()))
			}
			if !slices.Equal(minutes, c.want) {
				t.Errorf("%v, want %v", minutes, c.want)
			}
		})
	}
}

func TestLogIsKept(t *testing.T) {
	dir := t.TempDir()
	c := testConfig("gw1")
	c.Dir = dir
	s := open(t, c)
	if err := s.AppendLog("a", Entry{At: time.Now(), Event: Played, Gateway: "gw1"}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	c.Keep = 2 * time.Hour // another limit for what is there already
	s = open(t, c)
	if got, err := s.Log(t.Context(), Filter{}); err != nil || len(got) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	h, err := s.handles(t.Context())
	if err != nil || h.log.CachedInfo().Config.MaxAge != 2*time.Hour {
		t.Errorf("kept for %v, %v", h.log.CachedInfo().Config.MaxAge, err)
	}
}

func TestLogStopsBeforeState(t *testing.T) {
	d := startServer(t)
	c := testConfig("gw1")
	c.Servers, c.Queue = []string{d.url()}, 16
	s := open(t, c)
	d.stop()
	await(t, "loss seen", func() bool { return s.Ready() != nil })
	for i := range 20 {
		s.AppendLog(fmt.Sprint(i), Entry{Event: Played})
	}
	if n := s.Stats()["queued"]; n != 8 {
		t.Errorf("history takes %d of 16", n)
	}
	if err := s.PutBinding(t.Context(), binding(1)); err != nil {
		t.Errorf("no room for state: %v", err)
	}
}
