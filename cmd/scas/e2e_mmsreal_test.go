package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"scas/internal/lab"
	"scas/internal/lab/peers"
	"scas/session"
)

// mmsGOP is between two key pictures of the film, mmsAhead how much a server sends at once.
const (
	mmsGOP   = time.Second
	mmsAhead = 3 * time.Second

	mmstOnly = "mmst" // the server in Python, without MMSH
)

// mmsReal is one move between real players of MMS, and what it looked like.
type mmsReal struct {
	origin, target peers.Kind
	scheme, over   string // of the origin and of the target; mms: over TCP
	server         string // lab, or the one in python; mmstOnly
	steer          string

	gw       *site
	held     func() []mmsHeld // sessions of the server
	packet   time.Duration    // of film, most in one packet
	transfer session.Transfer
	ahead    float64       // s, of what was taken for the origin's screen when the target started
	left     peers.Shown   // the origin's last picture
	first    peers.Shown   // the target's first one
	ended    time.Duration // the origin's end after committed
	exited   bool
	exit     peers.Exit
	strays   uint64  // packets to the origin in two seconds, from 5 s after done
	clock    float64 // of VLC as target, minus its screen
	rate     float64
	back     int
	slack    float64
}

// mmsMoves returns moves over TCP and over HTTP in which every player is origin and target, with
// either server and either steer policy. All of them: with each server and policy, and every pair
// of players over either protocol; otherwise as few as meet every player in both roles.
func mmsMoves(all bool) (moves []*mmsReal) {
	stages := [4]mmsReal{
		{server: "lab", steer: "transfer"}, {server: "lab", steer: "always"},
		{server: "python", steer: "transfer"}, {server: "python", steer: "always"},
	}
	rows := []struct {
		origin  peers.Kind
		targets [4]peers.Kind  // by stage
		few     map[string]int // the stage when there are few, by scheme
	}{
		{peers.FFmpeg, [4]peers.Kind{peers.FFmpeg, peers.Libmms, peers.MPlayer, peers.VLC}, map[string]int{"mms": 0, "mmsh": 3}},
		{peers.Libmms, [4]peers.Kind{peers.Libmms, peers.FFmpeg, peers.VLC, peers.MPlayer}, map[string]int{"mms": 3, "mmsh": 0}},
		{peers.MPlayer, [4]peers.Kind{peers.MPlayer, peers.VLC, peers.FFmpeg, peers.Libmms}, map[string]int{"mms": 1, "mmsh": 2}},
		{peers.VLC, [4]peers.Kind{peers.VLC, peers.MPlayer, peers.Libmms, peers.FFmpeg}, map[string]int{"mms": 2, "mmsh": 1}},
	}
	for _, scheme := range []string{"mms", "mmsh"} {
		for _, r := range rows {
			for i, m := range stages {
				if all || r.few[scheme] == i {
					m.origin, m.target, m.scheme, m.over = r.origin, r.targets[i], scheme, scheme
					moves = append(moves, &m)
				}
			}
		}
	}
	if all { // ffmpeg with a screen; from one protocol to the other; a target that tries the other first
		moves = append(moves,
			&mmsReal{origin: peers.FFplay, scheme: "mms", target: peers.VLC, over: "mms", server: "python", steer: "transfer"},
			&mmsReal{origin: peers.VLC, scheme: "mmsh", target: peers.FFplay, over: "mmsh", server: "lab", steer: "transfer"},
			&mmsReal{origin: peers.VLC, scheme: "mms", target: peers.Libmms, over: "mmsh", server: "lab", steer: "always"},
			&mmsReal{origin: peers.MPlayer, scheme: "mmsh", target: peers.VLC, over: "mms", server: "python", steer: "transfer"},
			&mmsReal{origin: peers.VLC, scheme: "mms", target: peers.Libmms, over: "mms", server: mmstOnly, steer: "transfer"})
	}
	return moves
}

func (m *mmsReal) name() string {
	return fmt.Sprintf("%s-%s-%s-%s-%s-%s", m.origin, m.scheme, m.target, m.over, m.server, m.steer)
}

// stays reports whether the origin may not exit at the end of its film: ffplay shows its last
// picture then, unless it was started otherwise.
func (m *mmsReal) stays() bool { return m.origin == peers.FFplay }

// repeated is how many seconds of film the viewer saw twice; negative when some were missed.
func (m *mmsReal) repeated() float64 { return m.left.Pos - m.first.Pos + 1.0/peers.Rate }

// TestMMSRealMoves moves a film between the players of MMS that Debian has, from a server of ours
// and from one that is not: all there is to move with SCAS_MATRIX=1.
func TestMMSRealMoves(t *testing.T) {
	asf, film := mmsMedia(t)
	moves := mmsMoves(os.Getenv("SCAS_MATRIX") == "1")
	t.Run("move", func(t *testing.T) {
		together(t, 4, moves, (*mmsReal).name, func(t *testing.T, m *mmsReal) {
			m.run(t, asf, film)
			m.check(t)
		})
	})
	t.Logf("\n%s", mmsRealTable(moves))
}

// run carries the move out and measures it.
func (m *mmsReal) run(t *testing.T, asf *lab.ASF, film peers.ASFFilm) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m.gw, m.packet = newSite(t, siteConfig{steer: m.steer}), packetMost(asf)
	m.held = m.gw.mmsServe(t, m.server, asf, film)
	m.gw.serve(t)
	began := time.Now()
	url := m.gw.mmsURL(m.scheme, film.Name)
	origin := m.gw.playReal(t, m.origin, phone, m.opens(m.origin, url))
	if _, err := origin.WaitPicture(ctx, 9*peers.Rate); err != nil {
		t.Fatal(err)
	}
	m.gw.shown(t, url)
	m.gw.scas(t, &m.transfer, "transfer", "--to", "tv")
	if m.transfer.URL != url {
		t.Errorf("the target is told to open %s, want %s", m.transfer.URL, url)
	}
	target := m.gw.playReal(t, m.target, tv, m.opens(m.target, strings.Replace(m.transfer.URL, m.scheme+":", m.over+":", 1)))
	var err error
	if m.first, err = target.WaitPicture(ctx, 0); err != nil {
		t.Fatal(err)
	}
	m.transfer = m.gw.outcome(t, m.transfer.ID)
	if m.transfer.State != session.Done {
		t.Fatalf("transfer %s", transferState(m.transfer))
	}
	if screen, ok := origin.Timeline().At(*m.transfer.Times.Attached); ok && m.transfer.Position != nil {
		m.ahead = *m.transfer.Position + siteOverlap.Seconds() - screen.Pos
	}
	m.end(ctx, t, origin)
	m.goesOn(ctx, t, target)
	m.afterwards(t)
	m.slack = stalled(began, time.Now()).Seconds()
}

// opens returns what a player of url is given: with mms libmms would go over HTTP first, as
// GStreamer does, and stay there.
func (m *mmsReal) opens(kind peers.Kind, url string) string {
	if rest, ok := strings.CutPrefix(url, "mms:"); ok && kind == peers.Libmms && m.server != mmstOnly {
		return "mmst:" + rest
	}
	return url
}

// end waits for the origin's end.
func (m *mmsReal) end(ctx context.Context, t *testing.T, origin *peers.MMSPlayer) {
	freeze := 15 * time.Second
	if m.stays() {
		freeze = 4 * time.Second
	}
	at, exited, err := origin.WaitEnd(ctx, freeze)
	if err != nil {
		t.Fatalf("the origin does not end: %v", err)
	}
	m.ended, m.exited = at.Sub(*m.transfer.Times.Committed), exited
	m.exit, _ = origin.Exit()
	m.left, _ = origin.Last()
	if !exited { // it may burn a processor; its connections stay as they are
		_ = syscall.Kill(-origin.Pid(), syscall.SIGSTOP)
	}
}

// goesOn looks at the target for some seconds.
func (m *mmsReal) goesOn(ctx context.Context, t *testing.T, target *peers.MMSPlayer) {
	from, err := target.WaitPicture(ctx, int(m.left.Pos*peers.Rate))
	if err == nil {
		_, err = target.WaitPicture(ctx, from.N+4*peers.Rate)
	}
	if err != nil {
		t.Errorf("the target does not go on: %v", err)
		return
	}
	if m.target == peers.VLC {
		clock, err := target.Clock(ctx)
		if err != nil {
			t.Error(err)
		}
		shown, _ := target.Last()
		m.clock = clock.Seconds() - shown.Pos
	}
	m.rate = target.Timeline().Between(from.At, time.Now()).Rate()
	_, m.back = target.Timeline().Missed()
	if e, over := target.Exit(); over {
		t.Errorf("the target ended: %+v", e)
	}
}

// afterwards looks at the network and the server from 5 s after done.
func (m *mmsReal) afterwards(t *testing.T) {
	time.Sleep(time.Until(m.transfer.Times.Ended.Add(5 * time.Second))) // the moment the requirement names
	before := m.gw.received(t, phone)
	time.Sleep(2 * time.Second) // the length of the count
	m.strays = m.gw.received(t, phone) - before
	held := m.held()
	if len(held) != 1 || held[0] != (mmsHeld{m.gw.Addr(tv), true}) {
		t.Errorf("the server holds %+v, want one session of %v that plays", held, m.gw.Addr(tv))
	}
}

// check compares with what the viewer and the server's operator may expect.
func (m *mmsReal) check(t *testing.T) {
	x := m.transfer
	if x.Position == nil || x.StartedAt == nil {
		t.Fatalf("position %v, started at %v", orNaN(x.Position), orNaN(x.StartedAt))
	}
	unit := (mmsGOP + m.packet).Seconds()
	if early := *x.Position - m.first.Pos; early < -1.0/peers.Rate || early > unit {
		t.Errorf("asked for %.2f, first picture %.2f: want it 0 to %.2f s before", *x.Position, m.first.Pos, unit)
	}
	// ffmpeg and libmms have no screen to be behind: what they have they "show"
	behind := 1.6
	if m.origin == peers.FFmpeg || m.origin == peers.Libmms {
		behind = 6
	}
	if m.ahead > 0.5+m.slack || m.ahead < -behind-m.slack {
		t.Errorf("the origin's screen was taken to be %+.2f s ahead of what it was", m.ahead)
	}
	if m.repeated() < 0 {
		t.Errorf("missed %.2f s: origin up to picture %d, target from %d", -m.repeated(), m.left.N, m.first.N)
	}
	if !m.stays() && (!m.exited || !m.exit.Clean()) {
		t.Errorf("the origin did not end cleanly: %v %+v", m.exited, m.exit)
	}
	if m.strays > 5 { // media are 10 a second and more
		t.Errorf("%d packets reached the origin in two seconds, from 5 s after done", m.strays)
	}
	if m.back > 0 {
		t.Errorf("the target went back %d times", m.back)
	}
	if m.target != peers.FFmpeg && (m.rate < 23 || m.rate > 27) && m.slack < 1 {
		t.Errorf("the target plays %.1f pictures a second", m.rate)
	}
	if most := 1.5 + m.slack; math.Abs(m.clock) > most { // it says whole seconds
		t.Errorf("VLC's clock is %+.1f s off its screen", m.clock)
	}
}

func mmsRealTable(moves []*mmsReal) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-7s %-4s %-7s %-4s %-6s %-8s %-6s %7s %7s %7s %7s %7s %7s %6s %5s %6s %5s %6s\n", "origin", "over", "target", "over", "server", "steer",
		"state", "ahead s", "asked s", "given s", "first s", "left s", "twice s", "end s", "exit", "clock", "stray", "rate")
	for _, m := range moves {
		if m.transfer.ID == "" {
			continue // not run
		}
		exit := "stays"
		if m.exited {
			exit = fmt.Sprint(m.exit.Code)
		}
		fmt.Fprintf(&b, "%-7s %-4s %-7s %-4s %-6s %-8s %-6s %+7.2f %7.2f %7.2f %7.2f %7.2f %7.2f %6.2f %5s %+6.2f %5d %6.2f\n", m.origin, m.scheme, m.target,
			m.over, m.server, m.steer, m.transfer.State, m.ahead, orNaN(m.transfer.Position), orNaN(m.transfer.StartedAt), m.first.Pos, m.left.Pos,
			m.repeated(), m.ended.Seconds(), exit, m.clock, m.strays, m.rate)
	}
	return b.String()
}
