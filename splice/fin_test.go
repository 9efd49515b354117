package splice

import (
	"net/netip"
	"testing"

	"scas/bpf"
	"scas/tracer"
)

// A player that has not acknowledged all it has takes no notice of a FIN where it did; the next one
// lies where it says then.
func TestFINBehindWhatThePlayerHas(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ahead  uint32 // bytes the player has and did not acknowledge
		lost   int    // FINs on their way
		forged int
	}{
		{"all acknowledged", 0, 0, 1},
		{"a packet was not", 1300, 0, 2},
		{"a FIN is lost", 0, 1, 2},
		{"nobody answers", 0, 100, finRounds},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, quietConfig())
			f := bpf.Flow{Terminal: netip.MustParseAddrPort("10.1.1.2:40000"), Server: netip.MustParseAddrPort("10.9.9.2:80")}
			const acked = uint32(1<<32 - 7)
			b.k.tcp[f] = bpf.TCPStats{ToServer: bpf.TCPDirStats{NewestAck: acked, HaveAck: true}}
			lost := tt.lost
			b.wire.forged = func(s segment) {
				if s.flags&flagFIN != 0 {
					if lost--; lost < 0 {
						b.k.takesFIN(s, acked+tt.ahead)
					}
				}
			}
			(&ender{s: b.s, ctx: t.Context(), d: tracer.Detail{Control: f}}).closeFlow()
			fins := 0
			for _, s := range b.wire.segments {
				if s.flags&flagFIN != 0 {
					fins++
				}
			}
			last := b.wire.segments[len(b.wire.segments)-1]
			if fins != tt.forged || last.seq != acked+tt.ahead {
				t.Errorf("%d FINs, the last at %d, want %d and %d", fins, last.seq-acked, tt.forged, tt.ahead)
			}
		})
	}
}
