package tracer

import (
	"testing"
	"time"

	"scas/bpf"
	"scas/tracer/mms"
)

// TestTap: what comes up of a server's bytes is handed on with its place in the stream, until the tap
// is taken off; and where a unit of the server begins is known behind what was read whole.
func TestTap(t *testing.T) {
	l := quietLive(newFakeKernel())
	f, at := mmsFlow(), time.Unix(1000, 0)
	event := func(kind bpf.EventKind, dir bpf.Dir, seq uint32, b []byte) {
		l.event(&bpf.Event{Kind: kind, Proto: bpf.TCP, Flow: f, Dir: dir, Seq: seq, Payload: b, Requests: 1, At: at})
	}
	seq := [2]uint32{100, 1000}
	say := func(all ...mms.Body) {
		for _, b := range all {
			dir := bpf.Dir(b.MID()>>16 - 3)
			raw := mms.Append(nil, mms.Stamp{}, b)
			event(bpf.EventTCP, dir, seq[dir], raw)
			seq[dir] += uint32(len(raw))
		}
	}
	l.event(&bpf.Event{Kind: bpf.EventTCP, Proto: bpf.TCP, Flow: f, TCPFlags: SYN, Seq: seq[0] - 1, At: at})
	l.event(&bpf.Event{Kind: bpf.EventTCP, Proto: bpf.TCP, Flow: f, Dir: bpf.ToTerminal, TCPFlags: SYN | ACK, Seq: seq[1] - 1, At: at})
	say(&mms.OpenFile{}, &mms.ReportOpenFile{OpenFileID: 1, Duration: 100, PacketSize: 200, PacketCount: 1000},
		&mms.StartPlaying{OpenFileID: 1, PlayIncarnation: 9}, &mms.ReportStartedPlaying{PlayIncarnation: 9})
	var got []uint32
	stop := l.Tap(f, func(seq uint32, b []byte) { got = append(got, seq, uint32(len(b))) })
	packet := mmsPacket(9, 0, 0, 0)
	event(bpf.EventTCP, bpf.ToServer, seq[0], nil)
	event(bpf.EventTCP, bpf.ToTerminal, seq[1], packet)
	id := newest(l.d).rec.ID
	if x, _ := l.Detail(id, at); !x.MMS.HaveBoundary || x.MMS.Boundary != seq[1]+uint32(len(packet)) || !x.MMS.HaveMedia {
		t.Errorf("behind a whole packet: %+v", x.MMS)
	}
	event(bpf.EventTCP, bpf.ToTerminal, seq[1]+uint32(len(packet)), packet[:20])
	if x, _ := l.Detail(id, at); x.MMS.HaveBoundary {
		t.Errorf("in a packet: %+v", x.MMS)
	}
	event(bpf.EventTail, bpf.ToTerminal, 5000, packet[:50])
	stop()
	event(bpf.EventTail, bpf.ToTerminal, 6000, packet)
	n := uint32(len(packet))
	if want := []uint32{seq[1], n, seq[1] + n, 20, 5000, 50}; len(got) != len(want) {
		t.Errorf("tapped %v, want %v", got, want)
	} else {
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("tapped %v, want %v", got, want)
				break
			}
		}
	}
}
