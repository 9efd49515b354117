package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The namespaces of a lab, without the prefix.
const (
	UE1 = "ue1" // first terminal
	UE2 = "ue2" // second terminal
	GW  = "gw"  // router between the terminals and the media server
	MS  = "ms"  // media server
)

// The interfaces of the router.
const (
	LAN0 = "lan0" // towards ue1
	LAN1 = "lan1" // towards ue2
	WAN0 = "wan0" // towards ms
)

// UEIface is the name of the only interface of ue1, ue2 and ms.
const UEIface = "eth0"

// readyTimeout bounds the wait for the links to come up; it takes milliseconds.
const readyTimeout = 20 * time.Second

// Options says what a lab is like. The zero value is an IPv4 lab with a prefix of its own.
type Options struct {
	Prefix   string // put before the names of the namespaces; empty: unique to this lab
	IPv6     bool   // also IPv6 addresses and routes
	WireSize bool   // offloads off: no segment on a link is larger than its MTU, checksums are filled in
}

// Lab is four namespaces. Safe for concurrent use, except Close.
type Lab struct {
	Options
	mu     sync.Mutex
	spaces map[string]netns.NsHandle // by short name
	closed bool
}

// cable is one veth pair: gateway interface, namespace at its other end, third byte of 10.78.x.0/24.
type cable struct {
	gwIface, peer string
	net           byte
}

func cables() []cable {
	return []cable{{LAN0, UE1, 1}, {LAN1, UE2, 2}, {WAN0, MS, 9}}
}

// New builds the namespaces: gw has .1 of 10.78.1.0/24 (lan0), 10.78.2.0/24 (lan1) and
// 10.78.9.0/24 (wan0), and of fd78:1::/64, fd78:2::/64, fd78:9::/64 with IPv6; ue1, ue2 and ms
// have .2 there and gw as their default route. gw forwards IPv4 and IPv6. All links are up when
// New returns. A failed New leaves nothing behind. It needs root; see Root for tests.
func New(opts Options) (*Lab, error) {
	l := &Lab{Options: opts, spaces: map[string]netns.NsHandle{}}
	if err := l.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) build() error {
	if err := shareRunDir(); err != nil {
		return err
	}
	if err := l.makeSpaces(); err != nil {
		return err
	}
	for _, ns := range []string{UE1, UE2, GW, MS} {
		if err := l.Do(ns, func() error { return setSysctls(ns == GW) }); err != nil {
			return fmt.Errorf("sysctls of %s: %w", ns, err)
		}
	}
	if err := l.loopbacks(); err != nil {
		return err
	}
	for _, c := range cables() {
		if err := l.lay(c); err != nil {
			return fmt.Errorf("link %s-%s: %w", c.gwIface, c.peer, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	return l.waitLinks(ctx)
}

// makeSpaces makes the namespaces. When the prefix is ours to choose, one that is taken is
// passed over.
func (l *Lab) makeSpaces() error {
	if l.Prefix != "" {
		return l.makeAll()
	}
	for {
		l.Prefix = fmt.Sprintf("scas%d-%04x-", os.Getpid(), rand.N(1<<16))
		err := l.makeAll()
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := l.removeSpaces(); err != nil {
			return err
		}
	}
}

func (l *Lab) makeAll() error {
	for _, ns := range []string{UE1, UE2, GW, MS} {
		h, err := newNamed(l.Name(ns))
		if err != nil {
			return fmt.Errorf("namespace %s: %w", l.Name(ns), err)
		}
		l.spaces[ns] = h
	}
	return nil
}

// newNamed makes a namespace with a name in /run/netns, as `ip netns add` does, and goes back to
// the caller's own.
func newNamed(name string) (netns.NsHandle, error) {
	if strings.ContainsAny(name, "/ ") {
		return netns.None(), fmt.Errorf("name %q: %w", name, fs.ErrInvalid)
	}
	h := netns.None()
	err := onThread(func() (err error) {
		h, err = netns.NewNamed(name)
		return err
	})
	return h, err
}

// Name returns the full name of a namespace, as `ip netns exec` wants it.
func (l *Lab) Name(ns string) string { return l.Prefix + ns }

// Addr returns the IPv4 address of ue1, ue2 or ms, and for gw that of its WAN interface.
func (l *Lab) Addr(ns string) netip.Addr {
	for _, c := range cables() {
		if c.peer == ns {
			return netip.AddrFrom4([4]byte{10, 78, c.net, 2})
		}
	}
	return netip.AddrFrom4([4]byte{10, 78, 9, 1})
}

// Addr6 returns the IPv6 address of ue1, ue2 or ms, and for gw that of its WAN interface.
func (l *Lab) Addr6(ns string) netip.Addr {
	for _, c := range cables() {
		if c.peer == ns {
			return addr6(c.net, 2)
		}
	}
	return addr6(9, 1)
}

func addr6(net, host byte) netip.Addr {
	a := [16]byte{0: 0xfd, 1: 0x78, 3: net, 15: host}
	return netip.AddrFrom16(a)
}

// Close removes the namespaces and their links. Processes still running in one keep it alive
// without links until they end. Close may be called twice.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	return l.removeSpaces()
}

func (l *Lab) removeSpaces() error {
	var errs []error
	for ns, h := range l.spaces {
		errs = append(errs, removeLinks(h), netns.DeleteNamed(l.Name(ns)), h.Close())
		delete(l.spaces, ns)
	}
	return errors.Join(errs...)
}

// removeLinks deletes the veth pairs at once; the kernel deletes a namespace, and what is in
// it, later, and not while somebody holds it.
func removeLinks(h netns.NsHandle) error {
	nl, err := netlink.NewHandleAt(h, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	links, err := nl.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if link.Type() == "veth" {
			if err := nl.LinkDel(link); err != nil {
				return fmt.Errorf("delete %s: %w", link.Attrs().Name, err)
			}
		}
	}
	return nil
}
