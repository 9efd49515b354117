package lab

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	ebpflink "github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Snapshot returns what is configured in the namespace ns, one sorted line each: links (with XDP
// programs), qdiscs, tc filters, TCX programs, policy rules and routes of all tables, IPv4 and
// IPv6. Nothing in it changes by itself, so a test compares it before and after.
func (l *Lab) Snapshot(ns string) ([]string, error) {
	var out []string
	err := l.withHandle(ns, func(nl *netlink.Handle) error {
		return l.Do(ns, func() error {
			links, err := nl.LinkList()
			if err != nil {
				return err
			}
			names := map[int]string{}
			for _, dev := range links {
				names[dev.Attrs().Index] = dev.Attrs().Name
				lines, err := linkLines(nl, dev)
				if err != nil {
					return fmt.Errorf("%s: %w", dev.Attrs().Name, err)
				}
				out = append(out, lines...)
			}
			lines, err := routingLines(nl, names)
			out = append(out, lines...)
			return err
		})
	})
	slices.Sort(out)
	if err != nil {
		return nil, fmt.Errorf("lab: snapshot of %s: %w", l.Name(ns), err)
	}
	return out, nil
}

// linkLines describes an interface and what is attached to it.
func linkLines(nl *netlink.Handle, dev netlink.Link) ([]string, error) {
	at := dev.Attrs()
	line := fmt.Sprintf("link %s type %s mtu %d flags %s", at.Name, dev.Type(), at.MTU, at.Flags)
	if at.Xdp != nil && at.Xdp.Attached {
		line += " xdp"
	}
	out := []string{line}
	qdiscs, err := nl.QdiscList(dev)
	if err != nil {
		return nil, fmt.Errorf("qdiscs: %w", err)
	}
	clsact := false
	for _, q := range qdiscs {
		out = append(out, fmt.Sprintf("qdisc %s %s parent %x", at.Name, q.Type(), q.Attrs().Parent))
		clsact = clsact || q.Type() == "clsact" || q.Type() == "ingress"
	}
	if clsact {
		lines, err := filterLines(nl, dev)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	lines, err := tcxLines(at)
	return append(out, lines...), err
}

func filterLines(nl *netlink.Handle, dev netlink.Link) ([]string, error) {
	var out []string
	for where, parent := range map[string]uint32{"ingress": netlink.HANDLE_MIN_INGRESS, "egress": netlink.HANDLE_MIN_EGRESS} {
		filters, err := nl.FilterList(dev, parent)
		if err != nil {
			return nil, fmt.Errorf("filters: %w", err)
		}
		for _, f := range filters {
			name := ""
			if b, ok := f.(*netlink.BpfFilter); ok {
				name = b.Name
			}
			out = append(out, fmt.Sprintf("filter %s %s %s pref %d handle %x %s",
				dev.Attrs().Name, where, f.Type(), f.Attrs().Priority, f.Attrs().Handle, name))
		}
	}
	return out, nil
}

// tcxLines counts the TCX programs; the kernel has none before 6.6.
func tcxLines(at *netlink.LinkAttrs) ([]string, error) {
	var out []string
	for where, attach := range map[string]ebpf.AttachType{"ingress": ebpf.AttachTCXIngress, "egress": ebpf.AttachTCXEgress} {
		res, err := ebpflink.QueryPrograms(ebpflink.QueryOptions{Target: at.Index, Attach: attach})
		if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("tcx: %w", err)
		}
		if n := len(res.Programs); n > 0 {
			out = append(out, fmt.Sprintf("tcx %s %s programs %d", at.Name, where, n))
		}
	}
	return out, nil
}

// routingLines describes rules and routes; names tells the interfaces by index.
func routingLines(nl *netlink.Handle, names map[int]string) ([]string, error) {
	var out []string
	for family, name := range map[int]string{unix.AF_INET: "v4", unix.AF_INET6: "v6"} {
		rules, err := nl.RuleList(family)
		if err != nil {
			return nil, fmt.Errorf("rules %s: %w", name, err)
		}
		for _, r := range rules {
			mask := uint32(0)
			if r.Mask != nil {
				mask = *r.Mask
			}
			out = append(out, fmt.Sprintf("rule %s pref %d from %v to %v iif %q oif %q mark %#x/%#x table %d",
				name, r.Priority, r.Src, r.Dst, r.IifName, r.OifName, r.Mark, mask, r.Table))
		}
		routes, err := nl.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("routes %s: %w", name, err)
		}
		for _, r := range routes {
			if r.Flags&unix.RTM_F_CLONED != 0 {
				continue // a cache entry
			}
			out = append(out, fmt.Sprintf("route %s %v via %v dev %s table %d type %d metric %d",
				name, r.Dst, r.Gw, names[r.LinkIndex], r.Table, r.Type, r.Priority))
		}
	}
	return out, nil
}
