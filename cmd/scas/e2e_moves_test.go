package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"scas/internal/command"
	"scas/internal/lab"
	"scas/session"
)

// labMove is one move between synthetic players, and what came of it.
type labMove struct {
	name           string
	site           siteConfig
	server         lab.ServerConfig
	origin, target lab.PlayerConfig
	six            bool                       // over IPv6
	prepare        func(*testing.T, *labMove) // before the gateway starts
	before         func(*testing.T, *labMove) // once the origin plays
	between        func(*testing.T, *labMove) // between the order and the opening
	opened         func(*testing.T, *labMove) // once the target has opened the film
	expect         func(*testing.T, *labMove) // instead of what check wants of the position
	paused         bool                       // the origin, when it is left
	refused        bool                       // TEARDOWN, so that the server keeps the origin's session
	skips          int64                      // sequence numbers that the server leaves out

	gw       *site
	film     *lab.Server
	from, to *lab.Player
	transfer session.Transfer
	left     lab.Result    // of the origin
	ended    time.Duration // of the origin, after committed
	slack    float64       // seconds that this process waited for a processor meanwhile
	start    lab.Segment   // of the target
	first    lab.Picture   // of it
}

// The positions of the moves, in media time.
const (
	moveStart = 20 * time.Second // of the origin: a wrong 0 shows
	moveOrder = moveStart + 2500*time.Millisecond
	moveSeek  = 60 * time.Second
)

// tcp and udp return the player of a move; like mpv it shows what it has and says TEARDOWN.
func tcp() lab.PlayerConfig { return lab.MPV() }

func udp() lab.PlayerConfig {
	c := lab.MPV()
	c.TCP = false
	return c
}

func labMoves() []*labMove {
	freezing := lab.FFplay()
	reporting := udp()
	reporting.Reports = 300 * time.Millisecond
	falling := udp()
	falling.FallbackTCP = time.Second
	muted := lab.GstServer()
	muted.MuteUDP = true
	ignoring := lab.ServerConfig{IgnorePosition: true}
	dense := lab.GstServer()
	dense.Bitrate = 8_000_000
	gstlike := lab.Gst()
	gstlike.Reports = 300 * time.Millisecond // for a GStreamer without, settle is 6 s
	noRange := udp()
	noRange.NoRange = true
	short := lab.Live555Server()
	short.Timeout = 3 * time.Second
	six, always := siteConfig{ipv6: true}, siteConfig{steer: "always"}
	return []*labMove{
		{name: "udp to udp", server: lab.GstServer(), origin: udp(), target: udp()},
		{name: "tcp to tcp", server: lab.GstServer(), origin: tcp(), target: tcp()},
		{name: "udp to tcp", server: lab.GstServer(), origin: udp(), target: tcp()},
		{name: "tcp to udp", server: lab.GstServer(), origin: tcp(), target: udp()},
		{name: "udp to udp over IPv6", site: six, six: true, server: lab.GstServer(), origin: udp(), target: udp()},
		{name: "tcp to tcp over IPv6", site: six, six: true, origin: tcp(), target: tcp()},
		{name: "udp to udp, steered always", site: always, server: lab.GstServer(), origin: udp(), target: udp()},
		{name: "tcp to tcp, steered always", site: always, server: lab.GstServer(), origin: tcp(), target: tcp()},
		{name: "upstream as the router", site: siteConfig{upstream: "router"}, server: lab.GstServer(), origin: tcp(), target: tcp()},
		{name: "upstream as the router, udp brings nothing", site: siteConfig{upstream: "router"}, server: lab.GstServer(), origin: udp(), target: falling},
		{name: "a player that freezes, live555", server: lab.Live555Server(), origin: freezing, target: tcp()},
		{name: "live555 to udp", server: lab.Live555Server(), origin: tcp(), target: udp()},
		{name: "VLC", server: lab.VLCServer(), origin: udp(), target: udp()},
		{name: "receiver reports tell", site: siteConfig{settle: 20 * time.Second}, server: lab.GstServer(), origin: tcp(), target: reporting},
		{name: "paused udp", server: lab.GstServer(), origin: udp(), target: udp(), before: pauseOrigin, paused: true},
		{name: "paused tcp", server: lab.GstServer(), origin: tcp(), target: tcp(), before: pauseOrigin, paused: true},
		{name: "a seek after the order, udp", server: lab.GstServer(), origin: udp(), target: tcp(), between: seekOrigin, skips: 4},
		{name: "a seek after the order, tcp", server: lab.Live555Server(), origin: tcp(), target: tcp(), between: seekOrigin},
		{name: "udp brings nothing, tcp does", server: muted, origin: tcp(), target: falling},
		{name: "live", server: lab.LiveServer(), origin: udp(), target: tcp(), before: notContinuable, expect: joinsLive},
		{name: "8 Mbit/s, tcp", server: dense, origin: tcp(), target: tcp()},
		{name: "8 Mbit/s, udp", server: dense, origin: udp(), target: udp()},
		{name: "GStreamer's players", server: lab.GstServer(), origin: gstlike, target: gstlike},
		{name: "no Range in the target's PLAY", server: lab.GstServer(), origin: udp(), target: noRange},
		{name: "a server with a clock", server: lab.ServerConfig{Unit: lab.UnitClock}, origin: udp(), target: tcp()},
		{name: "a server with SMPTE time codes", server: lab.ServerConfig{Unit: lab.UnitSMPTE}, origin: tcp(), target: udp()},
		{name: "no RTP-Info", server: lab.ServerConfig{RTPInfo: lab.RTPInfoNone}, origin: tcp(), target: udp()},
		{name: "no seq and no rtptime", server: lab.ServerConfig{RTPInfo: lab.RTPInfoURL}, origin: udp(), target: tcp()},
		{name: "sessions of three seconds", server: short, origin: freezing, target: udp()},
		{name: "TEARDOWN refused", server: lab.Live555Server(), origin: freezing, target: tcp(), before: refuseTeardown, refused: true},
		{name: "the target seeks at once", server: lab.Live555Server(), origin: tcp(), target: udp(), opened: seekTarget},
		{name: "strict reverse path, beside WireGuard", site: always, server: lab.GstServer(), origin: udp(), target: tcp(), prepare: strictPaths},
		{name: "a filter lets nothing out in the server's name", server: lab.GstServer(), origin: tcp(), target: tcp(), before: nothingInTheServersName},
		{name: "a server that ignores the position", server: ignoring, origin: tcp(), target: udp(), expect: startsAtZero},
	}
}

// TestMoves moves films between synthetic players, whose media tell which picture is where.
func TestMoves(t *testing.T) {
	t.Parallel()
	lab.Root(t)
	moves := labMoves()
	together(t, 10, moves, func(m *labMove) string { return m.name }, func(t *testing.T, m *labMove) {
		m.run(t)
		m.checkViewer(t)
		m.checkPeers(t)
		if m.expect != nil {
			m.expect(t, m)
		} else {
			m.checkPosition(t)
		}
	})
	t.Logf("\n%s", labTable(moves))
}

func labTable(moves []*labMove) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-40s %8s %8s %8s %8s %8s %8s %8s %7s\n", "move", "asked s", "given s", "first s", "left s", "twice s", "repeated", "silence", "end s")
	for _, m := range moves {
		x := m.transfer
		if x.State != session.Done {
			fmt.Fprintf(&b, "%-40s %s\n", m.name, transferState(x))
			continue
		}
		first, left := m.first.NPT, m.left.LastShown.NPT
		fmt.Fprintf(&b, "%-40s %8.2f %8.2f %8.2f %8.2f %8.2f %8.2f %8.2f %7.2f\n", m.name, orNaN(x.Position), orNaN(x.StartedAt), first.Seconds(),
			left.Seconds(), (left + picture - first).Seconds(), orNaN(x.Repeated), orNaN(x.Silence), m.ended.Seconds())
	}
	return b.String()
}

// run carries the move out.
func (m *labMove) run(t *testing.T) {
	m.gw = newSite(t, m.site)
	began := time.Now()
	m.film = m.gw.film(t, m.server, m.six)
	if m.prepare != nil {
		m.prepare(t, m)
	}
	m.gw.serve(t)
	if m.origin.Start = moveStart; m.server.Live || m.server.IgnorePosition {
		m.origin.Start = 0
	}
	m.from = m.gw.play(t, phone, m.origin, m.film.URL("film"))
	reach(t, m.from, m.origin.Start+moveOrder-moveStart)
	m.gw.shown(t, m.film.URL("film"))
	if m.before != nil {
		m.before(t, m)
	}
	to := map[bool]string{false: "tv", true: "tv6"}[m.six]
	m.gw.scas(t, &m.transfer, "transfer", "--to", to)
	if x := m.transfer; x.State != session.Armed || x.URL != m.film.URL("film") || x.To.Name != to || x.From.IP != m.host(phone) {
		t.Fatalf("ordered: %+v", x)
	}
	if m.between != nil {
		m.between(t, m)
	}
	gone := make(chan time.Time, 1)
	go func() {
		ended(t.Context(), m.from)
		gone <- time.Now()
	}()
	m.to = m.gw.play(t, tv, m.target, m.transfer.URL)
	if m.opened != nil {
		m.opened(t, m)
	}
	m.transfer = m.gw.outcome(t, m.transfer.ID)
	if m.transfer.State != session.Done || m.transfer.Reason != nil {
		t.Fatalf("transfer %s", transferState(m.transfer))
	}
	m.ended = (<-gone).Sub(*m.transfer.Times.Committed)
	m.left = m.from.Result()
	goesOn(t, m.to, m.transfer.Times.Ended.Add(time.Second))
	m.slack = stalled(began, time.Now()).Seconds()
	for _, seg := range m.to.Result().Segments { // one that fell back to TCP received nothing in its first
		if pic, ok := seg.First(); ok {
			m.start, m.first = seg, pic
			break
		}
	}
}

func (m *labMove) host(ns string) netip.Addr {
	if m.six {
		return m.gw.Addr6(ns)
	}
	return m.gw.Addr(ns)
}

// checkViewer looks at both screens: nothing missed, the origin ended by itself and soon.
func (m *labMove) checkViewer(t *testing.T) {
	last := m.left.LastShown
	if missed := m.first.NPT - last.NPT - picture; missed > 0 {
		t.Errorf("missed %v: origin up to picture %d, target from %d", missed, last.Number, m.first.Number)
	}
	if !m.left.Clean && !m.left.Frozen || m.left.Frozen != (m.origin.OnBYE == lab.EndFreeze) {
		t.Errorf("the origin did not end cleanly: %+v", summary(m.left))
	}
	if most := m.origin.Depth.Seconds() + 5 + m.slack; m.ended.Seconds() > most {
		t.Errorf("the origin ended %v after committed, want at most %.1f s", m.ended, most)
	}
	if late := m.left.LastPacket.Sub(*m.transfer.Times.Committed); late.Seconds() > 0.5+m.slack {
		t.Errorf("the origin received media until %v after committed", late)
	}
	m.left.Lost -= m.skips
	whole(t, "origin", m.left)
	whole(t, "target", m.to.Result())
	if r := m.to.Result(); r.State != lab.PlayerPlaying {
		t.Errorf("the target does not play: %+v", summary(r))
	}
}

// checkPeers looks at what server and gateway hold afterwards.
func (m *labMove) checkPeers(t *testing.T) {
	held := m.film.Sessions()
	if m.refused && len(held) == 2 {
		held = held[1:]
	}
	want := m.host(tv)
	if m.site.upstream == "router" {
		want = m.gw.Addr(lab.GW)
	}
	if len(held) != 1 || held[0].Remote.Addr() != want || !held[0].Playing {
		t.Errorf("the server holds %d sessions, want 1 of %v that plays: %+v", len(held), want, held)
	}
	if r := m.gw.one(t, m.transfer.URL); !r.Steered || r.State != session.Playing || r.Terminal.IP != m.host(tv) {
		t.Errorf("shown after the move: %+v", r)
	}
	x := m.transfer
	order := []*time.Time{x.Times.Armed, x.Times.Attached, x.Times.Committed, x.Times.Ended}
	if slices.Contains(order, nil) || !slices.IsSortedFunc(order, func(a, b *time.Time) int { return a.Compare(*b) }) {
		t.Errorf("times %+v", x.Times)
	}
	if x.OriginBuffered {
		t.Error("origin_buffered")
	}
	for track, off := range m.start.ClockError {
		if off.Abs() > time.Second && m.slack < 0.3 { // a reply is not held for ever
			t.Errorf("Range and RTP-Info tell a player of track %d a place that is %v off", track, off)
		}
	}
	silence := m.start.FirstPacket.Sub(m.left.LastPacket).Seconds()
	if x.Silence == nil || math.Abs(*x.Silence-silence) > 0.4+m.slack || !m.paused && *x.Silence > 0.1+m.slack || m.paused && *x.Silence < 0 {
		t.Errorf("silence %v, players saw %.2f", orNaN(x.Silence), silence)
	}
}

// checkPosition compares the figures of the transfer with what the players saw.
func (m *labMove) checkPosition(t *testing.T) {
	x := m.transfer
	if x.Position == nil || x.StartedAt == nil || x.Repeated == nil {
		t.Fatalf("position %v, started at %v, repeated %v", x.Position, x.StartedAt, x.Repeated)
	}
	plays := slices.DeleteFunc(m.film.Requests("PLAY"), func(e lab.ServerEvent) bool { return e.Remote.Addr() == m.host(phone) })
	screen, _ := m.from.Shown(plays[len(plays)-1].At)
	if off := *x.Position + siteOverlap.Seconds() - screen.NPT.Seconds(); math.Abs(off) > 0.5+m.slack {
		t.Errorf("position %.2f, but %.2f was on the screen", *x.Position, screen.NPT.Seconds())
	}
	if told := m.start.Replied; told == nil || math.Abs(told.Seconds()-*x.StartedAt) > 0.01 {
		t.Errorf("started at %.3f, the player was told %v", *x.StartedAt, told)
	}
	if off := m.first.NPT.Seconds() - *x.StartedAt; math.Abs(off) > 0.1 {
		t.Errorf("started at %.3f, first picture %.3f", *x.StartedAt, m.first.NPT.Seconds())
	}
	newest, _ := delivered(m.from, *x.Times.Committed)
	if want := newest.NPT.Seconds() - *x.StartedAt; math.Abs(*x.Repeated-want) > 0.3+m.slack {
		t.Errorf("repeated %.2f, players saw %.2f", *x.Repeated, want)
	}
	// overlap, a group of pictures, and the time both play: until media were seen for settle
	both := x.Times.Committed.Sub(*x.Times.Attached).Seconds()
	if most := siteOverlap.Seconds() + 1 + m.origin.Depth.Seconds() + both + 0.5 + m.slack; *x.Repeated < 0 || *x.Repeated > most {
		t.Errorf("repeated %.2f, want 0 to %.2f", *x.Repeated, most)
	}
	if !m.target.TCP && !m.to.Result().FellBack && m.target.Reports == 0 && both > m.gw.cfg.settle.Seconds()+1.5+m.slack {
		t.Errorf("%.2f s from attached to committed, settle is %v", both, m.gw.cfg.settle)
	}
}

func pauseOrigin(t *testing.T, m *labMove) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := m.from.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	await(t, 10*time.Second, "the session is shown paused", func() bool {
		return m.gw.one(t, m.film.URL("film")).State == session.Paused
	})
}

func seekOrigin(t *testing.T, m *labMove) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := m.from.Seek(ctx, moveSeek); err != nil {
		t.Fatal(err)
	}
	reach(t, m.from, moveSeek+2*time.Second)
}

// strictPaths sets what hosts beside Tailscale and the like, and Red Hat's, have in place.
func strictPaths(t *testing.T, m *labMove) {
	t.Helper()
	err := m.gw.Do(lab.GW, func() error {
		var errs []error
		for _, dev := range []string{"all", "default", lab.LAN0, lab.LAN1, lab.WAN0} {
			for _, key := range []string{"rp_filter", "src_valid_mark"} {
				errs = append(errs, os.WriteFile("/proc/sys/net/ipv4/conf/"+dev+"/"+key, []byte("1"), 0))
			}
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// nothingInTheServersName is what a filter does that drops what is invalid, on a router with NAT.
func nothingInTheServersName(t *testing.T, m *labMove) {
	t.Helper()
	cmd := m.gw.Command(t.Context(), lab.GW, "ip", "rule", "add", "pref", "5", "iif", "lo",
		"fwmark", "0x20000000/0x20000000", "to", m.host(phone).String(), "prohibit")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip rule: %v: %s", err, out)
	}
}

func refuseTeardown(_ *testing.T, m *labMove) { m.film.Refuse("TEARDOWN", 401, -1) }

// seekTarget is a viewer who looks elsewhere before the gateway has seen enough.
func seekTarget(t *testing.T, m *labMove) {
	t.Helper()
	reach(t, m.to, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := m.to.Seek(ctx, moveSeek); err != nil {
		t.Fatal(err)
	}
	plays := m.film.Requests("PLAY")
	if last := plays[len(plays)-1]; last.Header("Range") != "npt=60.000-" {
		t.Errorf("the viewer's own seek was changed to %q", last.Header("Range"))
	}
}

// notContinuable is an order that asks for more than a live source can give.
func notContinuable(t *testing.T, m *labMove) {
	t.Helper()
	_, errs, code := m.gw.command(t, "transfer", "--to", "tv", "--require-position")
	wantSaid(t, errs, code, command.Failed, "not-seekable")
}

// joinsLive: the target joins now; there is no position.
func joinsLive(t *testing.T, m *labMove) {
	if x := m.transfer; x.Position != nil || x.StartedAt != nil || x.Repeated != nil {
		t.Errorf("position %v, started at %v, repeated %v of a live source", x.Position, x.StartedAt, x.Repeated)
	}
	for _, e := range m.film.Requests("PLAY") {
		if e.Remote.Addr() == m.host(tv) && e.Header("Range") != "npt=0.000-" {
			t.Errorf("the target's Range was changed to %q", e.Header("Range"))
		}
	}
}

// startsAtZero: what the server did instead is told.
func startsAtZero(t *testing.T, m *labMove) {
	x := m.transfer
	newest, _ := delivered(m.from, *x.Times.Committed)
	if x.Position == nil || x.StartedAt == nil || x.Repeated == nil || *x.StartedAt != 0 || math.Abs(*x.Repeated-newest.NPT.Seconds()) > 0.3+m.slack {
		t.Errorf("position %v, started at %v, repeated %v; the origin had %v", orNaN(x.Position), orNaN(x.StartedAt), orNaN(x.Repeated), newest.NPT)
	}
}
