package bpf

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// linkWatch puts the programs back on a device that went and came again under its name: a ppp
// session, a veth, a card. The rules need nothing: they name the device, not its index.
type linkWatch struct {
	ns      netns.NsHandle
	updates chan netlink.LinkUpdate
	orders  chan func() // run in the namespace
	stop    chan struct{}
	done    chan struct{}
}

// watchLinks starts to watch; call it in the gateway's network namespace, after attach.
func (h *host) watchLinks() error {
	ns, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	w := &linkWatch{
		ns: ns, updates: make(chan netlink.LinkUpdate), orders: make(chan func()), stop: make(chan struct{}), done: make(chan struct{}),
	}
	lost := func(err error) {
		select {
		case <-w.stop: // asked to
		default:
			h.log.Warn("device changes are not seen any more", "err", err)
		}
	}
	if err := netlink.LinkSubscribeWithOptions(w.updates, w.stop, netlink.LinkSubscribeOptions{ErrorCallback: lost}); err != nil {
		return errors.Join(fmt.Errorf("watch devices: %w", err), ns.Close())
	}
	h.watch = w
	started := make(chan error)
	go func() {
		defer close(w.done)
		runtime.LockOSThread() // never unlocked: the thread is for this namespace and ends with it
		err := enter(ns)
		started <- err
		if err == nil {
			w.run(h)
		}
	}()
	return <-started
}

// enter moves the thread to a network namespace. To be there already needs no CAP_SYS_ADMIN, which
// a gateway does not have.
func enter(ns netns.NsHandle) error {
	here, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer func() { _ = here.Close() }()
	if here.Equal(ns) {
		return nil
	}
	return netns.Set(ns)
}

// close ends the watching and waits for it, so that nothing is attached after it.
func (w *linkWatch) close() error {
	close(w.stop)
	<-w.done
	go func() { // the subscription's own goroutine may be at handing one over
		for range w.updates {
			continue
		}
	}()
	return w.ns.Close()
}

// do has f done in the gateway's network namespace and waits for it. Errors: its own; ErrClosed.
func (w *linkWatch) do(f func() error) error {
	err := make(chan error, 1)
	select {
	case w.orders <- func() { err <- f() }:
		return <-err
	case <-w.done:
		return ErrClosed
	}
}

func (w *linkWatch) run(h *host) {
	updates := w.updates
	for {
		select {
		case <-w.stop:
			return
		case f := <-w.orders:
			f()
		case u, ok := <-updates:
			switch {
			case !ok:
				updates = nil
			case u.Header.Type == unix.RTM_NEWLINK:
				h.returned(u.Link)
			}
		}
	}
}

// returned attaches to a device that has a name of ours and an index of its own. What held the hooks
// of the old one goes first.
func (h *host) returned(l netlink.Link) {
	for _, d := range h.devices {
		if d.name != l.Attrs().Name || d.index == l.Attrs().Index {
			continue
		}
		if err := errors.Join(undoAll(&d.undoWAN), undoAll(&d.undo)); err != nil {
			h.log.Warn("hooks of an interface that went", "interface", d.name, "err", err)
		}
		d.index, d.bare = l.Attrs().Index, isBare(l)
		if d.bare && h.kernel.bare == nil {
			h.log.Error("interface came back without link header: restart to watch it", "interface", d.name)
			continue
		}
		for _, p := range h.hookPoints() {
			if p.dev != d || p.wan() && !h.wanOn {
				continue
			}
			if err := h.attachPoint(p, nil); err != nil {
				h.log.Error("interface came back and cannot be watched", "interface", d.name, "err", err)
				return
			}
		}
		h.log.Info("interface came back", "interface", d.name)
	}
}
