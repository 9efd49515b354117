package tracer

import (
	"testing"
	"time"

	"scas/bpf"
	"scas/tracer/mms"
)

// segments hands an MMST connection over as segments, with the holes that a watched one has.
type segments struct {
	d   *Decoder
	seq [2]uint32
}

func (x *segments) put(dir bpf.Dir, b []byte, hole bool, at time.Time) {
	if hole {
		x.seq[dir] += 5000
	}
	x.d.Segment(Segment{Flow: mmsFlow(), Dir: dir, Seq: x.seq[dir], Payload: b, At: at, Skip: hole})
	x.seq[dir] += uint32(len(b))
}

func (x *segments) say(at time.Time, all ...mms.Body) {
	for _, b := range all {
		x.put(bpf.Dir(b.MID()>>16-3), mms.Append(nil, mms.Stamp{}, b), false, at)
	}
}

// TestMMSSeekOfASlowServer: VLC seeks with the incarnation it has, and a server that takes its time goes
// on with the film as it was. That is not the answer, even when bytes are missing.
func TestMMSSeekOfASlowServer(t *testing.T) {
	for _, tt := range []struct {
		name    string
		replies bool // the replies are seen
		slow    time.Duration
	}{{"at once", true, 0}, {"slow", true, 1500 * time.Millisecond}, {"slow, replies not seen", false, 1500 * time.Millisecond}} {
		t.Run(tt.name, func(t *testing.T) {
			at := time.Unix(1000, 0)
			x := &segments{d: NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}}), seq: [2]uint32{100, 1000}}
			x.d.Segment(Segment{Flow: mmsFlow(), Seq: 99, Flags: SYN, At: at})
			x.d.Segment(Segment{Flow: mmsFlow(), Dir: bpf.ToTerminal, Seq: 999, Flags: SYN | ACK, At: at})
			x.say(at, &mms.Connect{SubscriberName: "NSPlayer/7.0.0.1956; {0xbabac001}"}, &mms.OpenFile{},
				&mms.ReportOpenFile{OpenFileID: 1, Attributes: mms.CanSeek, Duration: 100, PacketSize: 200, PacketCount: 1000},
				&mms.StartPlaying{OpenFileID: 1, PlayIncarnation: 4}, &mms.ReportStartedPlaying{PlayIncarnation: 4})
			media := func(n uint32, hole bool, at time.Time) {
				x.put(bpf.ToTerminal, mmsPacket(4, n, 100*n, 100*n), hole, at)
			}
			for n := range uint32(10) {
				media(n, false, at)
			}
			x.say(at, &mms.StopPlaying{OpenFileID: 1}, &mms.StartPlaying{OpenFileID: 1, PlayIncarnation: 4, LocationID: 200})
			media(30, true, at)
			at = at.Add(tt.slow)
			media(31, false, at) // sent before it stopped
			if tt.replies {
				x.say(at, &mms.ReportEndOfStream{PlayIncarnation: 4}, &mms.ReportStartedPlaying{PlayIncarnation: 4})
			}
			media(195, false, at) // the key picture before
			media(196, false, at)
			s := newest(x.d)
			if s.film.start != 19_500_000_000 || s.film.location != 196 {
				t.Errorf("started at %v, now packet %d", time.Duration(s.film.start), s.film.location)
			}
		})
	}
}
