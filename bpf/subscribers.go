package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// terminal is what user space wants of one entry of the subscribers map.
type terminal struct {
	on, armed   bool
	media       int    // media flows
	learn, cuts int    // of them with unknown server port; cut flows
	written     uint32 // flags in the kernel's entry; 0: there is none; unknown: they have to be written
}

const unknown = ^uint32(0)

func (t *terminal) flags() (f uint32) {
	set := func(on bool, flag scasSubscriberFlag) {
		if on {
			f |= uint32(flag)
		}
	}
	set(t.on, scasSubscriberFlagSUB_ON)
	set(t.on && t.armed, scasSubscriberFlagSUB_ARMED)
	set(t.media > 0, scasSubscriberFlagSUB_MEDIA)
	set(t.learn > 0, scasSubscriberFlagSUB_LEARN)
	set(t.cuts > 0, scasSubscriberFlagSUB_CUT)
	return f
}

// terminalOf returns the entry of a, made when there is none. Call with g.mu held.
func (g *Gateway) terminalOf(a netip.Addr) (scasAddrKey, *terminal, error) {
	k, err := subscriberKey(a, g.cfg.IPv6Prefix)
	if err != nil {
		return k, nil, err
	}
	t := g.terminals[k]
	if t == nil {
		t = &terminal{}
		g.terminals[k] = t
	}
	return k, t, nil
}

// writeTerminal brings the kernel's entry in line with t, then the version by which flow records
// tell that what they know of their terminal is old, and last the bits of the address; nothing when
// it is as it was: each version costs the next packet of every flow a lookup. Call with g.mu held.
func (g *Gateway) writeTerminal(k scasAddrKey, t *terminal) error {
	flags := t.flags()
	if !t.on && t.cuts == 0 {
		if flags = 0; t.media == 0 {
			delete(g.terminals, k)
		}
	}
	if flags == t.written {
		return nil
	}
	t.written = unknown
	if err := g.writeEntry(k, t, flags); err != nil {
		return err
	}
	g.version = max(g.version+1, 1)
	if err := g.kernel.version.Set(g.version); err != nil {
		return err
	}
	var bits uint8
	if flags != 0 {
		bits = uint8(scasAddressBitADDRESS_ENTRY)
	}
	if flags&uint32(scasSubscriberFlagSUB_MEDIA) != 0 {
		bits |= uint8(scasAddressBitADDRESS_MEDIA)
	}
	if err := g.addresses.set(k, bits, g.kernel.m("addresses")); err != nil {
		return err
	}
	t.written = flags
	return nil
}

// writeEntry puts the flags of a terminal into the kernel's entry, or deletes it.
func (g *Gateway) writeEntry(k scasAddrKey, t *terminal, flags uint32) error {
	m := g.kernel.m("subscribers")
	if flags == 0 {
		g.left[k] = struct{}{}
		return gone(m.Delete(k))
	}
	if t.on {
		if err := g.openShare(k); err != nil {
			return err
		}
	}
	return full(m.Put(k, scasSubscriber{Flags: flags}))
}

// full makes the kernel's word for a full map ours.
func full(err error) error {
	if errors.Is(err, unix.E2BIG) {
		return ErrTooMany
	}
	return err
}

// change applies f to the entry of a and writes it; on an error the entry is as before.
func (g *Gateway) change(op string, a netip.Addr, f func(*terminal) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	k, t, err := g.terminalOf(a)
	if err != nil {
		return fmt.Errorf("%s %v: %w", op, a, err)
	}
	before := *t
	if err = f(t); err == nil {
		err = g.writeTerminal(k, t)
	}
	if err != nil {
		if *t = before; before == (terminal{}) {
			delete(g.terminals, k)
		}
		t.written = unknown
		return fmt.Errorf("%s %v: %w", op, a, err)
	}
	return nil
}

// Subscribe admits the terminal with address a; IPv6 addresses of one prefix are one terminal. A
// second call changes nothing. Errors: ErrTooMany.
func (g *Gateway) Subscribe(a netip.Addr) error {
	return g.change("subscribe", a, func(t *terminal) error {
		t.on = true
		return nil
	})
}

// Unsubscribe is the reverse of Subscribe; it disarms too. Cuts of the terminal's flows go on, and
// connections that are steered already stay so as long as their sockets live.
func (g *Gateway) Unsubscribe(a netip.Addr) error {
	return g.change("unsubscribe", a, func(t *terminal) error {
		t.on, t.armed = false, false
		return nil
	})
}

// Arm steers every new connection of the terminal to a service port until Disarm. Errors:
// ErrNotSubscribed.
func (g *Gateway) Arm(a netip.Addr) error { return g.arm("arm", a, true) }

// Disarm is the reverse of Arm; what is steered already stays so. Errors: ErrNotSubscribed.
func (g *Gateway) Disarm(a netip.Addr) error { return g.arm("disarm", a, false) }

func (g *Gateway) arm(op string, a netip.Addr, on bool) error {
	return g.change(op, a, func(t *terminal) error {
		if !t.on {
			return ErrNotSubscribed
		}
		t.armed = on
		if on {
			return g.steer()
		}
		return nil
	})
}

// steer makes the host ready for steered connections and their upstream legs. Call with g.mu held.
func (g *Gateway) steer() error {
	if err := g.host.steering(); err != nil {
		return err
	}
	return g.host.wan(true)
}

// SetListener puts the listening sockets steered connections arrive at in place; either may be
// nil, which takes that family's away. They must be transparent (IP_TRANSPARENT), carry our mark
// (SO_MARK), and not be MPTCP: the kernel refuses those. The sockets stay the caller's; closing one
// takes it away, too.
func (g *Gateway) SetListener(v4, v6 syscall.Conn) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	for i, c := range []syscall.Conn{v4, v6} {
		if err := g.setListener(uint32(i), c); err != nil {
			return fmt.Errorf("listener IPv%d: %w", 4+2*i, err)
		}
	}
	return nil
}

func (g *Gateway) setListener(slot uint32, c syscall.Conn) error {
	m := g.kernel.m("listeners")
	if c == nil {
		if err := m.Delete(slot); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) && !errors.Is(err, unix.EINVAL) {
			return err
		}
		return nil
	}
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var put error
	if err := rc.Control(func(fd uintptr) { put = m.Put(slot, uint64(fd)) }); err != nil {
		return err
	}
	return put
}
