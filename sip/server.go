package sip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"scas/session"
)

// Mover carries out orders: the splicer, or one in another process.
type Mover interface {
	Move(ctx context.Context, o session.Order) (session.Transfer, error)
	Answer(id string, yes bool) error
	Cancel(id string) (session.Transfer, error)
}

// Sessions gives records. Where there are many, or they are far away, it gives them as they were
// last written, and has a Get for one with its position as of now.
type Sessions interface {
	List() []session.Record
}

type freshSessions interface {
	Get(id string) (session.Record, bool)
}

// Transfers gives the transfers and their changes.
type Transfers interface {
	Watch(ctx context.Context) <-chan session.Change
	Transfer(id string) (session.Transfer, bool)
}

// Store keeps what must survive a restart. Errors are counted and retried; nothing waits for
// the store.
type Store interface {
	PutBinding(ctx context.Context, b session.Binding) error
	DeleteBinding(ctx context.Context, key string) error
	Bindings(ctx context.Context) ([]session.Binding, error)
	PutUser(ctx context.Context, u session.User) error
	Users(ctx context.Context) ([]session.User, error)
	PutTaken(ctx context.Context, t session.Taken) error
	// Taken returns the request stored under key; false when there is none.
	Taken(ctx context.Context, key string) (session.Taken, bool, error)
}

// Gate opens and closes addresses on the gateways. Open is called once for an address however
// many bindings hold it, and again when it stands for another terminal; Close when the last
// binding is gone. Both may block; an error is retried until the state is as it should be.
type Gate interface {
	Open(b session.Binding) error
	Close(b session.Binding) error
}

// Deps are what the server needs of the rest. Mover, Sessions and Transfers may be nil in a
// process that only keeps registrations.
type Deps struct {
	Mover     Mover
	Sessions  Sessions
	Transfers Transfers
	Store     Store // nil: memory only
	Gate      Gate  // nil: nothing is opened
	Now       func() time.Time
	// OfferTimeout and AttachTimeout are those of the transfers: DESIGN §5.1.
	OfferTimeout, AttachTimeout time.Duration
}

// Server is the application server. Safe for concurrent use.
type Server struct {
	cfg   Config
	deps  Deps
	log   *slog.Logger
	now   func() time.Time
	began time.Time
	stack *stack
	count *counters

	registry  *registry
	notifies  *notifications
	regEvents *regEvents // nil: not configured
	registrar *registrar // nil: not configured

	// what builds on registrations hangs itself in here (services.go)
	background []func(ctx context.Context)
	naming     func(aor string, bs []session.Binding) []session.Binding
}

// New binds the listeners and joins the parts. Nothing is answered before Serve; a server that
// is not served must be closed.
func New(cfg Config, deps Deps, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Store == nil {
		deps.Store = NewMemory()
	}
	users, err := newService(cfg.Subscribers, cfg.Users)
	if err != nil {
		return nil, err
	}
	st, err := newStack(cfg, log, deps.Now)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, deps: deps, log: log, now: deps.Now, began: deps.Now(), stack: st, count: st.count}
	s.registry = newRegistry(cfg, users, deps.Store, deps.Gate, log, st.count, deps.Now)
	s.notifies = newNotifications(st)
	if err := s.join(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// join connects the parts that listen to each other.
func (s *Server) join() error {
	if s.cfg.RegEvent && len(s.cfg.Trusted) > 0 {
		s.regEvents = newRegEvents(s.stack, s.notifies, s.registry)
		s.background = append(s.background, s.regEvents.run)
	}
	if s.cfg.Registrar {
		r, err := newRegistrar(s.stack, s.registry)
		if err != nil {
			return err
		}
		s.registrar = r
		s.stack.auth = r.authenticate
	}
	s.stack.handle("REGISTER", s.register)
	s.stack.handle("OPTIONS", s.options)
	if err := s.services(); err != nil {
		return fmt.Errorf("sip: %w", err)
	}
	return nil
}

// restoreTime is how long nothing is answered for the sake of what the store kept: a user with
// terminals must not be told that there are none. A store that is away has no longer.
const restoreTime = time.Second

// Serve restores the bindings from the store and serves until ctx ends; then everything is
// closed. The gateways keep what is open: registrations outlive a restart.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, f := range append([]func(context.Context){s.registry.run}, s.background...) {
		wg.Go(func() { f(ctx) })
	}
	select {
	case <-s.registry.restored:
	case <-time.After(restoreTime):
	case <-ctx.Done():
	}
	return s.stack.serveAll(ctx)
}

// Close closes the listeners of a server that is not being served.
func (s *Server) Close() error {
	s.stack.close()
	return nil
}

// Addrs returns what is listened on, as "udp://192.0.2.9:5060", in the order of the
// configuration: a port 0 is shown as the one that was given.
func (s *Server) Addrs() []string {
	var out []string
	for _, l := range s.stack.listeners {
		out = append(out, l.network+"://"+l.local.String())
	}
	return out
}

// Terminals returns the terminals of all users of the service that are registered now, sorted
// by user and age, with the names their users gave them.
func (s *Server) Terminals() []session.Binding {
	all := s.registry.all()
	if s.naming == nil {
		return all
	}
	var out []session.Binding
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].AoR == all[i].AoR {
			j++
		}
		out = append(out, s.naming(all[i].AoR, all[i:j])...)
		i = j
	}
	return out
}

// Stats returns counters and, as "bindings", "users" and "open", what there is now.
func (s *Server) Stats() map[string]uint64 {
	out := s.count.snapshot()
	s.registry.gauges(out)
	if s.regEvents != nil {
		out["subscriptions"] = uint64(s.regEvents.sub.size())
	}
	return out
}
