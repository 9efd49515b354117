package lab

import (
	"net/netip"
	"testing"
	"time"
)

// TestLabPlay plays from the server's namespace into the terminals', through the router.
func TestLabPlay(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{IPv6: true, WireSize: true})
	for name, addr := range map[string]netip.Addr{"ipv4": l.Addr(MS), "ipv6": l.Addr6(MS)} {
		t.Run(name, func(t *testing.T) {
			cfg := GstServer()
			cfg.Host, cfg.Addr = l.Host(MS), netip.AddrPortFrom(addr, 554)
			s := serve(t, cfg)
			for ue, tcp := range map[string]bool{UE1: false, UE2: true} {
				pc := Gst()
				pc.Host, pc.URL, pc.TCP, pc.Start = l.Host(ue), s.URL("film"), tcp, 10*time.Second
				p := play(t, pc)
				reach(t, p, 10500*time.Millisecond)
				p.Quit()
				r := ended(t, p)
				whole(t, r)
				want := l.Addr(ue)
				if addr.Is6() {
					want = l.Addr6(ue)
				}
				if p.LocalAddr().Addr() != want || s.Requests("PLAY")[0].Remote.Addr() == (netip.Addr{}) {
					t.Errorf("%s plays from %v", ue, p.LocalAddr())
				}
			}
		})
	}
}
