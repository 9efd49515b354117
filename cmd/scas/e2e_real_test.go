package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"scas/internal/lab"
	"scas/internal/lab/peers"
	"scas/session"
	"scas/tracer/rtsp"
)

// realMove is one move between real players, and what it looked like.
type realMove struct {
	origin, target peers.Kind
	from, to       string // transports
	steer          string
	digest         bool // the server asks for credentials (RFC 7616), which only players have

	transfer session.Transfer
	left     peers.Shown   // the origin's last picture
	first    peers.Shown   // the target's first picture
	ended    time.Duration // the origin's end after committed
	exited   bool
	exit     peers.Exit
	strays   uint64 // packets to the origin in two seconds, from 5 s after done
	sessions int    // of the server, then
	rate     float64
	missed   int
}

// settle is how long both play until the move is decided (DESIGN 5.1.1).
func (m *realMove) settle() float64 {
	switch {
	case m.target == peers.Gst && m.to == peers.UDP:
		return realSettleGst
	case m.to == peers.UDP:
		return realSettle
	}
	return 0
}

// repeated is how many seconds of film the viewer saw twice; negative when some were missed.
func (m *realMove) repeated() float64 { return m.left.Pos - m.first.Pos + 1.0/peers.Rate }

// realMoves are six moves, or all there are.
func realMoves(matrix bool) []*realMove {
	if matrix {
		return realMatrix()
	}
	return []*realMove{
		{origin: peers.FFplay, from: peers.UDP, target: peers.Gst, to: peers.UDP, steer: "transfer"},
		{origin: peers.MPlayer, from: peers.UDP, target: peers.FFmpeg, to: peers.UDP, steer: "transfer"},
		{origin: peers.Gst, from: peers.UDP, target: peers.MPV, to: peers.TCP, steer: "transfer"},
		{origin: peers.MPV, from: peers.TCP, target: peers.FFmpeg, to: peers.TCP, steer: "transfer"},
		{origin: peers.Gst, from: peers.TCP, target: peers.MPV, to: peers.UDP, steer: "always"},
		{origin: peers.FFplay, from: peers.TCP, target: peers.Gst, to: peers.TCP, steer: "transfer"},
		{origin: peers.MPV, from: peers.UDP, target: peers.Gst, to: peers.TCP, steer: "transfer", digest: true},
		{origin: peers.FFplay, from: peers.TCP, target: peers.MPV, to: peers.UDP, steer: "transfer", digest: true},
	}
}

func (m *realMove) name() string {
	name := fmt.Sprintf("%s-%s-%s-%s", m.origin, m.from, m.target, m.to)
	if m.digest {
		name += "-digest"
	}
	return name
}

// realMatrix has every player as origin and as target, over both transports, watched and steered.
func realMatrix() (moves []*realMove) {
	transports := []string{peers.UDP, peers.TCP}
	for i, origin := range peers.Kinds() {
		for j, target := range peers.Kinds() {
			for k := range 4 {
				m := &realMove{origin: origin, from: transports[k&1], target: target, to: transports[k>>1], steer: "transfer"}
				if (i+j+k)%5 == 0 {
					m.steer = "always"
				}
				moves = append(moves, m)
			}
		}
	}
	return moves
}

// TestRealMoves moves a film between players and from a server that know nothing of scas: all there
// is to move with SCAS_MATRIX=1.
func TestRealMoves(t *testing.T) {
	film := realSite(t)
	moves := realMoves(os.Getenv("SCAS_MATRIX") == "1")
	t.Run("move", func(t *testing.T) {
		together(t, 4, moves, (*realMove).name, func(t *testing.T, m *realMove) {
			for try := 0; !m.run(t, m.lab(t, film), film); try++ {
				if try == 1 {
					t.Fatal("the origin does not play")
				}
			}
			m.check(t)
		})
	})
	t.Logf("\n%s", realTable(moves))
}

func (m *realMove) lab(t *testing.T, film peers.Film) *realLab {
	t.Helper()
	server := peers.ServerConfig{Media: film.Dir}
	if m.digest {
		server.User, server.Pass = "bob", "secret"
	}
	return newRealLabWith(t, siteConfig{steer: m.steer, settle: realSettle * time.Second}, server)
}

// run carries the move out and measures it. It is false when there is nothing to move: GStreamer's
// player stands still on its first picture at times, where no gateway is (1 of 223 starts) as well.
func (m *realMove) run(t *testing.T, r *realLab, film peers.Film) bool {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	url := r.server.URL(r.Addr(lab.MS).String(), film.MP4)
	origin := r.play(t, m.origin, m.from, phone, url)
	begin, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	if _, err := origin.WaitPicture(begin, 4*peers.Rate); err != nil {
		if m.origin == peers.Gst && errors.Is(err, context.DeadlineExceeded) {
			return false
		}
		t.Fatal(err)
	}
	r.scas(t, &m.transfer, "transfer", "--to", "tv")
	// libavformat writes the default port into it; nobody's password stands there
	if want := rtsp.StripUserinfo(url); !rtsp.SameURL(m.transfer.URL, want) || strings.Contains(m.transfer.URL, "@") {
		t.Errorf("the target is told to open %s, want %s", m.transfer.URL, want)
	}
	opens := m.transfer.URL
	if m.digest {
		opens = url // its user has credentials as well
	}
	target := r.play(t, m.target, m.to, tv, opens)
	var err error
	if m.first, err = target.WaitPicture(ctx, 0); err != nil {
		t.Fatal(err)
	}
	m.transfer = r.outcome(t, m.transfer.ID)
	if m.transfer.State != session.Done {
		t.Fatalf("transfer %s", transferState(m.transfer))
	}
	at, exited, err := origin.WaitEnd(ctx, 3*time.Second)
	if err != nil {
		t.Fatalf("the origin does not end: %v", err)
	}
	m.ended, m.exited = at.Sub(*m.transfer.Times.Committed), exited
	m.exit, _ = origin.Exit()
	m.left, _ = origin.Last()
	m.afterwards(t, r, target)
	return true
}

// afterwards looks at the network and the target from 5 s after done.
func (m *realMove) afterwards(t *testing.T, r *realLab, target *peers.Player) {
	quiet := m.transfer.Times.Ended.Add(5 * time.Second)
	time.Sleep(time.Until(quiet)) // the moment the requirement names
	before := r.received(t, phone)
	m.sessions = len(r.server.Sessions())
	sending := r.server.Sending(r.Addr(phone))
	time.Sleep(2 * time.Second) // the length of the count
	m.strays = r.received(t, phone) - before
	if len(sending) > 0 {
		t.Errorf("the server still sends to the origin: %+v", sending)
	}
	l := target.Timeline().Between(m.first.At.Add(time.Second), time.Now())
	m.rate = l.Rate()
	m.missed, _ = l.Missed()
	if e, over := target.Exit(); over {
		t.Errorf("the target ended: %+v", e)
	}
}

// check compares with what the viewer, the operator of the server and the network may expect
// (DESIGN 5.1.1, 5.2, 5.3).
func (m *realMove) check(t *testing.T) {
	if m.repeated() < 0 {
		t.Errorf("missed %.2f s: origin up to picture %d, target from %d", -m.repeated(), m.left.N, m.first.N)
	}
	if most := siteOverlap.Seconds() + realGOP + m.settle() + realSpare; m.repeated() > most {
		t.Errorf("repeated %.2f s, want at most %.1f", m.repeated(), most)
	}
	if most := m.origin.Buffer() + 5*time.Second; m.ended > most {
		t.Errorf("the origin ended %v after committed, want at most %v", m.ended, most)
	}
	switch freezes := m.origin == peers.FFplay; {
	case m.exited && !m.exit.Clean():
		t.Errorf("the origin ended badly: %+v", m.exit)
	case !m.exited && !freezes:
		t.Errorf("the origin froze on picture %d instead of ending", m.left.N)
	case m.origin == peers.Gst && !m.exit.EOS:
		t.Errorf("no end of stream: %+v", m.exit)
	}
	if m.strays > 5 { // media are 40 a second; ARP and the end of a connection are not media
		t.Errorf("%d packets reached the origin in two seconds, from 5 s after done", m.strays)
	}
	if m.sessions != 1 {
		t.Errorf("the server holds %d sessions, want 1", m.sessions)
	}
	if m.rate < 24 || m.rate > 26 {
		t.Errorf("the target plays %.1f pictures a second", m.rate)
	}
}

func realTable(moves []*realMove) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-7s %-3s %-7s %-3s %-8s %-9s %8s %8s %8s %8s %8s %7s %6s %5s %6s\n", "origin", "", "target", "", "steer",
		"state", "asked s", "given s", "first s", "left s", "repeat s", "end s", "stray", "sess", "rate")
	for _, m := range moves {
		fmt.Fprintf(&b, "%-7s %-3s %-7s %-3s %-8s %-9s %8.2f %8.2f %8.2f %8.2f %8.2f %7.2f %6d %5d %6.2f\n", m.origin, m.from, m.target, m.to,
			m.steer, m.transfer.State, orNaN(m.transfer.Position), orNaN(m.transfer.StartedAt), m.first.Pos, m.left.Pos, m.repeated(),
			m.ended.Seconds(), m.strays, m.sessions, m.rate)
	}
	return b.String()
}

func orNaN(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}

// realShown is one player whose screen is compared with what scas says of it.
type realShown struct {
	kind          peers.Kind
	transport, ns string
	film          string // a name of its own: the session's URL tells whose it is
	player        *peers.Player
	positions     []session.Position
}

// TestShown compares `rendered` of `scas sessions` with the screens of players that play at
// the same time, over UDP on the phone and interleaved on the tv.
func TestShown(t *testing.T) {
	film := realSite(t)
	media := t.TempDir()
	var all []*realShown
	for _, kind := range []peers.Kind{peers.FFplay, peers.MPV, peers.MPlayer, peers.Gst} {
		all = append(all, &realShown{kind: kind, transport: peers.UDP, ns: phone}, &realShown{kind: kind, transport: peers.TCP, ns: tv})
	}
	for _, s := range all {
		s.film = fmt.Sprintf("%s-%s.mp4", s.kind, s.transport)
		if err := os.Symlink(filepath.Join(film.Dir, film.MP4), filepath.Join(media, s.film)); err != nil {
			t.Fatal(err)
		}
	}
	r := newRealLab(t, media, "transfer")
	for _, s := range all {
		s.player = r.play(t, s.kind, s.transport, s.ns, r.server.URL(r.Addr(lab.MS).String(), s.film))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, s := range all {
		if _, err := s.player.WaitPicture(ctx, 0); err != nil {
			t.Fatal(err)
		}
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for range 40 {
		<-tick.C
		var records []session.Record
		r.scas(t, &records, "sessions")
		for _, s := range all {
			s.note(t, records)
		}
	}
	<-tick.C // the last position has its picture by now
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %-4s %7s %9s %9s %9s %9s %s\n", "player", "over", "samples", "median s", "least s", "most s", "claimed s", "source")
	for _, s := range all {
		s.check(t, &b)
	}
	t.Logf("rendered minus screen:\n%s", b.String())
}

// note keeps the position of the session that plays the film of s.
func (s *realShown) note(t *testing.T, records []session.Record) {
	t.Helper()
	found := 0
	for _, rec := range records {
		if rec.URL == nil || !strings.HasSuffix(*rec.URL, "/"+s.film) || rec.State == session.Ended {
			continue
		}
		if found++; rec.Lossy {
			t.Errorf("%s: shown as lossy", s.film)
		}
		if rec.Position != nil && rec.Position.Rendered != nil {
			s.positions = append(s.positions, *rec.Position)
		}
	}
	if found != 1 {
		t.Errorf("%d sessions play %s, want 1", found, s.film)
	}
}

// check compares and adds a line of figures to b.
func (s *realShown) check(t *testing.T, b *strings.Builder) {
	t.Helper()
	line := s.player.Timeline()
	var off, size []float64
	claimed, sources := 0.0, []string{}
	for _, p := range s.positions {
		picture, ok := line.At(p.At)
		if !ok {
			continue
		}
		off = append(off, *p.Rendered-picture.Pos)
		size = append(size, math.Abs(*p.Rendered-picture.Pos))
		claimed = max(claimed, p.Error)
		if !slices.Contains(sources, string(p.Source)) {
			sources = append(sources, string(p.Source))
		}
	}
	if len(off) < 20 {
		t.Errorf("%s: %d positions to compare, want 20 or more", s.film, len(off))
		return
	}
	slices.Sort(off)
	slices.Sort(size)
	fmt.Fprintf(b, "%-8s %-4s %7d %+9.2f %+9.2f %+9.2f %9.2f %s\n", s.kind, s.transport, len(off), off[len(off)/2], off[0], off[len(off)-1],
		claimed, strings.Join(sources, " "))
	if m := size[len(size)/2]; m > 0.3 {
		t.Errorf("%s: rendered is %.2f s off the screen (median), want at most 0.3", s.film, m)
	}
}
