package bpf

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestVLAN: a frame with a tag is watched, and not steered: the device of the VLAN would have to be
// named. On that it is steered; the kernels that are known to have such devices have to show it.
func TestVLAN(t *testing.T) {
	t.Run("tag", vlanTag)
	if hasVLANDevices(t) || os.Getenv("SCAS_VLAN") == "1" {
		t.Run("device", vlanDevice)
	}
}

// vlanTag sends a SYN with a tag; the kernel keeps the tag beside the frame.
func vlanTag(t *testing.T) {
	l := newLab(t)
	g := l.open(l.config())
	l.listener(g, 0)
	terminal := netip.MustParseAddr(ueIP[0])
	must(t, g.Subscribe(terminal))
	must(t, g.Arm(terminal))
	f := Flow{netip.AddrPortFrom(terminal, 40000), netip.MustParseAddrPort(msIP[0] + ":8554")}
	raw := segment{flow: f, flags: FlagSYN, seq: 1}.frame(t)
	raw = append(append(append([]byte(nil), raw[:12]...), 0x81, 0, 0, 7), raw[12:]...)
	copy(raw, l.gw.link("lan0").Attrs().HardwareAddr)
	var fd int
	must(t, l.ue.do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	t.Cleanup(func() { must(t, unix.Close(fd)) })
	must(t, unix.Sendto(fd, raw, 0, &unix.SockaddrLinklayer{Ifindex: l.ue.link("eth0").Attrs().Index}))
	e := next(t, g, "the SYN", func(e *Event) bool { return e.TCPFlags&FlagSYN != 0 })
	if s := g.Stats(); e.Flow != f || s["steer_tagged"] != 1 || s["lan_in_tcp"] != 1 || s["lan_in_steered"] != 0 {
		t.Errorf("event %+v, counters %s", e, nonZero(s))
	}
}

// hasVLANDevices reports whether the kernel has the module 8021q.
func hasVLANDevices(t *testing.T) bool {
	root(t)
	s := newSpace(t)
	err := s.nl.LinkAdd(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "vlan7", ParentIndex: s.link("lo").Attrs().Index}, VlanId: 7})
	return !errors.Is(err, unix.EOPNOTSUPP)
}

// vlanDevice steers on the VLAN's device, and only watches on the one below it.
func vlanDevice(t *testing.T) {
	l := newLab(t)
	for _, s := range []*space{l.gw, l.ue} {
		parent := map[*space]string{l.gw: "lan0", l.ue: "eth0"}[s]
		must(t, s.nl.LinkAdd(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "vlan7", ParentIndex: s.link(parent).Attrs().Index}, VlanId: 7}))
		s.up("vlan7")
	}
	l.gw.addr("vlan7", "10.78.7.1/24")
	l.ue.addr("vlan7", "10.78.7.2/24")
	_, toServer, err := net.ParseCIDR(msIP[0] + "/32")
	must(t, err)
	must(t, l.ue.nl.RouteAdd(&netlink.Route{Dst: toServer, Gw: net.ParseIP("10.78.7.1")}))
	for _, c := range []struct {
		device string
		steer  bool
	}{{"lan0", false}, {"vlan7", true}} {
		t.Run(c.device, func(t *testing.T) {
			cfg := l.config()
			cfg.LAN = []string{c.device}
			g := l.open(cfg)
			ln := l.listener(g, 0)
			terminal := netip.MustParseAddr("10.78.7.2")
			must(t, g.Subscribe(terminal))
			must(t, g.Arm(terminal))
			server := msIP[0] + ":8554"
			sln := l.ms.listen(server)
			ue, err := l.ue.dial("10.78.7.2:0", server)
			must(t, err)
			at := sln
			if c.steer {
				at = ln
			}
			peer := accept(t, at)
			echo(t, ue, peer)
			s := g.Stats()
			if (s["steer_tagged"] > 0) == c.steer || (s["event_tcp"] > 0) == c.steer {
				t.Errorf("counters %s", nonZero(s))
			}
			must(t, sln.Close())
			must(t, g.Close())
		})
	}
}
