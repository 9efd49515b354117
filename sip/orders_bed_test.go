package sip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gosip "github.com/emiago/sipgo/sip"

	"scas/session"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// ue is a socket that stands for the core and one terminal behind it: it sends what the
// terminal sends as the core passes it on, and keeps what the terminal gets.
type ue struct {
	t    testing.TB
	conn *net.UDPConn
	as   *net.UDPAddr
	ip   netip.Addr // of the terminal
	user string     // asserted
	seq  int
	got  chan *gosip.Request
	res  chan *gosip.Response

	mu   sync.Mutex
	code int // answered to MESSAGE
}

func newUE(t testing.TB, as netip.AddrPort, user, ip string) *ue {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	u := &ue{
		t: t, conn: conn, as: net.UDPAddrFromAddrPort(as), ip: netip.MustParseAddr(ip), user: user, code: 200,
		got: make(chan *gosip.Request, 64), res: make(chan *gosip.Response, 64),
	}
	go u.read()
	return u
}

func (u *ue) read() {
	buf := make([]byte, 65536)
	parser := gosip.NewParser()
	seen := map[string]bool{}
	for {
		n, err := u.conn.Read(buf)
		if err != nil {
			return
		}
		m, err := parser.ParseSIP(bytes.Clone(buf[:n]))
		if err != nil {
			continue
		}
		switch m := m.(type) {
		case *gosip.Response:
			u.res <- m
		case *gosip.Request:
			u.mu.Lock()
			code := u.code
			u.mu.Unlock()
			res := gosip.NewResponseFromRequest(m, code, "Answer", nil)
			_, _ = u.conn.WriteTo([]byte(res.String()), u.as)
			key := m.CallID().Value() + m.CSeq().Value()
			if !seen[key] {
				seen[key] = true
				u.got <- m
			}
		}
	}
}

func (u *ue) answerWith(code int) {
	u.mu.Lock()
	u.code = code
	u.mu.Unlock()
}

// contact is where the terminal is reached.
func (u *ue) contact() string { return "sip:alice@" + u.conn.LocalAddr().String() }

// request writes a request as the core passes it on.
func (u *ue) request(method, head, body string) string {
	u.seq++
	return fmt.Sprintf("%s sip:scas@ims.test SIP/2.0\r\n"+
		"Via: SIP/2.0/UDP %s;branch=z9hG4bK%s%d\r\n"+
		"Via: SIP/2.0/UDP %s:5060;received=%s;branch=z9hG4bKue%d;rport=5060\r\n"+
		"Max-Forwards: 68\r\nTo: <sip:scas@ims.test>\r\nFrom: <%s>;tag=%d\r\nCall-ID: %d-%p\r\nCSeq: %d %s\r\n"+
		"P-Asserted-Identity: <%s>\r\nP-Charging-Vector: icid-value=\"x\"\r\n%sContent-Length: %d\r\n\r\n%s",
		method, u.conn.LocalAddr(), u.ip, u.seq, u.ip, u.ip, u.seq, u.user, u.seq, u.seq, u, u.seq, method, u.user, head, len(body), body)
}

// send sends raw bytes and returns the status of the answer.
func (u *ue) send(raw string) int {
	u.t.Helper()
	if _, err := u.conn.WriteTo([]byte(raw), u.as); err != nil {
		u.t.Fatal(err)
	}
	select {
	case res := <-u.res:
		return res.StatusCode
	case <-time.After(patience):
		u.t.Fatal("no answer")
	}
	return 0
}

// say sends plain words, as baresip does.
func (u *ue) say(words string, want int) {
	u.t.Helper()
	raw := u.request("MESSAGE", "Accept: text/plain\r\nContent-Type: text/plain\r\n", words)
	if code := u.send(raw); code != want {
		u.t.Fatalf("%q: %d, want %d", words, code, want)
	}
}

// order sends the machine form.
func (u *ue) order(body string, want int) {
	u.t.Helper()
	raw := u.request("MESSAGE", "Accept: "+MoveType+", text/plain\r\nContent-Type: "+MoveType+"\r\n", body)
	if code := u.send(raw); code != want {
		u.t.Fatalf("%s: %d, want %d", body, code, want)
	}
}

// next returns the next request the terminal gets.
func (u *ue) next() *gosip.Request {
	u.t.Helper()
	select {
	case m := <-u.got:
		return m
	case <-time.After(patience):
		u.t.Fatalf("%s got nothing", u.ip)
	}
	return nil
}

// text returns the next plain message.
func (u *ue) text() string {
	u.t.Helper()
	m := u.next()
	if kind := headerText(m, "Content-Type"); m.Method != gosip.MESSAGE || !strings.HasPrefix(kind, "text/plain") {
		u.t.Fatalf("%s with %s", m.Method, kind)
	}
	return string(m.Body())
}

// machine returns the next machine message.
func (u *ue) machine() *Incoming {
	u.t.Helper()
	m := u.next()
	in := parseIncoming(m.Body())
	if in == nil || headerText(m, "Content-Type") != MoveType {
		u.t.Fatalf("%s %q", m.Method, m.Body())
	}
	return in
}

// quiet fails when the terminal got something that nobody looked at.
func (u *ue) quiet() {
	u.t.Helper()
	select {
	case m := <-u.got:
		u.t.Fatalf("%s got %s %q", u.ip, m.Method, m.Body())
	default:
	}
}

// house is a directory: terminals by user; the identities of a user besides the AoR.
type house struct {
	mu    sync.Mutex
	alias map[identity]string
	of    map[string][]session.Binding
}

func (h *house) userOf(id identity) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	aor, ok := h.alias[id]
	return aor, ok
}

func (h *house) terminalsOf(aor string) []session.Binding {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]session.Binding(nil), h.of[aor]...)
}

func (h *house) targetOf(b session.Binding) (target, bool) {
	return target{URI: b.Contact, Route: b.Path}, b.Contact != ""
}

// remove takes alice's binding of that key away.
func (h *house) remove(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	const alice = "sip:alice@ims.test"
	h.of[alice] = slices.DeleteFunc(slices.Clone(h.of[alice]), func(b session.Binding) bool { return b.Key == key })
}

func (h *house) add(b session.Binding) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alias[identity(b.AoR)] = b.AoR
	h.of[b.AoR] = append(h.of[b.AoR], b)
}

// stage is a Mover that moves nothing: transfers go through the states as the test says.
type stage struct {
	*session.Table
	mu     sync.Mutex
	n      int
	orders []session.Order
	refuse session.Reason
}

func (s *stage) Move(_ context.Context, o session.Order) (session.Transfer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders = append(s.orders, o)
	if s.refuse != "" {
		return session.Transfer{}, &session.OrderError{Reason: s.refuse, Text: "refused"}
	}
	r, ok := s.Get(o.Session)
	if !ok {
		return session.Transfer{}, &session.OrderError{Reason: session.NoSession, Text: "none"}
	}
	s.n++
	t := session.Transfer{
		ID: fmt.Sprintf("t%d", s.n), Session: r.ID, AoR: r.AoR, From: r.Terminal, To: o.To, Trigger: o.Trigger,
		State: session.Armed, URL: *r.URL,
	}
	if o.Confirm {
		t.State = session.Offered
	}
	s.PutTransfer(t)
	return t, nil
}

// step makes an event happen to a transfer; false when its state does not allow it.
func (s *stage) step(id string, ev session.Event, reason session.Reason) (session.Transfer, bool) {
	t, ok := s.Transfer(id)
	if !ok {
		return t, false
	}
	if t, ok = t.Next(ev, reason, time.Now()); ok {
		s.PutTransfer(t)
	}
	return t, ok
}

func (s *stage) Answer(id string, yes bool) error {
	ev := session.Refused
	if yes {
		ev = session.Confirmed
	}
	if _, ok := s.step(id, ev, ""); !ok {
		return &session.OrderError{Reason: session.Busy, Text: "too late"}
	}
	return nil
}

func (s *stage) Cancel(id string) (session.Transfer, error) {
	t, ok := s.step(id, session.Cancel, "")
	if !ok {
		return t, &session.OrderError{Reason: session.Busy, Text: "too late"}
	}
	return t, nil
}

func (s *stage) ordered() []session.Order {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]session.Order(nil), s.orders...)
}

func (s *stage) refuseWith(r session.Reason) {
	s.mu.Lock()
	s.refuse = r
	s.mu.Unlock()
}

// play moves a transfer to done.
func (s *stage) play(t testing.TB, id string) {
	t.Helper()
	for _, ev := range []session.Event{session.StartRequest, session.TargetPlays, session.OriginGone} {
		if _, ok := s.step(id, ev, ""); !ok {
			t.Fatalf("transfer %s does not take %d", id, ev)
		}
	}
}

// ticker is a clock that a test moves.
type ticker struct {
	mu  sync.Mutex
	now time.Time
}

func (c *ticker) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *ticker) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bed is an application server with one user, alice, who has a phone and a tv.
type bed struct {
	orders    *orders
	stage     *stage
	house     *house
	clock     *ticker
	phone, tv *ue
	stranger  *ue
	store     *Memory
}

const filmURL = "rtsp://media.example:554/films/News.mp4?a=1&b=2"

func newBed(t testing.TB, edit ...func(*Config)) *bed {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Listen, cfg.URI, cfg.Trusted = []string{"udp://127.0.0.1:0"}, "sip:scas@ims.test", []string{"127.0.0.1/32"}
	for _, f := range edit {
		f(&cfg)
	}
	b := &bed{
		stage: &stage{Table: session.NewTable()}, clock: &ticker{now: time.Now()}, store: NewMemory(),
		house: &house{alias: map[identity]string{}, of: map[string][]session.Binding{}},
	}
	log, _ := discreetLog(t)
	st, err := newStack(cfg, log, b.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	deps := Deps{Mover: b.stage, Sessions: b.stage, Transfers: b.stage, Store: b.store}
	b.orders = newOrders(cfg, deps, st, b.house)
	b.orders.watchPresence(newNotifications(st))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = st.serveAll(ctx) })
	wg.Go(func() { b.orders.run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	<-b.orders.watching
	as := st.listeners[0].local
	b.phone = newUE(t, as, "sip:alice@ims.test", "10.0.0.1")
	b.tv = newUE(t, as, "sip:alice@ims.test", "10.0.0.2")
	b.stranger = newUE(t, as, "sip:mallory@ims.test", "10.0.0.9")
	b.register("phone", phoneInstance, "Android phone", b.phone)
	b.register("tv", tvInstance, "lab-tv/1.0", b.tv)
	return b
}

func (b *bed) register(key, instance, agent string, u *ue) session.Binding {
	x := session.Binding{
		Key: key, AoR: "sip:alice@ims.test", Instance: &instance, IP: u.ip, Contact: u.contact(), UserAgent: &agent,
		Source: session.FromRegister, Since: b.clock.Now(),
	}
	b.house.add(x)
	return x
}

// film starts a film on a terminal.
func (b *bed) film(id string, ip netip.Addr, npt float64) session.Record {
	r := session.Record{
		ID: id, AoR: session.Ptr("sip:alice@ims.test"), Terminal: session.Terminal{IP: ip}, Protocol: session.RTSP,
		URL: session.Ptr(filmURL), State: session.Playing, Started: b.clock.Now(),
		Position: &session.Position{NPT: &npt, Rendered: &npt},
	}
	b.stage.Put(r)
	return r
}
