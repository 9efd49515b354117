package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"sync"
	"time"

	"scas/internal/command"
	"scas/sip"
)

// agent is one registered terminal: it takes what the service sends, asks or accepts, and
// starts the player. Safe for concurrent use.
type agent struct {
	env    *env
	client *sip.Client
	print  func(event) // what nobody waits for
	accept bool
	play   players
	login  string // for URLs
	stage  stage
	noise  io.Writer // what players write
	wg     sync.WaitGroup
	ctx    context.Context
	cancel context.CancelFunc
	since  time.Time // registered

	mu      sync.Mutex // guards what follows
	waiters map[string]chan event
	offers  map[string]pending // open, by number
}

type pending struct {
	offer sip.Offer
	until time.Time
}

// request is what a command asks of an agent, over the control socket too.
type request struct {
	Order    *sip.Order `json:"order,omitempty"`
	Wait     bool       `json:"wait,omitempty"` // for the result
	Answer   string     `json:"answer,omitempty"`
	Offer    string     `json:"offer,omitempty"` // of the answer; empty: the only one
	Presence *presence  `json:"presence,omitempty"`
}

type presence struct {
	Active   bool   `json:"active"`
	Activity string `json:"activity,omitempty"`
}

// Times to wait for an answer.
const (
	answerTime = 15 * time.Second
	resultTime = 10 * time.Minute
)

// start registers the terminal. The caller must close it.
func startAgent(ctx context.Context, e *env, a *account, g *agent) error {
	cfg, err := a.client(e)
	if err != nil {
		return err
	}
	g.env, g.waiters, g.offers = e, map[string]chan event{}, map[string]pending{}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	cfg.Received = g.received
	if g.client, err = sip.NewClient(cfg); err != nil {
		return err
	}
	if err := g.client.Register(ctx); err != nil {
		g.cancel()
		_ = g.client.Close() // the first error counts
		var refused *sip.StatusError
		if errors.As(err, &refused) {
			return err
		}
		return command.UnreachableError(err.Error())
	}
	g.since = e.now()
	r := registered{Contact: g.client.Contact()}
	if gruu := g.client.GRUU(); gruu != "" {
		r.GRUU = &gruu
	}
	g.print(newEvent(kindRegistered, r))
	return nil
}

// close ends players and registration.
func (g *agent) close() error {
	g.cancel()
	err := g.client.Close() // nothing is received after it
	g.wg.Wait()
	g.stage.stop()
	return err
}

// received takes a message of the service.
func (g *agent) received(in sip.Incoming) {
	var v event
	ref := ""
	switch {
	case in.Sessions != nil:
		v, ref = newEvent(kindSessions, in.Sessions), in.Sessions.Ref
	case in.Result != nil:
		v, ref = newEvent(kindResult, in.Result), in.Result.Ref
		g.mu.Lock()
		delete(g.offers, in.Result.Offer)
		g.mu.Unlock()
	case in.Offer != nil:
		v, ref = newEvent(kindOffer, in.Offer), in.Offer.Ref
	default:
		v = newEvent(kindText, message{Text: in.Text})
	}
	g.mu.Lock()
	waiter := g.waiters[ref]
	g.mu.Unlock()
	if waiter != nil && ref != "" {
		select {
		case waiter <- v:
		default: // it has more than it can read: nothing is lost that counts
		}
	}
	asked := waiter != nil && ref != ""
	if in.Offer != nil && !asked {
		g.remember(*in.Offer)
	}
	g.print(v)
	switch { // an offer that was asked for, and any with --accept, is played
	case in.Offer == nil:
	case asked:
		g.open(*in.Offer)
	case g.accept:
		g.wg.Go(func() {
			if err := g.answer(g.ctx, in.Offer.Offer, true); err != nil {
				g.print(newEvent(kindError, message{Text: err.Error()}))
			}
		})
	}
}

// remember keeps an offer until it is answered or too old.
func (g *agent) remember(o sip.Offer) {
	now := g.env.now()
	g.mu.Lock()
	for n, p := range g.offers {
		if now.After(p.until) {
			delete(g.offers, n)
		}
	}
	g.offers[o.Offer] = pending{offer: o, until: now.Add(time.Duration(max(1, o.Expires)) * time.Second)}
	g.mu.Unlock()
}

// answer accepts or declines an offer; without a number the only open one.
func (g *agent) answer(ctx context.Context, number string, yes bool) error {
	g.mu.Lock()
	now := g.env.now()
	for n, p := range g.offers {
		if now.After(p.until) {
			delete(g.offers, n)
		} else if number == "" && len(g.offers) == 1 {
			number = n
		}
	}
	p, ok := g.offers[number]
	many := len(g.offers) > 1
	delete(g.offers, number)
	g.mu.Unlock()
	switch {
	case !ok && number == "" && many:
		return errors.New("there are several offers: say which")
	case !ok:
		return errors.New("there is no such offer")
	}
	op, reason := "decline", "no"
	if yes {
		op, reason = "accept", ""
		if _, err := g.play.command(p.offer.URL[0], g.login); err != nil {
			op, reason = "decline", "unsupported"
			g.failed(p.offer, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if err := g.send(ctx, sip.Order{Op: op, Offer: number, Reason: reason}); err != nil {
		return err
	}
	if op == "accept" {
		g.open(p.offer)
	}
	return nil
}

// open starts the player for the first URL it can play.
func (g *agent) open(o sip.Offer) {
	argv, err := g.play.command(o.URL[0], g.login)
	if err != nil {
		g.failed(o, err)
		return
	}
	told := playing{Offer: o.Offer, URL: o.URL[0], Argv0: argv[0]}
	err = g.stage.start(argv, g.noise, func(pid int) {
		v := told
		v.Event, v.PID = "started", &pid
		g.print(newEvent(kindPlayer, v))
	}, func(code int) {
		v := told
		v.Event, v.Code = "ended", &code
		g.print(newEvent(kindPlayer, v))
	})
	if err != nil {
		g.failed(o, err)
	}
}

func (g *agent) failed(o sip.Offer, err error) {
	text := err.Error()
	g.print(newEvent(kindPlayer, playing{Event: "failed", Offer: o.Offer, URL: o.URL[0], Error: &text}))
}

// do carries out a request and hands on what comes back for it.
func (g *agent) do(ctx context.Context, r request, tell func(event)) error {
	switch {
	case r.Presence != nil:
		p := sip.Presence{Active: r.Presence.Active, Activity: r.Presence.Activity}
		if p.Active {
			p.LastInput = g.env.now()
		}
		ctx, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		if err := g.client.Publish(ctx, p); err != nil {
			return err
		}
		tell(newEvent(kindPresence, r.Presence))
		return nil
	case r.Answer != "":
		return g.answer(ctx, r.Offer, r.Answer == "yes")
	case r.Order == nil:
		return errors.New("nothing asked")
	}
	return g.order(ctx, *r.Order, r.Wait, tell)
}

// order sends an order and waits for what answers it: of a push and with wait, the end of the
// move; of a pull, the offer.
func (g *agent) order(ctx context.Context, o sip.Order, wait bool, tell func(event)) error {
	o.Ref = newRef()
	answers := make(chan event, 8)
	g.mu.Lock()
	g.waiters[o.Ref] = answers
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.waiters, o.Ref)
		g.mu.Unlock()
	}()
	limit := answerTime
	if wait {
		limit = resultTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := g.send(ctx, o); err != nil {
		return err
	}
	tell(newEvent(kindTaken, taken{Op: o.Op, Ref: o.Ref}))
	if o.Op == "push" && !wait || o.Op == "cancel" {
		return nil
	}
	for {
		select {
		case v := <-answers:
			tell(v)
			if v.kind != kindOffer || !wait {
				return nil
			}
		case <-ctx.Done():
			return errors.New("no answer from the service")
		case <-g.ctx.Done():
			return errors.New("the handset ends")
		}
	}
}

// settle is how long after the registration the service may not know of it yet: the core tells
// it while it answers the terminal (TS 24.229 §5.4.1.7).
const settle = 5 * time.Second

// send sends an order; one that comes before the news of the registration is sent again.
func (g *agent) send(ctx context.Context, o sip.Order) error {
	for {
		_, err := g.client.Send(ctx, o)
		var refused *sip.StatusError
		if !errors.As(err, &refused) || refused.Code != 403 || g.env.now().Sub(g.since) > settle {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func newRef() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
