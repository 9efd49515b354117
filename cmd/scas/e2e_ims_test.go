package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scas/internal/lab"
	"scas/internal/lab/ims"
	"scas/internal/lab/peers"
	"scas/session"
)

// TestIMS is an evening with a real IMS core, a real media server and real players: terminals
// are watched only while the core says that they are registered, and the film moves by push
// from the phone, by pull from the TV, and by itself. It prints the ladder.
func TestIMS(t *testing.T) {
	t.Parallel()
	r := newIMSLab(t)
	r.outside(t)
	since := time.Now()
	r.core.Note("", "registration")
	onPhone := r.handset(t, bob, secret, phone, "phone", peers.UDP)
	r.opens(t, since, phone, "bob")
	since = time.Now()
	onTV := r.handset(t, bob, secret, tv, "tv", peers.TCP)
	r.opens(t, since, tv, "bob")
	r.kernelAdmits(t, "both are registered", r.Addr(phone), r.Addr(tv))
	defer func() { t.Logf("\n%s", r.ladder(t, onTV.screen)) }()

	r.pushes(t, onPhone, onTV)
	r.pulls(t, onPhone, onTV)
	r.follows(t, onPhone, onTV)
	r.leaves(t, onTV)
	r.restarts(t, onPhone)
	r.removed(t, onPhone)
	r.scenarios(t)
	r.load(t)
}

// outside: before any registration nothing is watched, and who is no user of the service opens
// nothing by registering.
func (r *imsLab) outside(t *testing.T) {
	r.core.Note("", "a film before anybody is registered, and a user outside the service")
	early := r.watch(t, peers.FFmpeg, peers.UDP, 0)
	since := time.Now()
	r.registers(t, "eve", phone, 600)
	told := r.message(t, since, "the core tells of eve", r.told("REGISTER", "eve"))
	r.message(t, told.At, "the answer", func(m ims.Message) bool { return m.Code == 200 && m.From.Addr() == r.plan.AS })
	last, _ := early.Last()
	if _, err := early.WaitPicture(t.Context(), last.N+peers.Rate); err != nil {
		t.Fatal(err)
	}
	if all := r.enrolled(t); len(all) != 0 || r.opened(t) != 0 || len(r.sessions(t, "")) != 0 {
		t.Errorf("%d addresses are open, %+v, %+v", r.opened(t), all, r.sessions(t, ""))
	}
	r.kernelAdmits(t, "nobody is registered")
	r.registers(t, "eve", phone, 0)
	early.Close()
}

// pushes: the phone pushes; the TV's user declines, and everything is as it was; then agrees.
func (r *imsLab) pushes(t *testing.T, onPhone, onTV *handset) {
	r.core.Note("", "push from the phone: declined")
	origin := r.watch(t, peers.MPV, peers.UDP, 20*time.Second)
	before := r.shown(t)
	onPhone.does(t, "push", "tv", "--no-wait")
	offer := onTV.offer(t)
	if offer.From != "phone" || offer.Position == nil || offer.URL[0] != *before.URL {
		t.Errorf("%+v", offer)
	}
	onTV.does(t, "no")
	onPhone.result(t, "declined")
	onTV.result(t, "declined")
	x := r.ended(t)
	if x.State != session.Declined || x.Trigger != session.Push {
		t.Errorf("%+v", x)
	}
	r.goesOnAt(t, origin)
	if after := r.shown(t); after.ID != before.ID || after.State != session.Playing || after.Steered {
		t.Errorf("the session was %+v, is %+v", before, after)
	}
	if line := onTV.screen.shown(t); len(line) > 0 || len(r.server.Requests("", r.Addr(tv))) > 0 {
		t.Errorf("the TV plays: %+v", line)
	}

	r.core.Note("", "push from the phone: confirmed on the TV")
	onPhone.does(t, "push", "tv", "--no-wait")
	onTV.offer(t)
	onTV.does(t, "yes")
	r.moved(t, onPhone, onTV, origin, session.Push)
}

// pulls: a film plays on the phone, and the TV's user asks for it.
func (r *imsLab) pulls(t *testing.T, onPhone, onTV *handset) {
	r.stopTV(t, onTV)
	r.core.Note("", "pull from the TV")
	origin := r.watch(t, peers.Gst, peers.UDP, 40*time.Second)
	r.shown(t)
	onTV.does(t, "pull")
	if offer := onTV.offer(t); offer.From != "phone" || offer.Auto {
		t.Errorf("%+v", offer)
	}
	r.moved(t, onPhone, onTV, origin, session.Pull)
}

// follows: the user turns to the TV, which its presence tells; the TV asks, the user agrees.
func (r *imsLab) follows(t *testing.T, onPhone, onTV *handset) {
	r.stopTV(t, onTV)
	r.core.Note("", "by itself: presence says that the user is at the TV")
	onPhone.does(t, "auto", "on")
	onPhone.does(t, "presence", "active")
	origin := r.watch(t, peers.MPV, peers.TCP, 60*time.Second)
	// who has just been at the phone has not left it: evidence of the TV must be ten seconds
	// newer (ims-sip 2.4)
	started := r.shown(t).Started
	await(t, opening, "the phone lies idle", func() bool { return time.Since(started) > 11*time.Second })
	onTV.does(t, "presence", "active", "--activity", "tv")
	offer := onTV.offer(t)
	if !offer.Auto {
		t.Errorf("%+v", offer)
	}
	onTV.does(t, "yes")
	r.moved(t, onPhone, onTV, origin, session.Auto)
	onPhone.does(t, "auto", "off")
}

// moved checks that the film was moved from the phone to the TV as its viewer wants it.
func (r *imsLab) moved(t *testing.T, onPhone, onTV *handset, origin *peers.Player, by session.Trigger) {
	t.Helper()
	begun := time.Now()
	x := r.ended(t)
	if x.State != session.Done || x.Trigger != by {
		t.Fatalf("transfer %s by %s", transferState(x), x.Trigger)
	}
	onPhone.result(t, "done")
	onTV.result(t, "done")
	ctx, cancel := context.WithTimeout(t.Context(), opening)
	defer cancel()
	if _, exited, err := origin.WaitEnd(ctx, 0); err != nil || !exited {
		t.Errorf("the phone's player does not end: %v", err)
	} else if e, _ := origin.Exit(); !e.Clean() {
		t.Errorf("the phone's player ended badly: %+v", e)
	}
	left, _ := origin.Last()
	first := onTV.screen.first(t, orderedAt(x))
	repeated := left.Pos - first.Pos + 1.0/peers.Rate
	t.Logf("%s: the phone's last picture %.2f s, the TV's first %.2f s: %.2f s repeated, %v after the order", by, left.Pos, first.Pos, repeated, time.Since(begun).Round(time.Millisecond))
	if most := siteOverlap.Seconds() + realGOP + realSettle + realSpare; repeated < 0 || repeated > most {
		t.Errorf("%.2f s of the film repeated, want 0 to %.1f", repeated, most)
	}
	onTV.screen.moves(t, 1)
}

// ended returns the newest transfer once it has ended.
func (r *imsLab) ended(t *testing.T) session.Transfer {
	t.Helper()
	x := r.outcome(t, r.newest(t).ID)
	r.ends = append(r.ends, x)
	return x
}

// stopTV ends the TV's player, as its viewer would.
func (r *imsLab) stopTV(t *testing.T, onTV *handset) {
	t.Helper()
	l := onTV.hears(t, "player", func(raw []byte) bool { return strings.Contains(string(raw), `"started"`) })
	pid := 0
	if _, err := fmt.Sscanf(string(l.raw[strings.Index(string(l.raw), `"pid":`):]), `"pid":%d`, &pid); err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	onTV.hears(t, "player", func(raw []byte) bool { return strings.Contains(string(raw), `"ended"`) })
	await(t, opening, "nothing plays", func() bool { return len(r.sessions(t, "")) == 0 })
}

// leaves: the TV de-registers while it plays: it plays on, unwatched.
func (r *imsLab) leaves(t *testing.T, onTV *handset) {
	r.core.Note("", "the TV leaves")
	if len(r.sessions(t, "")) != 1 {
		t.Errorf("%+v", r.sessions(t, ""))
	}
	r.closes(t, r.Addr(tv), soon, r.told("REGISTER", "bob", "Expires: 0"), func() { onTV.quits(t) })
	r.kernelAdmits(t, "the TV has left", r.Addr(phone))
}

// restarts: the core restarts and forgets everybody; nobody notices, and the next refresh puts
// everything back. Meanwhile a registration that nobody refreshes ends.
func (r *imsLab) restarts(t *testing.T, onPhone *handset) {
	film := r.watch(t, peers.MPV, peers.UDP, 0)
	before := r.shown(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	down, err := r.core.Restart(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !r.admits(t, phone) {
		t.Error("the phone is not admitted any more")
	}
	onPhone.does(t, "list")
	r.expires(t)
	r.message(t, down, "the phone registers again", r.told("REGISTER", "bob"))
	r.message(t, down, "the core notifies again", r.told("NOTIFY", "bob", "Event: reg", `state="active"`))
	if after := r.shown(t); !r.admits(t, phone) || after.ID != before.ID || !after.Started.Equal(before.Started) {
		t.Errorf("the session was %+v, is %+v", before, after)
	}
	r.goesOnAt(t, film)
}

// expires: a contact that nobody refreshes ends with its time.
func (r *imsLab) expires(t *testing.T) {
	r.core.Note("", "a registration of 6 s that nobody refreshes")
	r.registers(t, "dave", tv, 6)
	await(t, opening, "dave's TV is admitted", func() bool { return r.admits(t, tv) })
	over := func(m ims.Message) bool {
		return r.told("REGISTER", "dave", "Expires: 0")(m) || r.told("NOTIFY", "dave", "Event: reg", `state="terminated"`)(m)
	}
	r.closes(t, r.Addr(tv), 2*soon, over, func() {})
	r.kernelAdmits(t, "dave's registration has ended", r.Addr(phone))
}

// removed: the HSS ends the subscription: what plays goes on, unwatched.
func (r *imsLab) removed(t *testing.T, onPhone *handset) {
	r.core.Note("", "the HSS removes the user")
	r.closes(t, r.Addr(phone), 2*soon, r.told("NOTIFY", "bob", "Event: reg", `state="terminated"`), func() {
		if err := r.core.Remove("bob"); err != nil {
			t.Error(err)
		}
	})
	r.kernelAdmits(t, "bob is removed")
	r.goesOnAt(t, r.players[len(r.players)-1])
	r.players[len(r.players)-1].Close()
	onPhone.proc.Stop(5 * time.Second)
}

// scenarios runs those of SIPp that end with an answer of the application server.
func (r *imsLab) scenarios(t *testing.T) {
	r.core.Note("", "the scenarios of SIPp")
	at := func(ns string) netip.AddrPort { return netip.AddrPortFrom(r.Addr(ns), sippPort) }
	alice := imsUsers()["alice"]
	once := []string{"-m", "1"}
	r.registers(t, "alice", phone, 600)
	r.registers(t, "alice", tv, 600)
	await(t, opening, "alice's terminals are admitted", func() bool { return r.admits(t, phone) && r.admits(t, tv) })
	r.watch(t, peers.FFmpeg, peers.TCP, 0)
	since := time.Now()
	r.sipp(t, ims.Scenario{Name: "ue_list", NS: phone, From: at(phone), User: alice, Keys: map[string]string{"cmd": "list"}, Args: once})
	list := r.message(t, since, "the list", func(m ims.Message) bool { return m.Code == 0 && m.Method == "MESSAGE" && m.From.Addr() == r.plan.AS })
	number, _, _ := strings.Cut(string(list.Body), " ")
	offered := make(chan error, 1)
	go func() {
		offered <- r.core.Run(t.Context(), ims.Scenario{Name: "ue_answer_offer", NS: tv, From: at(tv), User: alice, Args: once})
	}()
	r.sipp(t, ims.Scenario{Name: "ue_push_json", NS: phone, From: at(phone), User: alice, Args: once,
		Keys: map[string]string{"session": number, "target": "tv", "rid": "r1"}})
	if err := <-offered; err != nil {
		t.Error(err)
	}
	r.sipp(t, ims.Scenario{Name: "ue_list", NS: tv, From: at(tv), User: alice, Keys: map[string]string{"cmd": "yes"}, Args: once})
	await(t, opening, "alice's yes is understood", func() bool { return r.newest(t).State == session.Armed })
	r.sipp(t, ims.Scenario{Name: "ue_publish", NS: phone, From: at(phone), User: alice, Args: once,
		Keys: map[string]string{"dev": "00000000-0000-1000-8000-000000000001"}})
}

// load registers many terminals at once, as a busy S-CSCF does.
func (r *imsLab) load(t *testing.T) {
	const terminals, second = 400, 200
	r.drawn = time.Now() // of the ladder it would be all there is to see
	var b strings.Builder
	b.WriteString("SEQUENTIAL\n")
	for i := range terminals {
		fmt.Fprintf(&b, "ue%d;10.79.%d.%d\n", i, i/250, i%250+1)
	}
	file := filepath.Join(r.dir, "users.csv")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	before := len(r.enrolled(t))
	r.sipp(t, ims.Scenario{Name: "isc_register_load", NS: lab.MS, From: netip.AddrPortFrom(r.plan.SCSCF, 5080), To: netip.AddrPortFrom(r.plan.AS, 5060),
		Keys: map[string]string{"domain": "load.example"}, Args: []string{"-inf", file, "-m", fmt.Sprint(terminals), "-r", fmt.Sprint(second), "-l", "2000"}})
	await(t, opening, "all terminals are admitted", func() bool { return r.opened(t) >= before+terminals })
	t.Logf("%d registrations, %d a second, admitted %v after the first", terminals, second, time.Since(r.drawn).Round(time.Millisecond))
}
