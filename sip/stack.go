package sip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// A message comes up in these stages: bytes are read from a listener's socket, which drops
// what may not speak and what is no message (wire.go, scrub.go); sipgo parses it and starts
// one goroutine for it; stack.serve checks it, finds out who asks (check.go), calls the
// handler of its method and sends what that returned. All but the first run concurrently,
// and messages of one dialog can overtake each other.

// request is one request that may be worked on. The embedded message is only valid until the
// handler and the function it left in reply.after have returned.
type request struct {
	*gosip.Request
	peer      netip.AddrPort // where the packet came from
	transport string         // udp, tcp, tls
	listener  string         // as configured: "udp://192.0.2.9:5060"
	trusted   bool           // from the core: its assertions hold
	asserted  identity       // who asks: asserted by the core or proven by digest; empty: not said
}

// reply is the one final answer to a request.
type reply struct {
	code    int
	reason  string // empty: the usual phrase
	headers []gosip.Header
	body    []byte
	// after runs once the answer is on its way, in the same goroutine, under recover.
	after func()
}

// handlerFunc answers a request by returning. It has a few seconds (ctx); long work belongs
// into reply.after. A panic is answered with 500 and counted.
type handlerFunc func(ctx context.Context, r *request) reply

// handlerTime is how long a handler has to find its answer: within T1, so that the other
// side does not repeat itself (RFC 3261 §17.1.2.2), and some reserve.
const handlerTime = 5 * time.Second

// stack is the thin layer over sipgo that everything of this package uses.
type stack struct {
	cfg       Config
	log       *slog.Logger
	trust     trust
	count     *counters
	now       func() time.Time
	listeners []*listener
	slots     chan struct{} // bounds the requests in work
	handlers  map[string]handlerFunc
	sources   *sourceBuckets // request rate by source address, access listeners

	// auth proves who a terminal is; a non-nil reply is the challenge or the refusal. Nil:
	// terminals are not heard.
	auth func(r *request) *reply
}

// newStack binds every listener. Nothing is served before serveAll.
func newStack(cfg Config, log *slog.Logger, now func() time.Time) (*stack, error) {
	t, err := parseTrusted(cfg.Trusted)
	if err != nil {
		return nil, err
	}
	s := &stack{
		cfg: cfg, log: log, trust: t, count: newCounters("digest_locked", "gate_errors", "panics", "rate_limited", "store_failed", "untrusted"), now: now,
		slots:    make(chan struct{}, cfg.Limits.Requests),
		handlers: map[string]handlerFunc{},
		sources:  newSourceBuckets(cfg.Limits.SourceRate, cfg.Limits.SourceBurst, now),
	}
	raiseMTU()
	for i, l := range append(append([]string(nil), cfg.Listen...), cfg.Access...) {
		ln, err := s.listen(l, i < len(cfg.Listen))
		if err != nil {
			s.close()
			return nil, fmt.Errorf("listen on %s: %w", l, err)
		}
		s.listeners = append(s.listeners, ln)
	}
	return s, nil
}

// handle registers the handler of a method. Before serveAll only.
func (s *stack) handle(method string, h handlerFunc) { s.handlers[method] = h }

// serveAll serves every listener until ctx ends, then closes them. The error is that of the
// first listener that stopped by itself.
func (s *stack) serveAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, l := range s.listeners {
		wg.Go(func() {
			err := l.serve()
			if ctx.Err() == nil {
				cancel(fmt.Errorf("sip listener %s: %w", l.name, errors.Join(err, errStopped)))
			}
		})
	}
	<-ctx.Done()
	s.close()
	wg.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, errStopped) {
		return cause
	}
	return nil
}

// errStopped: a listener ended although nobody asked it to.
var errStopped = errors.New("stopped listening")

func (s *stack) close() {
	for _, l := range s.listeners {
		l.close()
	}
}

// serve answers one request. It is what sipgo calls, in a goroutine per message.
func (s *stack) serve(l *listener, req *gosip.Request, tx gosip.ServerTransaction) {
	r := &request{Request: req, transport: l.network, listener: l.name}
	r.peer, _ = netip.ParseAddrPort(req.Source())
	r.peer = netip.AddrPortFrom(r.peer.Addr().Unmap(), r.peer.Port())
	answered := false
	defer func() {
		if p := recover(); p != nil {
			s.count.add("panics")
			s.log.Error("a handler panicked", "method", string(req.Method), "panic", p, "stack", string(debug.Stack()))
			if !answered {
				s.respond(r, tx, reply{code: 500})
			}
		}
	}()
	if req.IsAck() { // of a refusal of ours; nobody waits for an answer
		return
	}
	s.count.add("requests_" + methodName(string(req.Method)))
	done, ok := s.slot(req)
	if !ok {
		s.respond(r, tx, reply{code: 503, headers: []gosip.Header{gosip.NewHeader("Retry-After", "2")}})
		return
	}
	defer done()
	a := s.decide(l, r)
	answered = true
	s.respond(r, tx, a)
	if a.after != nil {
		a.after()
	}
}

// slot takes a place among the requests in work. Registrations are always served: they are
// answered at once, and an S-CSCF that gets an error throws the user out (TS 24.229 5.4.1.7).
func (s *stack) slot(req *gosip.Request) (done func(), ok bool) {
	if req.Method == gosip.REGISTER {
		return func() {}, true
	}
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, true
	default:
		s.count.add("overload")
		return nil, false
	}
}

// decide finds the answer to a request.
func (s *stack) decide(l *listener, r *request) reply {
	if a := s.check(r.Request); a != nil {
		s.count.add("bad_requests")
		return *a
	}
	if a := s.who(l, r); a != nil {
		return *a
	}
	h, ok := s.handlers[string(r.Method)]
	if !ok {
		return s.noHandler(string(r.Method))
	}
	ctx, cancel := context.WithTimeout(context.Background(), handlerTime)
	defer cancel()
	return h(ctx, r)
}

// respond sends a. An answer that cannot be sent is counted: the peer asks again.
func (s *stack) respond(r *request, tx gosip.ServerTransaction, a reply) {
	if a.code == 0 {
		a.code = 500
	}
	if a.reason == "" {
		a.reason = reasonPhrase(a.code)
	}
	res := gosip.NewResponseFromRequest(r.Request, a.code, a.reason, a.body)
	res.SipVersion = "SIP/2.0"
	s.mendResponse(r.Request, res)
	for _, h := range a.headers {
		res.AppendHeader(h)
	}
	if a.code >= 300 {
		s.count.add("answers_" + fmt.Sprint(a.code))
	}
	if err := tx.Respond(res); err != nil {
		s.count.add("answers_unsent")
		s.log.Debug("answer not sent", "code", a.code, "err", err)
	}
}

// mendResponse puts in what sipgo leaves out: headers it could not read are echoed as they
// came, and the branch that scrub gave to an RFC 2543 request goes.
func (s *stack) mendResponse(req *gosip.Request, res *gosip.Response) {
	for _, name := range []string{"From", "To", "Call-ID", "CSeq"} {
		if res.GetHeader(name) == nil {
			if h := header(req, name); h != nil {
				res.AppendHeader(gosip.NewHeader(name, h.Value()))
			}
		}
	}
	if via := res.Via(); via != nil {
		if b, ok := via.Params.Get("branch"); ok && strings.HasPrefix(b, branch2543) {
			via.Params.Remove("branch")
		}
	}
}

// header returns the first header of that name in its long or compact form, nil when absent.
func header(m headerReader, name string) gosip.Header {
	if h := m.GetHeader(name); h != nil {
		return h
	}
	if short, ok := compactForm(name); ok {
		return m.GetHeader(short)
	}
	return nil
}

// headers returns all headers of that name in both forms.
func headers(m headerReader, name string) []gosip.Header {
	all := m.GetHeaders(name)
	if short, ok := compactForm(name); ok {
		all = append(all, m.GetHeaders(short)...)
	}
	return all
}

// headerText is the value of the first header of that name, "" when absent.
func headerText(m headerReader, name string) string {
	if h := header(m, name); h != nil {
		return strings.TrimSpace(h.Value())
	}
	return ""
}

// headerReader is the part of a sipgo message that reading a header needs.
type headerReader interface {
	GetHeader(name string) gosip.Header
	GetHeaders(name string) []gosip.Header
}

// compactForm is the one-letter name of a header (RFC 3261 §7.3.3, RFC 6665 §8.4).
func compactForm(name string) (string, bool) {
	switch strings.ToLower(name) {
	case "from":
		return "f", true
	case "to":
		return "t", true
	case "via":
		return "v", true
	case "call-id":
		return "i", true
	case "contact":
		return "m", true
	case "content-type":
		return "c", true
	case "content-length":
		return "l", true
	case "event":
		return "o", true
	case "supported":
		return "k", true
	case "refer-to":
		return "r", true
	}
	return "", false
}

// methodName bounds the names that counters can get from the network.
func methodName(m string) string {
	switch m {
	case "REGISTER", "MESSAGE", "NOTIFY", "SUBSCRIBE", "PUBLISH", "REFER", "INVITE", "OPTIONS", "CANCEL", "BYE":
		return strings.ToLower(m)
	}
	return "other"
}
