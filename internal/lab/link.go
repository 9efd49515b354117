package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sysctl is one file below /proc/sys and its content.
type sysctl struct{ path, value string }

// setSysctls prepares the namespace of the calling thread, before it has links: no reverse path
// filter (steered packets take unusual ways), no waiting for duplicate addresses. /proc/sys/net
// shows the namespace of the thread that opens it.
func setSysctls(router bool) error {
	set := []sysctl{
		{"net/ipv4/conf/all/rp_filter", "0"},
		{"net/ipv4/conf/default/rp_filter", "0"},
		{"net/ipv6/conf/default/accept_dad", "0"},
		{"net/ipv6/conf/default/accept_ra", "0"},
		{"net/ipv6/conf/default/router_solicitations", "0"},
	}
	if router {
		set = append(set,
			sysctl{"net/ipv4/ip_forward", "1"},
			sysctl{"net/ipv6/conf/all/forwarding", "1"},
			sysctl{"net/ipv6/conf/default/forwarding", "1"})
	}
	for _, s := range set {
		if err := os.WriteFile("/proc/sys/"+s.path, []byte(s.value), 0); err != nil {
			if os.IsNotExist(err) && s.path[:8] == "net/ipv6" {
				continue // a kernel without IPv6
			}
			return err
		}
	}
	return nil
}

// loopbacks brings lo up everywhere.
func (l *Lab) loopbacks() error {
	for ns := range l.spaces {
		if err := l.withHandle(ns, func(nl *netlink.Handle) error {
			lo, err := nl.LinkByName("lo")
			if err != nil {
				return err
			}
			return nl.LinkSetUp(lo)
		}); err != nil {
			return fmt.Errorf("loopback of %s: %w", ns, err)
		}
	}
	return nil
}

// withHandle calls fn with a netlink socket in the namespace.
func (l *Lab) withHandle(ns string, fn func(*netlink.Handle) error) error {
	h, ok := l.spaces[ns]
	if !ok {
		return fmt.Errorf("no namespace %q", ns)
	}
	nl, err := netlink.NewHandleAt(h, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	return fn(nl)
}

// lay makes one veth pair, born at its place under its last name, and numbers both ends.
func (l *Lab) lay(c cable) error {
	err := l.withHandle(GW, func(nl *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = c.gwIface
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: UEIface, PeerNamespace: netlink.NsFd(int(l.spaces[c.peer]))}
		if err := nl.LinkAdd(veth); err != nil {
			return err
		}
		return l.number(nl, c.gwIface, c.net, 1)
	})
	if err != nil {
		return err
	}
	err = l.withHandle(c.peer, func(nl *netlink.Handle) error {
		if err := l.number(nl, UEIface, c.net, 2); err != nil {
			return err
		}
		return l.defaultRoutes(nl, c.net)
	})
	if err != nil || !l.WireSize {
		return err
	}
	if err := l.Do(GW, func() error { return offloadsOff(c.gwIface) }); err != nil {
		return err
	}
	return l.Do(c.peer, func() error { return offloadsOff(UEIface) })
}

// number brings an interface up and gives it its addresses.
func (l *Lab) number(nl *netlink.Handle, name string, network, host byte) error {
	link, err := nl.LinkByName(name)
	if err != nil {
		return err
	}
	v4 := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 78, network, host}), 24)
	addrs := []netlink.Addr{{IPNet: ipNet(v4)}}
	if l.IPv6 {
		addrs = append(addrs, netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addr6(network, host), 64)), Flags: unix.IFA_F_NODAD})
	}
	for i := range addrs {
		if err := nl.AddrAdd(link, &addrs[i]); err != nil {
			return fmt.Errorf("address %s: %w", addrs[i].IPNet, err)
		}
	}
	return nl.LinkSetUp(link)
}

// defaultRoutes sends everything to the router. The IPv6 route needs no link-local address.
func (l *Lab) defaultRoutes(nl *netlink.Handle, network byte) error {
	link, err := nl.LinkByName(UEIface)
	if err != nil {
		return err
	}
	gws := []netip.Addr{netip.AddrFrom4([4]byte{10, 78, network, 1})}
	if l.IPv6 {
		gws = append(gws, addr6(network, 1))
	}
	for _, gw := range gws {
		r := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gw.AsSlice()}
		if err := nl.RouteAdd(r); err != nil {
			return fmt.Errorf("default route via %s: %w", gw, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// waitLinks returns when every veth is operational: only then has the kernel made the last of
// the addresses and routes that belong to it, and Snapshot is stable.
func (l *Lab) waitLinks(ctx context.Context) error {
	for ns := range l.spaces {
		for {
			waiting := ""
			err := l.withHandle(ns, func(nl *netlink.Handle) (err error) {
				waiting, err = firstDown(nl)
				return err
			})
			if err != nil {
				return err
			}
			if waiting == "" {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s of %s stays down: %w", waiting, ns, ctx.Err())
			case <-time.After(2 * time.Millisecond): // polled: an event could be missed between list and subscribe
			}
		}
	}
	return nil
}

// firstDown names a veth that is not ready, or an empty string. Ready is: operational, and the
// kernel's own IPv6 routes are in the table, which it fills from a work queue.
func firstDown(nl *netlink.Handle) (string, error) {
	links, err := nl.LinkList()
	if err != nil {
		return "", err
	}
	_, noIPv6 := os.Stat("/proc/sys/net/ipv6")
	for _, link := range links {
		if link.Type() != "veth" {
			continue
		}
		if link.Attrs().OperState != netlink.OperUp {
			return link.Attrs().Name, nil
		}
		if noIPv6 != nil {
			continue
		}
		ready, err := hasLocalRoutes(nl, link)
		if err != nil {
			return "", err
		}
		if !ready {
			return link.Attrs().Name, nil
		}
	}
	return "", nil
}

// hasLocalRoutes reports whether the link has IPv6 addresses, its link-local one among them, and
// each is routed to this host.
func hasLocalRoutes(nl *netlink.Handle, link netlink.Link) (bool, error) {
	addrs, err := nl.AddrList(link, unix.AF_INET6)
	if err != nil {
		return false, err
	}
	routes, err := nl.RouteListFiltered(unix.AF_INET6,
		&netlink.Route{Table: unix.RT_TABLE_LOCAL, LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_OIF)
	if err != nil {
		return false, err
	}
	linkLocal := false
	for _, a := range addrs {
		linkLocal = linkLocal || a.IP.IsLinkLocalUnicast()
		if !slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Dst != nil && r.Dst.IP.Equal(a.IP) }) {
			return false, nil
		}
	}
	return linkLocal, nil
}
