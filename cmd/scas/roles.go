package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"scas/session"
	"scas/session/kv"
	"scas/sip"
)

// comeAndGo reports whether terminals are admitted and leave while the gateway runs.
func (n *node) comeAndGo() bool { return n.cfg.SIP.on || n.cfg.shared() }

// openRoles joins this process to those of other roles, when the store is shared.
func (n *node) openRoles() {
	if !n.cfg.shared() {
		return
	}
	switch {
	case n.cfg.SIP.on && n.cfg.watches():
		n.remote = n.store.Remote(session.NewTable(), n.cfg.Node)
	case n.cfg.SIP.on:
		n.remote = n.store.Remote(n.table, "")
	default:
		n.mirror = &mirror{Mirror: sip.NewMirror(n.gate(), n.log), store: n.store, log: n.log, filled: make(chan struct{})}
	}
}

// gate returns what opens and closes this gateway; in a process that is none it only remembers
// which terminal an address stands for.
func (n *node) gate() *gate {
	g := &gate{kernel: nowhere{}, live: nowhere{}, directory: n.directory, now: n.now}
	if n.cfg.watches() {
		g.kernel, g.live = n.gateway, n.live
	}
	return g
}

// nowhere is the kernel and the tracer of a process that is no gateway.
type nowhere struct{}

// Subscribe, Unsubscribe, Leave and Rename do nothing.
func (nowhere) Subscribe(netip.Addr) error    { return nil }
func (nowhere) Unsubscribe(netip.Addr) error  { return nil }
func (nowhere) Leave(netip.Prefix, time.Time) {}
func (nowhere) Rename(string, time.Time)      {}

// mirror admits the terminals that an application server in another process knows.
type mirror struct {
	*sip.Mirror
	store  *kv.Store
	log    *slog.Logger
	filled chan struct{} // closed when what was stored is admitted, or about to be
}

// run follows the store until ctx ends. While the store is away what is open stays so.
func (m *mirror) run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	for c := range m.store.WatchBindings(ctx) {
		switch {
		case c.Synced:
			close(m.filled)
			m.log.Info("registrations are known", "bindings", len(m.Terminals()))
		case c.Gone:
			m.Gone(c.Key)
		case c.Binding != nil:
			m.Put(*c.Binding)
		}
	}
	<-done
	return nil
}

// serveOrders carries out the orders of application servers in other processes.
func (n *node) serveOrders(ctx context.Context) error {
	return n.store.ServeOrders(ctx, n.splicer, liveSessions{n.live, n.now})
}

// remoteWait is how long an application server waits, before it is heard, for what gateways
// have published; without it a user would be told that nothing plays.
const remoteWait = 2 * time.Second

// startRemote follows the gateways in other processes.
func (n *node) startRemote(broken context.CancelCauseFunc) {
	n.run(broken, n.remote.Run)
	ctx, cancel := context.WithTimeout(context.Background(), remoteWait)
	defer cancel()
	select {
	case <-n.remote.Filled():
	case <-ctx.Done():
	}
}

// isReady says what keeps this process from doing what its roles are: a gateway that learns its
// terminals from the store, and an application server that reaches its gateways through it,
// cannot do so while it is away.
func (n *node) isReady() error {
	if err := n.ready.get(); err != nil || !n.cfg.shared() || n.cfg.SIP.on && n.cfg.watches() {
		return err
	}
	if err := n.store.Ready(); err != nil {
		return fmt.Errorf("%w: what is open stays open, what changes is done when it is back", err)
	}
	if n.mirror != nil {
		select {
		case <-n.mirror.filled:
		default:
			return errors.New("registrations are being read")
		}
	}
	return nil
}
