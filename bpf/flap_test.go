package bpf

import (
	"net/netip"
	"os"
	"testing"
)

// TestDeviceFlaps: an interface that goes and comes many times leaves nothing open.
func TestDeviceFlaps(t *testing.T) {
	for _, clsact := range []bool{false, true} {
		t.Run(map[bool]string{false: "auto", true: "clsact"}[clsact], func(t *testing.T) {
			l := newLab(t)
			cfg := l.config()
			cfg.Attach = attachBy(clsact)
			g := l.open(cfg)
			must(t, g.Subscribe(netip.MustParseAddr(ueIP[0])))
			must(t, g.Arm(netip.MustParseAddr(ueIP[0]))) // with the WAN hook
			flap := func(name string, far *space) {
				must(t, l.gw.nl.LinkDel(l.gw.link(name)))
				veth(t, l.gw, name, far, "eth0")
				index := l.gw.link(name).Attrs().Index
				eventually(t, g, name+" is watched again", func() bool {
					var hooks int
					must(t, g.host.watch.do(func() error {
						for _, d := range g.host.devices {
							if d.index == index {
								hooks = len(d.undo) + len(d.undoWAN)
							}
						}
						return nil
					}))
					return hooks > 0
				})
			}
			open := func() int {
				all, err := os.ReadDir("/proc/self/fd")
				must(t, err)
				return len(all)
			}
			flap("lan0", l.ue)
			flap("wan0", l.ms)
			before := open()
			for range 25 {
				flap("lan0", l.ue)
				flap("wan0", l.ms)
			}
			if after := open(); after > before+5 { // other goroutines of the runtime come and go
				t.Errorf("%d descriptors open, %d before", after, before)
			}
			for _, d := range g.host.devices {
				if n := len(d.undo) + len(d.undoWAN); n > 4 {
					t.Errorf("%s: %d things to undo", d.name, n)
				}
			}
			must(t, g.Close())
		})
	}
}
