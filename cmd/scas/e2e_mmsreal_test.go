package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
)

// mmsMedia says what cannot be run here and returns the film of MMS, as the server reads it, and
// its name.
func mmsMedia(t *testing.T) (*lab.ASF, string) {
	t.Helper()
	lab.Root(t)
	programs := []string{"ffmpeg"}
	for _, k := range peers.MMSKinds() {
		programs = append(programs, k.MMSPrograms()...)
	}
	var err error
	for _, p := range programs {
		_, missing := exec.LookPath(p)
		err = errors.Join(err, missing)
	}
	if err == nil {
		_, err = peers.LibmmsProgram(t.Context(), peers.CacheDir())
	}
	switch {
	case err != nil && os.Getenv("SCAS_PRIV") == "1":
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
	film, err := peers.ASFMedia(t.Context(), peers.CacheDir(), realFilm)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(film.Dir, film.Name))
	if err != nil {
		t.Fatal(err)
	}
	asf, err := lab.ParseASF(file)
	if err != nil {
		t.Fatal(err)
	}
	return asf, film.Name
}

// playReal starts a player of MMS in ns; it is closed when the test ends. What it says is kept,
// but for ffmpeg's, which has no end when a film is cut short (mms.md 6.5).
func (s *site) playReal(t *testing.T, kind peers.Kind, ns, url string) *peers.MMSPlayer {
	t.Helper()
	log := ""
	if kind != peers.FFmpeg {
		log = filepath.Join(s.dir, fmt.Sprintf("%s-%s-%d.log", kind, ns, time.Now().UnixNano()))
	}
	if rest, ok := strings.CutPrefix(url, "mms:"); ok && kind == peers.Libmms {
		url = "mmst:" + rest // with mms it goes over HTTP first, as GStreamer does
	}
	p, err := peers.StartMMSPlayer(t.Context(), peers.PlayerConfig{Kind: kind, URL: url, Start: s.Command, NS: ns, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		if said, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("%s in %s said:\n%s", kind, ns, said[max(0, len(said)-8<<10):])
		}
	})
	return p
}

// mmsReal is one move between real players of MMS, and what it looked like.
type mmsReal struct {
	origin, target peers.Kind
	scheme         string // mms: over TCP
	over           string // scheme of the target, default the same
	steer          string

	gw       *site
	server   *lab.MMSServer
	packet   time.Duration // of film, most in one packet
	transfer session.Transfer
	left     peers.Shown   // the origin's last picture
	first    peers.Shown   // the target's first one
	ended    time.Duration // the origin's end after committed
	exited   bool
	exit     peers.Exit
	clock    float64 // of VLC as target, minus its screen
	rate     float64
	back     int
	slack    float64
}

func (m *mmsReal) name() string {
	return fmt.Sprintf("%s-%s-%s%s-%s", m.scheme, m.origin, m.over, m.target, m.steer)
}

// stays reports whether the origin is known not to end when its film is cut short: ffmpeg reads
// errors for ever, whatever it is told (mms.md 6.5).
func (m *mmsReal) stays() bool { return m.origin == peers.FFmpeg }

// repeated is how many seconds of film the viewer saw twice; negative when some were missed.
func (m *mmsReal) repeated() float64 { return m.left.Pos - m.first.Pos + 1.0/peers.Rate }

// TestMMSRealMoves moves a film between the players of MMS that Debian has, each of them as
// origin and as target, over TCP and over HTTP.
func TestMMSRealMoves(t *testing.T) {
	asf, name := mmsMedia(t)
	moves := []*mmsReal{
		{origin: peers.VLC, target: peers.MPlayer, scheme: "mms", steer: "transfer"},
		{origin: peers.MPlayer, target: peers.VLC, scheme: "mms", steer: "always"},
		{origin: peers.Libmms, target: peers.FFmpeg, scheme: "mms", steer: "always"},
		{origin: peers.FFmpeg, target: peers.Libmms, scheme: "mms", steer: "transfer"},
		{origin: peers.VLC, target: peers.Libmms, scheme: "mms", steer: "always", over: "mmsh"},
		{origin: peers.Libmms, target: peers.VLC, scheme: "mms", steer: "transfer"},
		{origin: peers.VLC, target: peers.FFmpeg, scheme: "mmsh", steer: "transfer"},
		{origin: peers.MPlayer, target: peers.VLC, scheme: "mmsh", steer: "always"},
	}
	t.Run("move", func(t *testing.T) {
		together(t, 4, moves, (*mmsReal).name, func(t *testing.T, m *mmsReal) {
			m.run(t, asf, name)
			m.check(t)
		})
	})
	t.Logf("\n%s", mmsRealTable(moves))
}

// run carries the move out and measures it.
func (m *mmsReal) run(t *testing.T, asf *lab.ASF, name string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m.gw, m.packet = newSite(t, siteConfig{steer: m.steer}), packetMost(asf)
	m.server = m.gw.mmsFilm(t, lab.MMSConfig{ASF: asf, Lead: mmsAhead})
	m.gw.serve(t)
	began := time.Now()
	url := m.gw.mmsURL(m.scheme, name)
	origin := m.gw.playReal(t, m.origin, phone, url)
	if _, err := origin.WaitPicture(ctx, 9*peers.Rate); err != nil {
		t.Fatal(err)
	}
	m.gw.shown(t, url)
	m.gw.scas(t, &m.transfer, "transfer", "--to", "tv")
	if m.transfer.URL != url {
		t.Errorf("the target is told to open %s, want %s", m.transfer.URL, url)
	}
	opens := m.transfer.URL
	if m.over != "" {
		opens = strings.Replace(opens, m.scheme+":", m.over+":", 1)
	}
	target := m.gw.playReal(t, m.target, tv, opens)
	var err error
	if m.first, err = target.WaitPicture(ctx, 0); err != nil {
		t.Fatal(err)
	}
	m.transfer = m.gw.outcome(t, m.transfer.ID)
	if m.transfer.State != session.Done {
		t.Fatalf("transfer %s", transferState(m.transfer))
	}
	stays := 15 * time.Second
	if m.stays() {
		stays = 4 * time.Second
	}
	at, exited, err := origin.WaitEnd(ctx, stays)
	if err != nil {
		t.Fatalf("the origin does not end: %v", err)
	}
	m.ended, m.exited = at.Sub(*m.transfer.Times.Committed), exited
	m.exit, _ = origin.Exit()
	m.left, _ = origin.Last()
	origin.Close() // ffmpeg burns a processor
	m.goesOn(ctx, t, target)
	m.slack = stalled(began, time.Now()).Seconds()
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
	l := target.Timeline().Between(from.At, time.Now())
	m.rate = l.Rate()
	_, m.back = target.Timeline().Missed()
	if e, over := target.Exit(); over {
		t.Errorf("the target ended: %+v", e)
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
	if m.repeated() < 0 {
		t.Errorf("missed %.2f s: origin up to picture %d, target from %d", -m.repeated(), m.left.N, m.first.N)
	}
	switch {
	case m.stays():
	case !m.exited || !m.exit.Clean():
		t.Errorf("the origin did not end cleanly: %v %+v", m.exited, m.exit)
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
	held := m.server.Sessions()
	if len(held) != 1 || held[0].Remote.Addr() != m.gw.Addr(tv) || !held[0].Playing {
		t.Errorf("the server holds %d sessions, want 1 of %v that plays", len(held), m.gw.Addr(tv))
	}
}

func mmsRealTable(moves []*mmsReal) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-7s %-4s %-7s %-4s %-8s %-6s %8s %8s %8s %8s %8s %7s %6s %6s %6s\n", "origin", "over", "target", "over", "steer",
		"state", "asked s", "given s", "first s", "left s", "repeat s", "end s", "exit", "clock", "rate")
	for _, m := range moves {
		exit, over := "stays", m.over
		if over == "" {
			over = m.scheme
		}
		if m.exited {
			exit = fmt.Sprint(m.exit.Code)
		}
		fmt.Fprintf(&b, "%-7s %-4s %-7s %-4s %-8s %-6s %8.2f %8.2f %8.2f %8.2f %8.2f %7.2f %6s %+6.2f %6.2f\n", m.origin, m.scheme, m.target, over,
			m.steer, m.transfer.State, orNaN(m.transfer.Position), orNaN(m.transfer.StartedAt), m.first.Pos, m.left.Pos, m.repeated(),
			m.ended.Seconds(), exit, m.clock, m.rate)
	}
	return b.String()
}
