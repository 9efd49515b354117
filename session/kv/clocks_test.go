package kv

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestClocks(t *testing.T) {
	for name, tt := range map[string]struct {
		by    []time.Duration // in seconds, one after the other
		turns string          // what is told after each: - nothing, ! apart, = again
	}{
		"the same":               {[]time.Duration{0, 0, 0, 0, 0, 0}, "------"},
		"ahead":                  {[]time.Duration{3, 3, 3, 3, 3, 3}, "----!-"},
		"behind":                 {[]time.Duration{-3, -3, -3, -3, -3, -3}, "----!-"},
		"late now and then":      {[]time.Duration{0, -9, -9, -9, -9, 0, -9, -9, -9, -9}, "----------"},
		"set right":              {[]time.Duration{-3, -3, -3, -3, -3, 0, 0}, "----!=-"},
		"set right, from before": {[]time.Duration{3, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0}, "----!----=-"},
	} {
		var c clocks
		told := ""
		for _, by := range tt.by {
			ahead, turned := c.heard("gw2", by*time.Second)
			switch {
			case !turned:
				told += "-"
			case ahead.Abs() > ClockSlack:
				told += "!"
			default:
				told += "="
			}
		}
		if told != tt.turns {
			t.Errorf("%s: %s, want %s", name, told, tt.turns)
		}
	}
}

// TestClocksApart: an application server with a clock of its own is told of, by doctor's look and
// by the counters of both sides.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	d := startServer(t)
	late := testConfig("as1")
	late.Servers, late.Now = []string{d.url()}, func() time.Time { return time.Now().Add(-7 * time.Second) }
	as := runAS(t, open(t, late))
	gw, same := startGateway(t, "gw1", d.url()), startGateway(t, "gw2", d.url())
	await(t, "both sides notice", func() bool {
		return as.s.Stats()["clock_apart_seconds"] == 7 && gw.Stats()["clock_apart_seconds"] == 7 && same.Stats()["clock_apart_seconds"] == 7
	})
	cfg := testConfig("gw1")
	cfg.Servers = []string{d.url()}
	there, err := Look(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for _, n := range there {
		said += fmt.Sprintf("%s %s %.0f, ", n.Role, n.Node, n.Ahead.Seconds())
	}
	if said = strings.ReplaceAll(said, "-0,", "0,"); said != "as as1 -7, gateway gw1 0, gateway gw2 0, " {
		t.Error(said)
	}
}

// TestLookTwins: two of one name are told from one, and an application server beside another.
func TestLookTwins(t *testing.T) {
	t.Parallel()
	d := startServer(t)
	first, second := startAS(t, "as1", d.url()), startAS(t, "as1", d.url())
	await(t, "each notices the other", func() bool { return first.s.Stats()["rivals"] == 1 && second.s.Stats()["rivals"] == 1 })
	cfg := testConfig("gw1")
	cfg.Servers = []string{d.url()}
	there, err := Look(t.Context(), cfg)
	if err != nil || len(there) != 1 || there[0].Twins != 1 || there[0].Role != RoleAS || !there[0].Timed {
		t.Errorf("%v %+v", err, there)
	}
	cfg.Servers = []string{"nats://127.0.0.1:1"}
	if _, err := Look(t.Context(), cfg); err == nil {
		t.Error("nobody is there")
	}
}
