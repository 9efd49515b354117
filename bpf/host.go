package bpf

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// host is what of ours lies in the kernel's network configuration: rules, routes, programs on
// devices. It keeps to the network namespace it was made in.
type host struct {
	cfg     Config
	log     *slog.Logger
	nl      *netlink.Handle
	devices []*device
	policy  policy
	watch   *linkWatch

	// Once the watch runs its goroutine alone uses these, and what changes in devices.
	kernel *kernel
	clsact bool // attach by clsact, not TCX
	wanOn  bool // the WAN hook is on its devices

	steers bool           // routes and rules are in place; guarded by Gateway.mu, as is
	unrule []func() error // what removes them
}

// device is one interface with what it is for.
type device struct {
	name     string
	index    int
	bare     bool // no link header
	lan, wan bool
	undo     []func() error // takes the LAN hooks off, in the order of putting on, and
	undoWAN  []func() error // the WAN hook
}

// newHost finds the devices. Errors tell which one is missing.
func newHost(cfg Config, log *slog.Logger) (*host, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	h := &host{cfg: cfg, log: log, nl: nl}
	for _, name := range cfg.LAN {
		d, err := h.device(name)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lan %s: %w", name, err), h.remove())
		}
		d.lan = true
	}
	for _, name := range cfg.WAN {
		d, err := h.device(name)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("wan %s: %w", name, err), h.remove())
		}
		d.wan = true
	}
	return h, nil
}

// device returns the entry of the interface, made when there is none.
func (h *host) device(name string) (*device, error) {
	for _, d := range h.devices {
		if d.name == name {
			return d, nil
		}
	}
	l, err := h.nl.LinkByName(name)
	if err != nil {
		return nil, err
	}
	a := l.Attrs()
	if a.MasterIndex != 0 && l.Type() != "vlan" {
		h.log.Warn("interface is a port of another one: packets can be watched here but not steered, name the bridge or bond",
			"interface", name)
	}
	d := &device{name: name, index: a.Index, bare: isBare(l)}
	h.devices = append(h.devices, d)
	return d, nil
}

// isBare reports whether packets of the device begin with the network header.
func isBare(l netlink.Link) bool {
	t := l.Attrs().EncapType
	return t != "ether" && t != "loopback"
}

// needBare reports whether there is a device without link header.
func (h *host) needBare() bool {
	for _, d := range h.devices {
		if d.bare {
			return true
		}
	}
	return false
}

// remove undoes what was done, in reverse order.
func (h *host) remove() error {
	var errs []error
	if h.watch != nil {
		errs = append(errs, h.watch.close()) // first: it attaches, too
	}
	for _, d := range slices.Backward(h.devices) {
		errs = append(errs, undoAll(&d.undoWAN), undoAll(&d.undo))
	}
	errs = append(errs, undoAll(&h.unrule))
	h.nl.Close()
	return errors.Join(errs...)
}

// instance is a lock that ends with the process: a name in the abstract socket name space of the
// network namespace.
type instance struct{ c *net.UnixConn }

func instanceAddr(table int) *net.UnixAddr {
	return &net.UnixAddr{Name: "@scas-gateway-" + strconv.Itoa(table), Net: "unixgram"}
}

// lockInstance makes this process the only gateway with that table in the network namespace.
func lockInstance(table int) (*instance, error) {
	c, err := net.ListenUnixgram("unixgram", instanceAddr(table))
	if err != nil {
		if isInUse(err) {
			return nil, &ConflictError{What: "instance", Found: "another scas gateway with table " + strconv.Itoa(table) + " runs here"}
		}
		return nil, fmt.Errorf("lock instance: %w", err)
	}
	return &instance{c}, nil
}

func (i *instance) Close() error { return i.c.Close() }
