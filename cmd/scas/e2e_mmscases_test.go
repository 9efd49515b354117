package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"scas/internal/lab"
	"scas/session"
)

// TestMMSCases moves a film where something is not as usual. The origin is a player that is only
// watched; fn has the target play.
func TestMMSCases(t *testing.T) {
	t.Parallel()
	lab.Root(t)
	cases := []*mmsCase{
		{name: "broadcast", server: lab.MMSConfig{Broadcast: true}, check: (*mmsCase).joinsLive},
		{name: "broadcast over HTTP", server: lab.MMSConfig{Broadcast: true}, http: true, check: (*mmsCase).joinsLive},
		{name: "server takes no notice of the position", server: lab.MMSConfig{IgnorePosition: true}, check: (*mmsCase).startsAnew},
		{name: "replies in two segments", server: lab.MMSConfig{SplitReplies: true}, target: lab.MMSMPlayer(), check: (*mmsCase).goesOn},
		{name: "the viewer's own start and seek", target: lab.MMSVLC(), ownStart: 60 * time.Second, check: (*mmsCase).viewersOwn},
		{name: "8 Mbit/s in packets of many segments", wire: true, server: lab.MMSConfig{Film: lab.Film{Bitrate: 8_000_000, PacketSize: 15_000, Duration: time.Minute}},
			check: (*mmsCase).goesOn},
		{name: "UDP is refused", udp: true, target: lab.MMSWindows(), check: (*mmsCase).overTCP},
		{name: "UDP is refused, steered always", udp: true, steer: "always", target: lab.MMSWindows(), check: (*mmsCase).overTCP},
		{name: "refused", refuse: "OpenFile", status: 0xC00D000F, check: (*mmsCase).refused},
		{name: "refused over HTTP", http: true, refuse: "Play", status: 503, check: (*mmsCase).refused},
	}
	together(t, 6, cases, func(c *mmsCase) string { return c.name }, func(t *testing.T, c *mmsCase) { c.run(t) })
}

// mmsCase is one move that is not as usual.
type mmsCase struct {
	name     string
	server   lab.MMSConfig
	target   lab.MMSPlayerConfig
	http     bool
	udp      bool          // both players ask for media over UDP first
	wire     bool          // see siteConfig
	steer    string        // default transfer
	ownStart time.Duration // of the target
	refuse   string        // what the server refuses the target
	status   int
	check    func(*mmsCase, *testing.T)

	gw       *site
	film     *lab.MMSServer
	url      string
	from, to *lab.MMSPlayer // to is nil when it was refused
	transfer session.Transfer
}

func (c *mmsCase) run(t *testing.T) {
	c.gw = newSite(t, siteConfig{steer: c.steer, wire: c.wire})
	c.film = c.gw.mmsFilm(t, c.server)
	c.gw.serve(t)
	c.url = c.gw.mmsURL("mms", "a%20film.asf") // players differ in what they make of it
	if c.http {
		c.url = c.gw.mmsURL("mmsh", "film.asf")
	}
	from := lab.MMSLibmms()
	from.TCPAfter, c.target.TCPAfter = true, true
	if !c.http {
		from.OnFIN = lab.EndFreeze // it has to be told that the film is over
	}
	c.from = c.gw.playMMS(t, phone, from, c.opens(c.url))
	first := wait(t, c.from.Player, "at all", func(lab.Picture) bool { return true })
	reach(t, c.from.Player, first.NPT+8*time.Second)
	c.gw.shown(t, c.url)
	c.gw.scas(t, &c.transfer, "transfer", "--to", "tv")
	if c.refuse != "" {
		c.film.Refuse(c.refuse, c.status, 1)
	}
	c.target.Start, c.target.Host, c.target.URL = c.ownStart, c.gw.Host(tv), c.opens(c.transfer.URL)
	var err error
	c.to, err = lab.PlayMMS(t.Context(), c.target)
	if err == nil {
		t.Cleanup(func() {
			c.to.Quit()
			<-c.to.Done()
		})
	}
	if refused := (*lab.StatusError)(nil); (c.refuse != "") != errors.As(err, &refused) || err != nil && refused == nil {
		t.Fatalf("the target: %v", err)
	}
	c.transfer = c.gw.outcome(t, c.transfer.ID)
	c.check(c, t)
}

// opens returns what a player opens.
func (c *mmsCase) opens(url string) string {
	if c.udp {
		return strings.Replace(url, "mms:", "mmsu:", 1)
	}
	return url
}

// done fails the test when the film did not move.
func (c *mmsCase) done(t *testing.T) (first lab.Picture) {
	t.Helper()
	if c.transfer.State != session.Done {
		t.Fatalf("transfer %s", transferState(c.transfer))
	}
	if r := over(t, c.from.Player); !r.Clean {
		t.Errorf("the origin did not end cleanly: %+v", summary(r))
	}
	goesOn(t, c.to.Player, c.transfer.Times.Ended.Add(time.Second))
	whole(t, "target", c.to.Result())
	return wait(t, c.to.Player, "at all", func(lab.Picture) bool { return true })
}

// joinsLive: the target joins at the live edge, and nobody speaks of a position.
func (c *mmsCase) joinsLive(t *testing.T) {
	first := c.done(t)
	newest, ok := delivered(c.from.Player, first.At)
	if x := c.transfer; x.Position != nil || !ok || (first.NPT-newest.NPT).Abs() > mmsAhead+mmsGOP+time.Second {
		t.Errorf("position %v; the target begins with %v when the origin has %v", orNaN(x.Position), first.NPT, newest.NPT)
	}
	if r := c.gw.one(t, c.url); !r.Live || r.Seekable || r.Position == nil || r.Position.NPT != nil {
		t.Errorf("shown as %+v", r)
	}
}

// startsAnew: what the server does is shown, not what it was asked for.
func (c *mmsCase) startsAnew(t *testing.T) {
	first, x := c.done(t), c.transfer
	if x.Position == nil || *x.Position < 1 || x.StartedAt == nil || *x.StartedAt > 0.1 || first.NPT != 0 {
		t.Errorf("asked for %v, shown to have started at %v, first picture %v", orNaN(x.Position), orNaN(x.StartedAt), first.NPT)
	}
}

// goesOn: a usual move. The server's replies come in two segments, which the target does not take:
// the gateway puts them together.
func (c *mmsCase) goesOn(t *testing.T) {
	first, x := c.done(t), c.transfer
	if x.Position == nil || first.NPT.Seconds() > *x.Position+picture.Seconds() || first.NPT < time.Second {
		t.Errorf("asked for %v, first picture %v", orNaN(x.Position), first.NPT)
	}
}

// overTCP: who asks for media over UDP is refused as MS-MMSP says, goes on over TCP, and is shown so.
// A watched origin is refused by the lab's server.
func (c *mmsCase) overTCP(t *testing.T) {
	c.goesOn(t)
	want := map[string]int{"": 1, "always": 2}[c.steer]
	if n := c.gw.counter(t, "scas_splice_funnels_refused_total"); n != want {
		t.Errorf("%d funnels refused, want %d", n, want)
	}
	if r := c.gw.one(t, c.url); r.Protocol != session.MMS || r.Transport != session.TCP {
		t.Errorf("shown as %s over %s", r.Protocol, r.Transport)
	}
}

// viewersOwn: where the viewer goes counts, when the target opens as well as later.
func (c *mmsCase) viewersOwn(t *testing.T) {
	c.done(t)
	at := func(npt time.Duration) {
		t.Helper()
		wait(t, c.to.Player, "of "+npt.String(), func(p lab.Picture) bool { return (p.NPT - npt).Abs() <= mmsGOP+time.Second })
		await(t, 10*time.Second, "is shown there", func() bool {
			r := c.gw.one(t, c.url)
			return r.Position != nil && r.Position.NPT != nil && math.Abs(*r.Position.NPT-npt.Seconds()) < 12
		})
	}
	at(c.ownStart)
	for _, npt := range []time.Duration{20 * time.Second, 0} {
		if err := c.to.Seek(t.Context(), npt); err != nil {
			t.Fatal(err)
		}
		at(npt)
	}
}

// refused: the transfer tells the server's reason, and the origin knows nothing of it.
func (c *mmsCase) refused(t *testing.T) {
	want := session.ServerRefused(strconv.Itoa(c.status))
	if !c.http {
		want = session.ServerRefused(fmt.Sprintf("%08X", c.status))
	}
	if x := c.transfer; x.State != session.Failed || x.Reason == nil || *x.Reason != want {
		t.Errorf("transfer %s, want failed(%s)", transferState(x), want)
	}
	goesOn(t, c.from.Player, c.transfer.Times.Ended.Add(time.Second))
	whole(t, "origin", c.from.Result())
	await(t, 15*time.Second, "of the target nothing is shown any more", func() bool { return len(c.gw.sessions(t, c.url)) == 1 })
	if r := c.gw.one(t, c.url); r.State != session.Playing || r.Terminal.IP != c.gw.Addr(phone) || r.Steered {
		t.Errorf("shown as %+v", r)
	}
}

// TestMMSWeb: a web page from a port of MMSH passes; nothing of it comes up, and no socket of the
// gateway's sees it.
func TestMMSWeb(t *testing.T) {
	t.Parallel()
	gw := newSite(t, siteConfig{ipv6: true})
	gw.serve(t)
	gw.browse(t)
	for _, name := range []string{
		"scas_bpf_event_tcp_total", "scas_bpf_event_tail_total", "scas_bpf_steer_new_total", "scas_splice_connections_accepted_total",
		"scas_tracer_connections", "scas_tracer_sessions_total",
	} {
		if n := gw.counter(t, name); n != 0 {
			t.Errorf("%s is %d", name, n)
		}
	}
	if gw.counter(t, "scas_bpf_flow_new_total") == 0 {
		t.Error("the gateway did not see the browser")
	}
}

// TestMMSMovesInARow moves a film to and fro, and nothing of it stays: no goroutine, no descriptor,
// no entry of a map. (The datapath knows a closed leg for a minute.)
func TestMMSMovesInARow(t *testing.T) {
	t.Parallel()
	lab.Root(t)
	together(t, 2, []string{"mms", "mmsh"}, func(s string) string { return s }, func(t *testing.T, scheme string) {
		const moves = 100
		gw := newSite(t, siteConfig{})
		gw.mmsFilm(t, lab.MMSConfig{})
		gw.serve(t)
		url := gw.mmsURL(scheme, "film.asf")
		names := [2]string{phone, tv}
		config := lab.MMSWindows() // stops as soon as it is told
		config.OnEOS, config.OnFIN = lab.EndAtOnce, lab.EndAtOnce
		player := gw.playMMS(t, phone, config, url)
		gw.shown(t, url)
		var before map[string]int
		for n := 1; n <= moves; n++ {
			var x session.Transfer
			gw.scas(t, &x, "transfer", "--to", map[string]string{phone: "phone", tv: "tv"}[names[n%2]])
			next := gw.playMMS(t, names[n%2], config, url)
			if x = gw.outcome(t, x.ID); x.State != session.Done {
				t.Fatalf("move %d: %s", n, transferState(x))
			}
			<-player.Done()
			player = next
			if n == 4 {
				before = gw.holds(t)
			}
		}
		slack := map[string]int{"go_goroutines": 4, "descriptors": 2}
		await(t, 30*time.Second, "the gateway holds no more than after the first moves", func() bool {
			for what, n := range gw.holds(t) {
				if n > before[what]+slack[what] {
					return false
				}
			}
			return true
		})
	})
}

// holds returns how much of what can be left behind the gateway has now.
func (s *site) holds(t testing.TB) map[string]int {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.daemon.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int{"descriptors": len(fds)}
	for _, name := range []string{
		"go_goroutines", "scas_bpf_media_flows", "scas_splice_connections_open", "scas_splice_transfers_open",
		"scas_tracer_connections",
	} {
		all[name] = s.counter(t, name)
	}
	return all
}
