package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	"scas/admin"
	"scas/bpf"
	"scas/session"
	"scas/session/kv"
	"scas/sip"
	"scas/tracer"
)

// storeName is the directory in state.dir that holds registrations, orders and the history.
const storeName = "store"

// storeTimeout is how long the store may take to open.
const storeTimeout = time.Minute

// openStore opens the store of what must survive a restart, or of what roles in several
// processes share; without state.servers and state.dir there is none.
func (n *node) openStore() (err error) {
	state := n.cfg.State
	if !n.cfg.shared() && (!n.cfg.SIP.on || state.Dir == "") {
		return nil
	}
	cfg := n.cfg.store(n.now)
	key := "state.dir"
	if n.cfg.shared() {
		key = "state.servers"
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	if n.store, err = kv.Open(ctx, cfg, n.log); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	n.undo = append(n.undo, n.store.Close)
	n.openRoles()
	return nil
}

// store returns how the store is to be opened.
func (c config) store(now func() time.Time) kv.Config {
	cfg := kv.DefaultConfig()
	cfg.Node, cfg.Keep, cfg.Now = c.Node, c.State.Keep, now
	if c.shared() {
		cfg.Servers, cfg.Credentials, cfg.CA = c.State.Servers, c.State.Credentials, c.State.CA
	} else {
		cfg.Dir = filepath.Join(c.State.Dir, storeName)
	}
	return cfg
}

// openSIP opens the application server's sockets.
func (n *node) openSIP() (err error) {
	if !n.cfg.SIP.on {
		return nil
	}
	all := n.all()
	deps := sip.Deps{
		Mover: all, Sessions: all, Transfers: all, Now: n.now, Gate: n.gate(),
		OfferTimeout: n.cfg.Transfer.OfferTimeout, AttachTimeout: n.cfg.Transfer.AttachTimeout,
	}
	if n.store != nil {
		deps.Store = n.store
	}
	if n.server, err = sip.New(n.cfg.server(), deps, n.log); err != nil {
		return err
	}
	n.undo = append(n.undo, n.server.Close)
	return nil
}

// publish writes sessions, transfers and the history into the store until ctx ends.
func (n *node) publish(ctx context.Context) error {
	return n.store.Publish(ctx, n.table, liveSessions{n.live, n.now})
}

// serviceCounters adds what application server and store count.
func (n *node) serviceCounters(all map[string]admin.Counters) {
	if n.server != nil {
		all["sip"] = split(n.server.Stats(), "bindings", "users", "open", "subscriptions")
	}
	if n.mirror != nil {
		all["mirror"] = split(n.mirror.Stats(), "bindings", "open")
	}
	if n.store != nil {
		all["store"] = split(n.store.Stats(), "queued", "known", "connected", "clock_apart_seconds", "rivals")
		if n.remote != nil {
			all["store"].Now["gateways"] = uint64(len(n.remote.Nodes()))
		}
	}
}

// gate opens and closes the gateway to terminals as they register and leave (sip.Gate). It is
// called by one goroutine.
type gate struct {
	kernel interface {
		Subscribe(netip.Addr) error
		Unsubscribe(netip.Addr) error
	}
	live interface {
		Leave(place netip.Prefix, now time.Time)
		Rename(aor string, now time.Time)
	}
	directory *directory
	now       func() time.Time
}

// Open admits a terminal's address, or lets it stand for another terminal.
func (g *gate) Open(b session.Binding) error {
	before, known := g.directory.at(b.IP)
	if known && before.AoR != b.AoR {
		g.live.Leave(netip.PrefixFrom(b.IP, b.IP.BitLen()), g.now()) // what plays there is another user's
	}
	g.directory.bind(b) // before anything of it is seen
	err := g.kernel.Subscribe(b.IP)
	if err != nil && !known {
		g.directory.unbind(b.IP)
	}
	if known && before.AoR == b.AoR && before.Name != b.Name {
		g.live.Rename(b.AoR, g.now())
	}
	return err
}

// Close is the reverse of Open; what plays there goes on, unwatched. Several addresses of one
// place are admitted until the last has left.
func (g *gate) Close(b session.Binding) error {
	place := netip.PrefixFrom(b.IP, b.IP.BitLen())
	if !g.directory.shared(b.IP) {
		place = g.directory.place(b.IP)
		if err := g.kernel.Unsubscribe(b.IP); err != nil {
			return err
		}
	}
	g.directory.unbind(b.IP) // before its sessions are ended: nothing may bring them back
	g.live.Leave(place, g.now())
	return nil
}

// admitted is the kernel half as the tracer sees it where terminals come and go: what is still
// told of one that has left is not heard.
type admitted struct {
	*bpf.Gateway
	directory *directory
}

// Read reads the next event of an admitted terminal.
func (k admitted) Read(ctx context.Context, ev *bpf.Event) error {
	for {
		if err := k.Gateway.Read(ctx, ev); err != nil {
			return err
		}
		if _, ok := k.directory.Lookup(ev.Flow.Terminal.Addr()); ok {
			return nil
		}
	}
}

// relayed is the tracer as the splicer sees it where terminals come and go: a connection that
// is relayed outlives the registration of its terminal, and is not looked into from then on.
type relayed struct {
	*tracer.Live
	directory *directory
}

// Stream takes bytes of an admitted terminal.
func (r relayed) Stream(f bpf.Flow, dir bpf.Dir, b []byte, at time.Time) {
	if _, ok := r.directory.Lookup(f.Terminal.Addr()); ok {
		r.Live.Stream(f, dir, b, at)
	}
}

// what is what this process mainly is.
func (n *node) what() string {
	if n.cfg.watches() {
		return "gateway"
	}
	return "application server"
}

// announce tells what runs, and where it listens.
func (n *node) announce(log *slog.Logger) {
	if g := n.cfg.Gateway; n.cfg.watches() {
		log.Info("gateway is up", "gateway", n.cfg.Node, "lan", g.LAN, "wan", g.WAN, "terminals", len(n.directory.configured()))
	}
	if n.server != nil {
		log.Info("application server is up", "listen", n.server.Addrs())
	}
	log.Info("API is up", "listen", n.cfg.API.Listen, "socket", n.cfg.API.Socket)
}
