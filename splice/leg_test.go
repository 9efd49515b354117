package splice

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"scas/bpf"
)

func TestLegModes(t *testing.T) {
	server := netip.MustParseAddrPort("192.0.2.1:554")
	flow := bpf.Flow{Terminal: netip.MustParseAddrPort("10.0.0.2:40000"), Server: server}
	down := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", unix.ECONNREFUSED)}
	noRoute := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", unix.EHOSTUNREACH)}
	late := &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	taken := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", unix.EADDRNOTAVAIL)}
	elsewhere := bpf.Flow{Terminal: netip.MustParseAddrPort("10.0.0.2:50000"), Server: server}
	for _, tt := range []struct {
		name    string
		mode    Upstream
		results []error // of the attempts, in order
		tries   []string
		err     bool
		told    bool // the datapath was told of the leg
	}{
		{"auto, works", UpstreamAuto, []error{nil, nil}, []string{"terminal", "terminal"}, false, true},
		{"auto, times out", UpstreamAuto, []error{late, nil, nil}, []string{"terminal", "router", "router"}, false, true},
		{"auto, no route", UpstreamAuto, []error{noRoute, nil, nil}, []string{"terminal", "router", "router"}, false, true},
		{"auto, refused", UpstreamAuto, []error{down, down}, []string{"terminal", "terminal"}, true, true},
		{"auto, both fail", UpstreamAuto, []error{late, late, late, late}, []string{"terminal", "router", "terminal", "router"}, true, true},
		{"auto, port taken", UpstreamAuto, []error{taken, nil, nil}, []string{"terminal", "another port", "terminal"}, false, true},
		{"auto, no port", UpstreamAuto, []error{taken, taken, nil, nil}, []string{"terminal", "another port", "router", "router"}, false, true},
		{"terminal only, port taken", UpstreamTerminal, []error{taken, nil, nil}, []string{"terminal", "another port", "terminal"}, false, true},
		{"terminal only", UpstreamTerminal, []error{late, nil}, []string{"terminal", "terminal"}, false, true},
		{"router only", UpstreamRouter, []error{nil, nil}, []string{"router", "router"}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Upstream = tt.mode
			now := time.Now()
			cfg.Now = func() time.Time { return now }
			k := newFakeKernel()
			var count counters
			l := newLegs(cfg, k, &count)
			l.other = func(bpf.Flow) bpf.Flow { return elsewhere }
			var tries []string
			l.connect = func(ctx context.Context, from, to netip.AddrPort) (*net.TCPConn, error) {
				who := "router"
				for name, f := range map[string]bpf.Flow{"terminal": flow, "another port": elsewhere} {
					if from == f.Terminal {
						who = name
						if !k.legs[f] {
							t.Error("connects before the datapath knows")
						}
					}
				}
				tries = append(tries, who)
				return nil, tt.results[len(tries)-1]
			}
			var err error
			for range 2 {
				var release func()
				_, release, err = l.open(t.Context(), flow)
				if err == nil {
					release()
				}
			}
			if !slices.Equal(tries, tt.tries) || (err != nil) != tt.err {
				t.Errorf("tried %v, last error %v", tries, err)
			}
			if k.legs[flow] != tt.told {
				t.Errorf("told %v", k.legs[flow])
			}
			now = now.Add(legLinger)
			l.takeBack(func(x *told) bool { return x.users == 0 && !now.Before(x.until) })
			if len(k.legs) != 0 {
				t.Errorf("left %v", k.legs)
			}
		})
	}
}

func TestLegRemembersForATime(t *testing.T) {
	cfg := DefaultConfig()
	now := time.Now()
	cfg.Now = func() time.Time { return now }
	l := newLegs(cfg, newFakeKernel(), &counters{})
	for i := range maxRemember + 10 {
		l.remember(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(i)), reached{router: true, until: now.Add(routerFor)})
	}
	if len(l.reached) != maxRemember {
		t.Errorf("remembers %d", len(l.reached))
	}
	s := netip.MustParseAddrPort("192.0.2.9:554")
	l.remember(s, reached{router: true, until: now.Add(routerFor)})
	if r, ok := l.recall(s); !ok || !r.router {
		t.Error("forgot")
	}
	now = now.Add(routerFor + time.Second)
	if _, ok := l.recall(s); ok {
		t.Error("never tries again")
	}
}

func TestBelieve(t *testing.T) {
	for _, tt := range []struct {
		err    error
		before time.Duration
		want   time.Duration
	}{
		{context.DeadlineExceeded, 0, slowFor},
		{context.DeadlineExceeded, slowFor, 2 * slowFor},
		{context.DeadlineExceeded, routerFor, routerFor},
		{&net.OpError{Op: "dial", Err: unix.ETIMEDOUT}, 0, slowFor},
		{&net.OpError{Op: "dial", Err: unix.EHOSTUNREACH}, 0, routerFor},
		{&net.OpError{Op: "dial", Err: unix.EADDRNOTAVAIL}, 0, routerFor},
		{&net.OpError{Op: "dial", Err: unix.EADDRINUSE}, slowFor, 0},
		{bpf.ErrTooMany, 0, 0},
	} {
		if got := believe(tt.err, tt.before); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}

func TestConfig(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"mark": func(c *Config) { c.Mark = 3 }, "upstream": func(c *Config) { c.Upstream = "x" },
		"prefix": func(c *Config) { c.IPv6Prefix = 0 }, "relays": func(c *Config) { c.MaxRelays = 0 },
		"overlap": func(c *Config) { c.Overlap = -1 }, "hold": func(c *Config) { c.ReplyHold = time.Second },
		"settle": func(c *Config) { c.Settle = 0 }, "dial": func(c *Config) { c.Dial = 2 * time.Hour },
	} {
		c := DefaultConfig()
		change(&c)
		if _, err := New(c, newFakeKernel(), newFakeTracer(), nil, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestKey(t *testing.T) {
	s := &Splicer{cfg: Config{IPv6Prefix: 64}}
	for a, want := range map[string]string{
		"10.0.0.1": "10.0.0.1", "::ffff:10.0.0.1": "10.0.0.1", "fd78:1::2": "fd78:1::", "fd78:1::abcd:1": "fd78:1::",
	} {
		if got := s.key(netip.MustParseAddr(a)).String(); got != want {
			t.Errorf("%s: %s", a, got)
		}
	}
}

func TestSteeredTo(t *testing.T) {
	l := loopback(t)
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := steeredTo(in); !errors.Is(err, errNotSteered) {
		t.Errorf("a connection to the listener itself: %v", err)
	}
}
