package splice

import (
	"bytes"
	"slices"
	"testing"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
	"scas/tracer/mms"
)

// watchedMedia tells the packets of mediaAt.
var watchedMedia = mms.MediaSignature{Incarnation: 4, MaxSize: 400, From: 0, To: 1000}

// A unit's beginning is found in what comes up, and nowhere else.
func TestBoundary(t *testing.T) {
	var stream []byte
	var starts []uint32
	const base = uint32(1<<32 - 150) // wraps in the first packets
	add := func(b []byte) {
		starts = append(starts, base+uint32(len(stream)))
		stream = append(stream, b...)
	}
	for n := range uint32(12) {
		add(mediaAt(n, 1000*n))
		if n%4 == 3 {
			add(mms.Append(nil, mms.Stamp{}, &mms.Ping{}))
		}
	}
	end := base + uint32(len(stream))
	next := func(at uint32) uint32 {
		for _, s := range starts {
			if int32(s-at) >= 0 {
				return s
			}
		}
		return end
	}
	for from := 0; from < len(stream); from += 7 {
		for at := from; at < len(stream); at += 5 {
			b, seq := stream[from:], base+uint32(at)
			to, ok := boundary(watchedMedia, base+uint32(from), b, seq, nil)
			switch {
			case ok && to != next(seq):
				t.Fatalf("bytes from %d: at %d a unit begins at %d, want %d", from, at, to-base, next(seq)-base)
			case !ok && int(next(seq)-base)+mms.Least < len(stream):
				t.Fatalf("bytes from %d: at %d nothing is found", from, at)
			}
			// cut short: not found, or right
			if to, ok := boundary(watchedMedia, base+uint32(from), b[:min(len(b), at-from+20)], seq, nil); ok && to != next(seq) {
				t.Fatalf("bytes %d to %d: at %d a unit begins at %d", from, at+20, at, to-base)
			}
		}
	}
	if to, ok := boundary(watchedMedia, 77, nil, 77, new(uint32(77))); !ok || to != 77 {
		t.Errorf("where the newest unit ended: %d %v", to, ok)
	}
	if _, ok := boundary(watchedMedia, 70, bytes.Repeat([]byte{4}, 500), 77, nil); ok {
		t.Error("found in rubbish")
	}
}

func TestFilmTap(t *testing.T) {
	stream := bytes.Repeat([]byte("abcdefghijklmnopqrstuvwxyz"), 20)
	const base = uint32(1<<32 - 100)
	p := newFilmTap()
	put := func(from, to int) { p.add(base+uint32(from), stream[from:to]) }
	if from, b := p.around(base); from != base || b != nil {
		t.Errorf("nothing yet: %d %q", from, b)
	}
	put(200, 300)
	put(0, 50)
	put(250, 320) // sent again
	put(100, 150)
	for _, tt := range []struct{ at, from, to int }{
		{0, 0, 50}, {50, 0, 50}, {60, 60, 60}, {100, 100, 150}, {120, 100, 150}, {210, 200, 320}, {320, 200, 320}, {400, 400, 400},
	} {
		from, b := p.around(base + uint32(tt.at))
		if from != base+uint32(tt.from) || !bytes.Equal(b, stream[tt.from:tt.to]) {
			t.Errorf("around %d: %d bytes from %d, want %d to %d", tt.at, len(b), int32(from-base), tt.from, tt.to)
		}
	}
	put(50, 100)
	put(140, 210)
	if from, b := p.around(base + 70); from != base || !bytes.Equal(b, stream[:320]) {
		t.Errorf("whole: %d bytes from %d", len(b), int32(from-base))
	}
	for range 10_000 {
		p.add(5, stream)
	}
	if p.size > maxTapped || len(p.parts) > maxTappedParts {
		t.Errorf("%d bytes in %d parts", p.size, len(p.parts))
	}
}

// What fills a film up is read as its packets, and holds nothing.
func TestFiller(t *testing.T) {
	b := filler(9, 3)
	for range 3 {
		u, n, err := mms.Next(b, mms.ToViewer)
		if err != nil || u.Kind != mms.KindData || u.Data.Incarnation != 9 {
			t.Fatalf("%+v: %v", u, err)
		}
		if p, err := mms.ParsePacket(u.Payload); err != nil || p.Timed {
			t.Errorf("%+v: %v", p, err)
		}
		b = b[n:]
	}
	if len(b) != 0 {
		t.Errorf("%d bytes left", len(b))
	}
	for _, tt := range []struct {
		m    *tracer.MMSDetail
		want int
	}{
		{nil, 0}, {&tracer.MMSDetail{Packets: 5}, 0}, {&tracer.MMSDetail{Counts: true}, 0},
		{&tracer.MMSDetail{Counts: true, Packets: 100}, 100}, {&tracer.MMSDetail{Counts: true, Packets: 101}, 0},
		{&tracer.MMSDetail{Counts: true, Packets: 1 << 63}, 0},
	} {
		if n := (&ender{d: tracer.Detail{MMS: tt.m}}).fill(100); n != tt.want {
			t.Errorf("%+v: %d packets, want %d", tt.m, n, tt.want)
		}
	}
}

func TestRoom(t *testing.T) {
	scaled := func(n uint8) bpf.SYNOptions { return bpf.SYNOptions{Seen: true, HaveWScale: true, WScale: n} }
	for _, tt := range []struct {
		seen     bool
		up, down bpf.SYNOptions
		want     int
	}{
		{false, bpf.SYNOptions{}, bpf.SYNOptions{}, 500 << 7},
		{true, scaled(3), scaled(9), 500 << 3},
		{true, scaled(3), bpf.SYNOptions{}, 500},
		{true, scaled(200), scaled(1), 500 << 14},
	} {
		st := bpf.TCPStats{SynSeen: tt.seen, ToServer: bpf.TCPDirStats{Window: 500, SYN: tt.up}, ToTerminal: bpf.TCPDirStats{SYN: tt.down}}
		if got := room(st); got != tt.want {
			t.Errorf("%+v: %d, want %d", tt, got, tt.want)
		}
	}
}

// The player of a watched film gets the rest of the packet it has begun, is told that the film is
// over, and loses its connection; the server loses it too.
func TestEndWatchedFilm(t *testing.T) {
	for _, tt := range []struct {
		name   string
		has    int  // bytes of the second packet that the player has
		window int  // of the player
		shows  bool // the rest of the packet comes up
		paused bool // nothing comes, and the newest unit was read whole
		ended  bool // the player is told
		counts bool // it believes only in the number of packets
	}{
		{name: "at the end of a packet", shows: true, window: 60000, ended: true},
		{name: "in a packet", has: 33, shows: true, window: 60000, ended: true},
		{name: "nothing is sent any more", paused: true, window: 60000, ended: true},
		{name: "a player that counts", has: 33, shows: true, counts: true, window: 60000, ended: true},
		{name: "nothing comes up", has: 33, window: 60000},
		{name: "no room", has: 33, shows: true, window: 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, quietConfig())
			b.film(session.MMS)
			packet := mediaAt(700, 60000)
			const start = uint32(1<<32 - 20)
			at := start + uint32(tt.has)
			b.tr.set("s1", func(d *tracer.Detail) {
				d.MMS = &tracer.MMSDetail{PlayIncarnation: 4, Media: watchedMedia, HaveMedia: true, ToViewerSeq: 41}
				d.MMS.Counts, d.MMS.Packets = tt.counts, 300
				if tt.paused {
					d.MMS.Boundary, d.MMS.HaveBoundary = start, true
				}
			})
			control := b.tr.details["s1"].Control
			st := bpf.TCPStats{
				SynSeen:    true,
				ToServer:   bpf.TCPDirStats{HighestSeq: 100, NewestAck: at, HaveAck: true, Window: uint16(tt.window)},
				ToTerminal: bpf.TCPDirStats{HighestSeq: at + 500, NewestAck: 100, HaveAck: true},
			}
			b.k.do(func() { b.k.tcp[control] = st })
			b.wire.forged = func(s segment) { // the player answers
				b.k.do(func() {
					x := b.k.tcp[control]
					x.ToServer.Packets++
					if n := uint32(len(s.payload)); tt.ended && s.to == control.Terminal && int32(s.seq-at) >= 0 {
						if s.flags&flagFIN != 0 {
							n++
						}
						x.ToServer.NewestAck = s.seq + n
					}
					b.k.tcp[control] = x
				})
			}
			x := b.move(session.Order{})
			up, down, _ := b.mmsTarget(windowsName, filmPath)
			b.startsFilm(up, down, 59.25, mediaAt(5, 59000))
			if tt.shows {
				eventually(t, "the film is listened to", func() bool {
					b.tr.mu.Lock()
					defer b.tr.mu.Unlock()
					if b.tr.tap != nil {
						b.tr.tap(at, packet[tt.has:])
						b.tr.tap(start+uint32(len(packet)), mediaAt(701, 61000))
					}
					return b.tr.tap != nil
				})
			}
			b.await(x.ID, session.Done, "")
			rest := packet[tt.has:]
			if tt.paused || tt.has == 0 {
				rest = nil
			}
			if tt.counts {
				rest = slices.Concat(rest, filler(4, 300))
			}
			b.checkLastWords(t, control, at, rest, tt.ended)
		})
	}
}

// checkLastWords looks at what was sent in the server's name from sequence number at on.
func (b *bed) checkLastWords(t *testing.T, control bpf.Flow, at uint32, rest []byte, ended bool) {
	t.Helper()
	b.wire.mu.Lock()
	defer b.wire.mu.Unlock()
	var said []byte
	var fin, rst bool
	for _, s := range b.wire.segments {
		switch {
		case s.flags&flagRST != 0:
			rst = rst || s.to == control.Server
		case s.seq == at-1 && !fin: // a question
		case s.to == control.Terminal && s.seq == at+uint32(len(said)):
			said = append(said, s.payload...)
			fin = fin || s.flags&flagFIN != 0
		}
	}
	if !rst || !fin {
		t.Errorf("RST %v, FIN %v", rst, fin)
	}
	want := mms.Append(slices.Clone(rest), mms.Stamp{Seq: 42}, &mms.ReportEndOfStream{PlayIncarnation: 4})
	if !ended {
		want = nil
	}
	if !bytes.Equal(said, want) {
		t.Errorf("the player is sent %x, want %x", said, want)
	}
	if n := b.s.Stats()["streams_ended"]; (n == 1) != ended {
		t.Errorf("%d ended", n)
	}
}
