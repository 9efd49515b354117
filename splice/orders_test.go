package splice

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"scas/session"
	"scas/tracer"
)

func TestOrders(t *testing.T) {
	alice := "sip:alice@ims.example"
	bob := "sip:bob@ims.example"
	cfg := quietConfig()
	cfg.AoR = func(a netip.Addr) (string, bool) {
		switch a.String() {
		case phone, tv:
			return bob, true
		case "127.0.0.9":
			return alice, true
		}
		return "", false
	}
	b := newBed(t, cfg)
	b.origin()
	b.tr.set("s1", func(d *tracer.Detail) { d.Record.AoR = &bob })
	d, _ := b.tr.Detail("s1", time.Now())
	b.table.Put(d.Record)
	for id, change := range map[string]func(*tracer.Detail){
		"ended":     func(d *tracer.Detail) { d.Record.State = session.Ended },
		"opaque":    func(d *tracer.Detail) { d.Record.Opaque = true },
		"multicast": func(d *tracer.Detail) { d.Record.Transport = session.Multicast },
		"live":      func(d *tracer.Detail) { d.Record.Live = true },
	} {
		x := b.detail(phone, id)
		change(&x)
		b.tr.details[id] = x
	}
	to := func(ip string) session.Terminal { return session.Terminal{IP: netip.MustParseAddr(ip)} }
	for _, tt := range []struct {
		name  string
		order session.Order
		want  session.Reason
	}{
		{"unknown session", session.Order{Session: "x", To: to(tv)}, session.NoSession},
		{"session is over", session.Order{Session: "ended", To: to(tv)}, session.NoSession},
		{"cannot be read", session.Order{Session: "opaque", To: to(tv)}, session.Unsupported},
		{"multicast", session.Order{Session: "multicast", To: to(tv)}, session.Unsupported},
		{"to itself", session.Order{Session: "s1", To: to(phone)}, session.SameTerminal},
		{"another user's terminal", session.Order{Session: "s1", To: to("127.0.0.9")}, session.NotAllowed},
		{"no terminal", session.Order{Session: "s1", To: to("127.0.0.77")}, session.Offline},
		{"no address", session.Order{Session: "s1"}, session.Offline},
		{"live with a position", session.Order{Session: "live", To: to(tv), RequirePosition: true}, session.NotSeekable},
		{"nothing of the user plays", session.Order{To: to("127.0.0.9")}, session.NoSession},
	} {
		if _, err := b.s.Move(t.Context(), tt.order); reasonIn(err) != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
	x, err := b.s.Move(t.Context(), session.Order{To: to(tv)}) // the newest playing one
	if err != nil || x.Session != "s1" {
		t.Fatalf("%+v, %v", x, err)
	}
	for name, o := range map[string]session.Order{
		"busy session": {Session: "s1", To: to(tv)}, "busy target": {Session: "live", To: to(tv)},
	} {
		if _, err := b.s.Move(t.Context(), o); reasonIn(err) != session.Busy {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.s.Cancel("nothing"); reasonIn(err) != session.NoSession {
		t.Errorf("cancel of nothing: %v", err)
	}
	b.cancel(x)
	b.cancel(b.move(session.Order{To: to(tv)}))
}

func TestChoice(t *testing.T) {
	at := time.Now()
	rec := func(id, ip string, s session.State, age int) session.Record {
		return session.Record{ID: id, Terminal: session.Terminal{IP: netip.MustParseAddr(ip)}, State: s, Started: at.Add(-time.Duration(age) * time.Second)}
	}
	for _, tt := range []struct {
		name string
		list []session.Record
		want string
		err  session.Reason
	}{
		{"nothing", nil, "", session.NoSession},
		{"newest that plays", []session.Record{rec("a", phone, session.Playing, 3), rec("b", phone, session.Playing, 2), rec("c", phone, session.Paused, 1)}, "b", ""},
		{"the only one is paused", []session.Record{rec("a", phone, session.Paused, 3), rec("b", phone, session.Ended, 2)}, "a", ""},
		{"several are paused", []session.Record{rec("a", phone, session.Paused, 3), rec("b", phone, session.Paused, 2)}, "", session.NoSession},
		{"it is there already", []session.Record{rec("a", tv, session.Playing, 3)}, "", session.SameTerminal},
	} {
		s := &Splicer{cfg: DefaultConfig(), table: session.NewTable()}
		for _, r := range tt.list {
			s.table.Put(r)
		}
		if got, err := s.choose("", netip.MustParseAddr(tv)); got != tt.want || reasonIn(err) != tt.err {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	cfg := quietConfig()
	cfg.Return = patience // or it has failed before it is cancelled
	b := newBed(t, cfg)
	b.origin()
	before := 0
	for i := range 201 {
		if i == 1 {
			eventually(t, "the first move is over", func() bool { return b.s.Stats()["transfers_open"] == 0 })
			before = runtime.NumGoroutine()
		}
		x := b.move(session.Order{})
		term, serv, f := b.connect(tv)
		b.playOn(term, serv, fmt.Sprintf("t%d", i+1), 4)
		send(t, serv, b.playReply(fmt.Sprintf("t%d", i+1), 4)[:20]) // and in the middle of it
		if i%2 == 0 {
			b.cancel(x)
		}
		term.SetLinger(0)
		term.Close()
		serv.Close()
		if i%2 == 1 {
			b.cancel(x)
		}
		eventually(t, "relay ends", func() bool { return b.s.relay(f) == nil })
	}
	defer func() {
		if t.Failed() {
			buf := make([]byte, 1<<20)
			t.Logf("%s", buf[:runtime.Stack(buf, true)])
		}
	}()
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= before })
	b.leftNothing()
}

// leftNothing checks that nothing of all that moved is kept, and ends the splicer.
func (b *bed) leftNothing() {
	b.t.Helper()
	b.s.mu.Lock()
	left := len(b.s.moves) + len(b.s.targets) + len(b.s.relays)
	b.s.mu.Unlock()
	if left != 0 {
		b.t.Errorf("%d entries left", left)
	}
	b.balance()
	b.stop()
	if len(b.k.legs)+len(b.k.armed) != 0 {
		b.t.Errorf("kernel keeps %v %v", b.k.legs, b.k.armed)
	}
}
