package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"scas/session"
)

// Mover carries out orders (splice.Splicer). Errors may be *session.OrderError.
type Mover interface {
	Move(ctx context.Context, o session.Order) (session.Transfer, error)
	Answer(id string, yes bool) error
	Cancel(id string) (session.Transfer, error)
}

// The subjects, after the prefix:
//
//	order.<node>.{move,answer,cancel,sessions}   requests to one gateway
//	transfer                                     gateways tell each step; the bucket tells it as well, when its leader lives
//	alive                                        gateways say that they are there
//	as                                           application servers say that they are there
//	probe                                        asks all of them to say so now
const (
	aliveEvery = 2 * time.Second
	// orderTimeout is how long an order without a deadline may take.
	orderTimeout = 5 * time.Second
	// ordersAtOnce is how many orders a gateway works on at a time; more are refused.
	ordersAtOnce = 64
)

// order is a request on the wire.
type order struct {
	Session         string           `json:"session,omitempty"`
	To              session.Terminal `json:"to"`
	Trigger         session.Trigger  `json:"trigger,omitempty"`
	Confirm         bool             `json:"confirm,omitempty"`
	RequirePosition bool             `json:"require_position,omitempty"`
	Transfer        string           `json:"transfer,omitempty"` // of answer and cancel
	Yes             bool             `json:"yes,omitempty"`
}

// outcome is a reply on the wire. Records come in several replies.
type outcome struct {
	Transfer *session.Transfer `json:"transfer,omitempty"`
	Records  []json.RawMessage `json:"records,omitempty"`
	More     bool              `json:"more,omitempty"`
	Reason   session.Reason    `json:"reason,omitempty"` // of a *session.OrderError
	Fault    string            `json:"fault,omitempty"`  // its text, or that of another error
}

// alive is what a gateway or an application server says now and then.
type alive struct {
	Node  string    `json:"node"`
	Start string    `json:"start"` // tells two processes of one name apart
	Gone  bool      `json:"gone"`  // it ends
	At    time.Time `json:"at"`    // by its clock
}

func (s *Store) orderSubject(node, verb string) string {
	return s.cfg.Prefix + ".order." + token(node) + "." + verb
}

// ServeOrders carries out the orders that application servers give this node, and tells them
// its sessions, until ctx ends; it waits for those under way. Call it once a process.
func (s *Store) ServeOrders(ctx context.Context, mover Mover, live Sessions) error {
	o := &orderService{s: s, mover: mover, live: live, slots: make(chan struct{}, ordersAtOnce), start: nats.NewInbox()}
	requests := make(chan *nats.Msg, 4*ordersAtOnce)
	for _, subject := range []string{s.orderSubject(s.cfg.Node, "*"), s.cfg.Prefix + ".probe", s.cfg.Prefix + ".alive", s.cfg.Prefix + ".as"} {
		sub, err := s.nc.ChanSubscribe(subject, requests)
		if err != nil {
			return fmt.Errorf("serve orders: %w", err)
		}
		defer s.unsubscribe(sub)
	}
	o.run(ctx, requests)
	return nil
}

func (s *Store) unsubscribe(sub *nats.Subscription) {
	if err := sub.Unsubscribe(); err != nil {
		s.log.Debug("unsubscribe", "err", err)
	}
}

type orderService struct {
	s     *Store
	mover Mover
	live  Sessions
	start string
	slots chan struct{}
	twin  bool // another process has this name; told once
}

func (o *orderService) run(ctx context.Context, requests <-chan *nats.Msg) {
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	o.sayAlive(false)
	for {
		era := o.s.connection()
		select {
		case <-ctx.Done():
			o.sayAlive(true)
			for range ordersAtOnce { // those under way
				o.slots <- struct{}{}
			}
			return
		case <-era.Done():
			o.sayAlive(false)
		case <-tick.C:
			o.sayAlive(false)
		case m := <-requests:
			o.take(ctx, m)
		}
	}
}

func (o *orderService) take(ctx context.Context, m *nats.Msg) {
	switch m.Subject {
	case o.s.cfg.Prefix + ".probe":
		o.sayAlive(false)
		return
	case o.s.cfg.Prefix + ".alive":
		o.compare(m.Data)
		return
	case o.s.cfg.Prefix + ".as":
		if a, ok := parse[alive](m.Data); ok {
			o.s.hearClock(*a)
		}
		return
	}
	select {
	case o.slots <- struct{}{}:
		go func() {
			defer func() { <-o.slots }()
			o.serve(ctx, m)
		}()
	default:
		o.reply(m, failed(&session.OrderError{Reason: session.Busy, Text: "the gateway works on too many orders"}))
	}
}

// compare warns when somebody else has this node's name: each would take the other's orders.
func (o *orderService) compare(text []byte) {
	var a alive
	if json.Unmarshal(text, &a) == nil && a.Node == o.s.cfg.Node && a.Start != o.start && !a.Gone && !o.twin {
		o.twin = true
		o.s.log.Error("another gateway has the name of this one; give each a name of its own", "gateway", a.Node)
	}
}

func (o *orderService) sayAlive(gone bool) {
	if err := o.s.publishJSON(o.s.cfg.Prefix+".alive", alive{o.s.cfg.Node, o.start, gone, o.s.cfg.Now()}); err != nil {
		o.s.log.Debug("not told to be alive", "err", err)
	}
}

func (o *orderService) serve(ctx context.Context, m *nats.Msg) {
	var r order
	if err := json.Unmarshal(m.Data, &r); err != nil {
		o.reply(m, failed(fmt.Errorf("order: %w", err)))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	o.s.count.served.Add(1)
	switch verb := m.Subject[len(o.s.orderSubject(o.s.cfg.Node, "")):]; verb {
	case "move":
		o.reply(m, done(o.mover.Move(ctx, session.Order{
			Session: r.Session, To: r.To, Trigger: r.Trigger, Confirm: r.Confirm, RequirePosition: r.RequirePosition,
		})))
	case "answer":
		o.reply(m, failed(o.mover.Answer(r.Transfer, r.Yes)))
	case "cancel":
		o.reply(m, done(o.mover.Cancel(r.Transfer)))
	case "sessions":
		o.replyRecords(m, r.Session)
	default:
		o.reply(m, failed(fmt.Errorf("order %q is not known here", verb)))
	}
}

// replyBytes is about how much one reply with records holds; the server takes 1 MiB.
const replyBytes = 256 << 10

// replyRecords tells all sessions, or the one with this id.
func (o *orderService) replyRecords(m *nats.Msg, id string) {
	var out outcome
	size := 0
	for _, r := range o.live.List() {
		if id != "" && r.ID != id {
			continue
		}
		text, err := json.Marshal(r)
		if err != nil || len(text) > maxValue {
			continue
		}
		if size+len(text) > replyBytes {
			out.More = true
			o.reply(m, out)
			out, size = outcome{}, 0
		}
		out.Records = append(out.Records, text)
		size += len(text)
	}
	o.reply(m, out)
}

func (o *orderService) reply(m *nats.Msg, out outcome) {
	if err := o.s.publishJSON(m.Reply, out); err != nil {
		o.s.log.Warn("an order was carried out, its outcome could not be told", "err", err)
	}
}

// publishJSON sends v; nothing is kept when the connection is away.
func (s *Store) publishJSON(subject string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.nc.Publish(subject, text)
}

// done is the outcome of an order that gives a transfer.
func done(t session.Transfer, err error) outcome {
	out := failed(err)
	if err == nil {
		out.Transfer = &t
	}
	return out
}

// failed is the outcome of an error; nil is success.
func failed(err error) outcome {
	var e *session.OrderError
	switch {
	case err == nil:
		return outcome{}
	case errors.As(err, &e):
		return outcome{Reason: e.Reason, Fault: e.Text}
	}
	return outcome{Fault: err.Error()}
}

// err is the reverse of failed.
func (o outcome) err(node string) error {
	switch {
	case o.Reason != "":
		return &session.OrderError{Reason: o.Reason, Text: o.Fault}
	case o.Fault != "":
		return fmt.Errorf("gateway %s: %s", node, o.Fault)
	}
	return nil
}
