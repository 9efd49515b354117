package lab

import (
	"slices"
	"testing"
	"time"

	"github.com/pion/rtp"
)

// desk writes a player's book by hand. Times are offsets from an arbitrary moment.
type desk struct {
	t    *testing.T
	film Film
	b    book
	base time.Time
	seq  uint16
	now  time.Duration
}

func newDesk(t *testing.T) *desk {
	return &desk{
		t: t, film: Film{PacketSize: 200}.withDefaults(), seq: 65530, // wraps soon
		b: book{depth: time.Second}, base: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

// start begins a segment at a media time.
func (d *desk) start(npt time.Duration) {
	info := startInfo{asked: &npt, replied: &npt}
	info.info[VideoTrack] = rtpInfo{seq: d.seq, rtptime: ticks(VideoTrack, npt), haveSeq: true, haveTS: true}
	d.b.release(&info)
}

// packets returns the packets of a picture, numbered on.
func (d *desk) packets(n uint32) []rtp.Packet {
	var out []rtp.Packet
	for i := range d.film.fragments(VideoTrack, n) {
		out = append(out, rtp.Packet{
			Header:  rtp.Header{Version: 2, SequenceNumber: d.seq, Timestamp: ticks(VideoTrack, d.film.npt(VideoTrack, n)), SSRC: 7},
			Payload: d.film.appendPayload(nil, VideoTrack, n, i),
		})
		d.seq++
	}
	return out
}

func (d *desk) give(pkts ...rtp.Packet) {
	for _, p := range pkts {
		d.b.packet(VideoTrack, p, 12+len(p.Payload), d.base.Add(d.now))
	}
}

// play gives pictures from to to-1 in real time.
func (d *desk) play(from, to uint32) {
	for n := from; n < to; n++ {
		d.give(d.packets(n)...)
		d.now += 40 * time.Millisecond
	}
}

func (d *desk) missing(want ...[]uint32) {
	d.t.Helper()
	segs := d.b.segments()
	if len(segs) != len(want) {
		d.t.Fatalf("%d segments, want %d", len(segs), len(want))
	}
	for i, s := range segs {
		if !slices.Equal(s.Missing, want[i]) {
			d.t.Errorf("segment %d misses %v, want %v", i, s.Missing, want[i])
		}
	}
}

func TestBookGaps(t *testing.T) {
	t.Run("whole", func(t *testing.T) {
		d := newDesk(t)
		d.start(0)
		d.play(0, 60)
		d.missing(nil)
		if l := d.b.tracks[VideoTrack].lost(); l != 0 {
			t.Errorf("lost %d over the wrap", l)
		}
	})
	t.Run("lost fragment", func(t *testing.T) {
		d := newDesk(t)
		d.start(0)
		d.play(0, 25)
		d.give(d.packets(25)[1:]...)
		d.play(26, 30)
		d.missing([]uint32{25})
		if l := d.b.tracks[VideoTrack].lost(); l != 1 {
			t.Errorf("lost %d", l)
		}
	})
	t.Run("reordered and doubled", func(t *testing.T) {
		d := newDesk(t)
		d.start(0)
		a, b := d.packets(0), d.packets(1)
		d.give(b...)
		d.give(a[1:]...)
		d.give(a[0], a[0])
		d.give(b...)
		d.missing(nil)
		if n := d.b.tracks[VideoTrack].dups; n != 1+len(b) {
			t.Errorf("%d duplicates", n)
		}
		if first, _ := d.b.segments()[0].First(); first.Number != 0 {
			t.Errorf("first %+v", first)
		}
	})
	t.Run("stranger and broken", func(t *testing.T) {
		d := newDesk(t)
		d.start(0)
		d.play(0, 2)
		p := d.packets(2)[0]
		p.SSRC = 8
		d.give(p)
		p = d.packets(3)[0]
		p.Payload[40] ^= 1
		d.give(p)
		if d.b.foreign != 1 || d.b.corrupt != 1 {
			t.Errorf("foreign %d corrupt %d", d.b.foreign, d.b.corrupt)
		}
	})
}

func TestBookSeek(t *testing.T) {
	d := newDesk(t)
	d.start(0)
	d.play(0, 10)
	late := d.packets(10)
	d.b.hold()
	d.give(d.packets(250)...) // before the reply was read
	d.seq -= uint16(d.film.fragments(VideoTrack, 250))
	d.start(10 * time.Second)
	d.seq += uint16(d.film.fragments(VideoTrack, 250))
	d.give(late...) // sent before the seek
	d.play(251, 260)
	d.missing(nil, nil)
	segs := d.b.segments()
	if last, _ := segs[0].Last(); last.Number != 10 {
		t.Errorf("last before the seek %+v", last)
	}
	if first, _ := segs[1].First(); first.Number != 250 || segs[1].ClockError[VideoTrack] != 0 {
		t.Errorf("first after the seek %+v, clock error %v", first, segs[1].ClockError)
	}
}

func TestBookScreen(t *testing.T) {
	d := newDesk(t)
	d.start(0)
	d.play(0, 50) // 2 s
	at := func(off time.Duration) int {
		p, ok := d.b.onScreen(d.base.Add(off))
		if !ok {
			return -1
		}
		return int(p.Number)
	}
	for off, want := range map[time.Duration]int{
		990 * time.Millisecond: -1, time.Second: 0, 1500 * time.Millisecond: 12, 9 * time.Second: 49,
	} {
		if got := at(off); got != want {
			t.Errorf("at %v picture %d, want %d", off, got, want)
		}
	}
	if got := d.b.drained().Sub(d.base); got != 2960*time.Millisecond {
		t.Errorf("drained after %v", got)
	}
	// A pause of 3 s at 2 s: picture 25 stays, 26 comes 3 s later.
	d.b.pause(d.base.Add(2 * time.Second))
	if got := at(4 * time.Second); got != 24 && got != 25 {
		t.Errorf("in the pause picture %d", got)
	}
	d.b.resume(d.base.Add(5 * time.Second))
	if got := at(5100 * time.Millisecond); got != 27 {
		t.Errorf("after the pause picture %d, want 27", got)
	}
	if got := d.b.ahead(d.base.Add(5100 * time.Millisecond)); got != 22*40*time.Millisecond {
		t.Errorf("ahead %v", got)
	}
	// A seek replaces what was not shown.
	d.now = 6 * time.Second
	d.start(10 * time.Second)
	d.play(250, 300)
	if got := at(6500 * time.Millisecond); got != 49 {
		t.Errorf("before the new first picture: %d, want 49", got)
	}
	if got := at(7 * time.Second); got != 250 {
		t.Errorf("after the seek picture %d, want 250", got)
	}
}
