package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"scas/admin"
	"scas/bpf"
	"scas/session"
	"scas/session/kv"
	"scas/sip"
	"scas/splice"
	"scas/tracer"
)

// node is a running process: the rooms of its roles, joined.
//
//	kernel events -> tracer -> table <- splicer <- orders <- API, SIP
//	                             |                            |
//	                             +-> store <- registrations <-+-> gate -> kernel
//
// A gateway alone has no SIP: registrations and orders come out of the store (mirror). An
// application server alone has what is left of API, SIP: sessions and transfers come out of
// the store, and orders go into it (remote).
//
// What was opened or started last is undone first: the API and the application server, then
// the splicer, which still needs the steering to end its connections, then what stores how
// films ended, the tracer, the store, the kernel half.
type node struct {
	cfg       config
	now       func() time.Time
	log       *slog.Logger
	directory *directory
	table     *session.Table
	gateway   *bpf.Gateway
	listeners []*net.TCPListener
	live      *tracer.Live
	splicer   *splice.Splicer
	store     *kv.Store   // nil: nothing is stored but the running sessions
	remote    *kv.Remote  // gateways in other processes; nil: only this one counts
	mirror    *mirror     // bindings of an application server in another process; nil: not followed
	server    *sip.Server // nil: no application server
	api       *admin.Server
	ready     *readiness
	undo      []func() error
}

// openNode opens everything; nothing is left behind when it fails.
func openNode(e *env, c config, log *slog.Logger) (*node, error) {
	n := &node{cfg: c, now: e.now, log: log, directory: newDirectory(c), table: session.NewTable(), ready: &readiness{}}
	n.ready.set(errors.New("starting"))
	steps := []func() error{n.openStore, n.openSIP, n.openAPI}
	if c.watches() {
		steps = []func() error{n.openKernel, n.openTracer, n.openSplicer, n.openStore, n.openSIP, n.openAPI, n.admit}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, errors.Join(err, n.close())
		}
	}
	return n, nil
}

func (n *node) openKernel() error {
	cfg := n.cfg.kernel()
	cfg.Log = n.log
	for _, name := range append(append([]string(nil), cfg.LAN...), cfg.WAN...) {
		if _, err := net.InterfaceByName(name); err != nil {
			return fmt.Errorf("there is no interface %s: gateway.lan and gateway.wan must name interfaces as `ip link` shows them", name)
		}
	}
	g, err := bpf.Open(cfg)
	if err != nil {
		return err
	}
	n.gateway = g
	n.undo = append(n.undo, g.Close)

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v4, v6, err := splice.Listen(ctx, cfg.Mark)
	if err != nil {
		return err
	}
	var four, six syscall.Conn
	for l, c := range map[*net.TCPListener]*syscall.Conn{v4: &four, v6: &six} {
		if l == nil {
			continue
		}
		*c = l
		n.listeners = append(n.listeners, l)
		n.undo = append(n.undo, func() error {
			_ = l.Close() // the splicer has closed it as a rule
			return nil
		})
	}
	return g.SetListener(four, six)
}

func (n *node) openTracer() error {
	var kernel tracer.Kernel = n.gateway
	if n.comeAndGo() {
		kernel = admitted{n.gateway, n.directory}
	}
	n.live = tracer.NewLive(tracer.Config{
		Gateway: n.cfg.Node, Prefix: idPrefix(n.cfg.Node, n.now()), Services: n.cfg.services(), Name: n.directory.name,
		IPv6Prefix: n.cfg.Gateway.IPv6Prefix,
	}, kernel, n.table, n.log)
	if n.cfg.State.Dir == "" {
		return nil
	}
	return restoreState(n.cfg.State.Dir, n.live, n.now(), n.log)
}

func (n *node) openSplicer() (err error) {
	cfg := splice.DefaultConfig()
	cfg.Suffix = shortName(n.cfg.Node)
	cfg.Mark, cfg.Upstream, cfg.IPv6Prefix = n.cfg.Gateway.Mark, splice.Upstream(n.cfg.Gateway.Upstream), n.cfg.Gateway.IPv6Prefix
	t := n.cfg.Transfer
	cfg.Overlap, cfg.Settle, cfg.OfferTimeout, cfg.AttachTimeout = t.Overlap, t.Settle, t.OfferTimeout, t.AttachTimeout
	cfg.AoR = func(a netip.Addr) (string, bool) {
		_, aor := n.directory.name(a)
		return aor, aor != ""
	}
	cfg.Now = n.now
	var watcher splice.Tracer = n.live
	if n.comeAndGo() {
		watcher = relayed{n.live, n.directory}
	}
	n.splicer, err = splice.New(cfg, n.gateway, watcher, n.table, n.log)
	return err
}

func (n *node) openAPI() (err error) {
	cfg := n.cfg.admin()
	cfg.Version = readBuildInfo().Version
	all := n.all()
	who := terminals{directory: n.directory, sessions: all}
	switch {
	case n.server != nil:
		who.bindings = n.server.Terminals
	case n.mirror != nil:
		who.bindings, who.static = n.mirror.Terminals, true
	}
	src := admin.Sources{
		Sessions: fresh{all}, Table: all, Terminals: who, Mover: all, Counters: n.counters, Ready: n.isReady,
	}
	if n.store != nil {
		src.History = history{n.store}
	}
	n.api, err = admin.New(cfg, src, n.log)
	if err == nil {
		n.undo = append(n.undo, func() error { n.api.Close(); return nil })
	}
	return err
}

// counters returns what the rooms count. Which of it goes down again, each room's Stats says.
func (n *node) counters() map[string]admin.Counters {
	all := map[string]admin.Counters{}
	if n.cfg.watches() {
		all["bpf"] = split(n.gateway.Stats(), "subscribers", "armed", "media_flows", "legs", "cuts", "tcp_flows", "ring_pending_bytes")
		all["tracer"] = split(n.live.Stats(), "connections")
		all["splice"] = split(n.splicer.Stats(), "connections_open", "transfers_open")
	}
	n.serviceCounters(all)
	return explained(all)
}

// split takes what goes up and down out of stats.
func split(stats map[string]uint64, now ...string) admin.Counters {
	c := admin.Counters{Total: stats, Now: map[string]uint64{}}
	for _, name := range now {
		if v, ok := stats[name]; ok {
			c.Now[name] = v
			delete(stats, name)
		}
	}
	return c
}

// admit opens the gateway for the configured terminals.
func (n *node) admit() error {
	for _, t := range n.directory.configured() {
		if err := n.gateway.Subscribe(t.IP); err != nil {
			return fmt.Errorf("admit terminal %s: %w", t.IP, err)
		}
	}
	return nil
}

// start runs the parts; broken is told when one ends by itself.
func (n *node) start(broken context.CancelCauseFunc) {
	if n.cfg.watches() {
		n.startGateway(broken)
	}
	if n.remote != nil {
		n.startRemote(broken)
	}
	if n.server != nil {
		n.run(broken, n.server.Serve)
	}
	n.run(broken, n.api.Serve)
	n.ready.set(nil)
}

func (n *node) startGateway(broken context.CancelCauseFunc) {
	n.run(broken, n.live.Run)
	if n.cfg.State.Dir != "" {
		n.run(broken, func(ctx context.Context) error {
			keepState(ctx, n.cfg.State.Dir, n.live, n.log)
			return nil
		})
	}
	n.run(broken, func(ctx context.Context) error {
		forgetTransfers(ctx, n.table, n.now)
		return nil
	})
	if n.store != nil {
		n.run(broken, n.publish)
	}
	n.run(broken, func(ctx context.Context) error { return n.splicer.Serve(ctx, n.listeners...) })
	if n.mirror != nil {
		n.run(broken, n.mirror.run)
	}
	if n.cfg.shared() {
		n.run(broken, n.serveOrders)
	}
}

// run starts a part; undoing it ends its context and waits for it.
func (n *node) run(broken context.CancelCauseFunc, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := part(ctx)
		if ctx.Err() == nil {
			broken(errors.Join(err, errPartEnded))
		}
		done <- err
	}()
	n.undo = append(n.undo, func() error {
		cancel()
		return <-done
	})
}

// errPartEnded tells of a part that ended although nobody asked it to.
var errPartEnded = errors.New("a part of the gateway ended by itself")

// drain takes no new orders and waits for moved films to end, at most until ctx does.
func (n *node) drain(ctx context.Context) {
	n.ready.set(errors.New("ending"))
	if n.splicer == nil {
		return
	}
	if err := n.splicer.Drain(ctx); err != nil {
		n.log.Info("some moved films were still playing")
	}
}

// close undoes what was opened and started.
func (n *node) close() error {
	var errs []error
	for i := len(n.undo) - 1; i >= 0; i-- {
		errs = append(errs, n.undo[i]())
	}
	n.undo = nil
	return errors.Join(errs...)
}

// explain adds to an error of opening what an operator can do about it.
func explain(err error) error {
	var conflict *bpf.ConflictError
	switch {
	case errors.As(err, &conflict) && conflict.What == "instance":
		return fmt.Errorf("%w\nEnd the other one, or let them have different interfaces, mark, table and priority", err)
	case errors.As(err, &conflict):
		return fmt.Errorf("%w\nChoose another gateway.mark, gateway.table or gateway.rule_priority", err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w\nThe gateway needs root, or CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON; `scas doctor` tells what is missing", err)
	}
	return err
}

// idPrefix returns a prefix that makes the ids of sessions unique over restarts, and among
// gateways that start together.
func idPrefix(node string, now time.Time) string {
	return "s" + strconv.FormatInt(now.Unix()%(36*36*36*36*36), 36) + shortName(node) + "-"
}

// shortName returns three letters or digits that tell a node from most others.
func shortName(node string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(node)) // never fails
	return strconv.FormatUint(36*36+uint64(h.Sum32())%(35*36*36), 36)
}

// liveSessions gives records with the position of the moment.
type liveSessions struct {
	live *tracer.Live
	now  func() time.Time
}

// List returns all sessions, the oldest first.
func (s liveSessions) List() []session.Record { return s.live.Records(s.now()) }

// Get returns one session.
func (s liveSessions) Get(id string) (session.Record, bool) { return s.live.Record(id, s.now()) }
