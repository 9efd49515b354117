package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"scas/admin"
	"scas/internal/lab"
	"scas/internal/lab/ims"
	"scas/internal/lab/peers"
	"scas/session"
)

// imsLab is a gateway with real peers at a real IMS core.
type imsLab struct {
	*realLab
	core    *ims.Core
	plan    ims.Plan
	program string    // handset
	film    string    // URL
	drawn   time.Time // end of the ladder; zero: now
	players []*peers.Player
	ends    []session.Transfer
}

// handsetLife is the registration that handsets ask for; they refresh it in time.
const handsetLife = 30 * time.Second

// The columns of the ladder that are not the core's, and the terminals' there.
const (
	columnScas  = "scas"
	columnMedia = "media"
)

// imsConfig is the section sip of a gateway at the core of plan.
const imsConfig = `
sip:
  listen: ["udp://%[1]v:5060", "tcp://%[1]v:5060"]
  uri: "sip:scas@ims.example"
  trusted: [%[2]v/32, %[3]v/32, %[4]v/32]
  outbound: "%[5]s"
  presence: "%[6]s"
  terminals: [10.78.1.0/24, 10.78.2.0/24, 10.79.0.0/16]
  core_hop: false
`

// imsUsers are the users in the HSS. Eve is known to the core and told to the application
// server, but no user of the service.
func imsUsers() map[string]ims.User {
	return map[string]ims.User{
		"bob":   {Name: "bob", Password: "bob's secret", Request: true},
		"alice": {Name: "alice", Password: "alicepw", Request: true, Identities: []string{"tel:+15550100"}},
		"dave":  {Name: "dave", Password: "davepw"},
		"eve":   {Name: "eve", Password: "evepw", Request: true},
	}
}

// newIMSLab starts core, media server and gateway.
func newIMSLab(t *testing.T) *imsLab {
	t.Helper()
	film := realSite(t)
	for _, p := range ims.Programs() {
		_, err := exec.LookPath(p)
		needs(t, err)
	}
	node := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 78, 9, last}) }
	plan := ims.Plan{Domain: "ims.example", PCSCF: node(11), SCSCF: node(12), HSS: node(13), Presence: node(14), AS: node(1)}
	r := &imsLab{plan: plan, program: buildHandset(t), realLab: &realLab{site: newSite(t, siteConfig{
		settle: realSettle * time.Second, only: []string{}, users: []string{"sip:alice@ims.example", "sip:dave@ims.example", "sip:*@load.example"},
		sip: fmt.Sprintf(imsConfig, plan.AS, plan.PCSCF, plan.SCSCF, plan.Presence, plan.Outbound(), plan.PresenceURI()),
	})}}
	var err error
	var users []ims.User
	for _, u := range imsUsers() {
		users = append(users, u)
	}
	if r.core, err = ims.Start(t.Context(), ims.Config{Lab: r.Lab, NS: lab.MS, Plan: plan, Users: users, Dir: r.dir + "/core"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(r.core.Said())
			r.counted(t)
		}
		if err := r.core.Close(); err != nil {
			t.Error(err)
		}
	})
	r.core.Name(r.Addr(phone), "phone")
	r.core.Name(r.Addr(tv), "tv")
	r.core.Name(plan.AS, columnScas)
	r.server, err = peers.StartGstServer(t.Context(), peers.ServerConfig{Start: r.Command, NS: lab.MS, Media: film.Dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.server.Close)
	r.film = r.server.URL(r.Addr(lab.MS).String(), film.MP4)
	r.serve(t)
	return r
}

// counted tells what the gateway counted, and what it knows.
func (r *imsLab) counted(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/metrics", "/v1/sessions"} {
		if text, err := r.api.call(context.Background(), http.MethodGet, path, nil); err == nil {
			t.Logf("%s:\n%s", path, regexp.MustCompile(`(?m)^(#.*|.* 0)\n`).ReplaceAll(text, nil))
		}
	}
}

// shown returns the session of the only film once it is known to play.
func (r *imsLab) shown(t *testing.T) (found session.Record) {
	t.Helper()
	await(t, opening, "one session is shown to play", func() bool {
		all := r.sessions(t, "")
		if len(all) == 1 {
			found = all[0]
		}
		return len(all) == 1 && found.State == session.Playing
	})
	return found
}

// watch starts a film on the phone, as its user would, goes to a place in it, and returns when
// a second from there was shown.
func (r *imsLab) watch(t *testing.T, kind peers.Kind, transport string, from time.Duration) *peers.Player {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := r.play(t, kind, transport, phone, r.film)
	r.players = append(r.players, p)
	_, err := p.WaitPicture(ctx, 0)
	if err == nil {
		err = goTo(ctx, p, from)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// goTo has a player show a second of the film from a place on; 0 is where it is. One that stands still
// there (GStreamer's did, with media coming) is sent there again, as its user would.
func goTo(ctx context.Context, p *peers.Player, from time.Duration) error {
	const patience = 15 * time.Second
	for {
		if from > 0 {
			if err := p.Seek(from); err != nil {
				return err
			}
		}
		wait, cancel := context.WithTimeout(ctx, patience)
		_, err := p.WaitPicture(wait, int(from/time.Second+1)*peers.Rate)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}
}

// goesOnAt fails the test when a player does not show a second more of the film.
func (r *imsLab) goesOnAt(t *testing.T, p *peers.Player) {
	t.Helper()
	last, _ := p.Last()
	if _, err := p.WaitPicture(t.Context(), last.N+peers.Rate); err != nil {
		t.Errorf("the film does not go on: %v", err)
	}
}

// message returns the first message since a time that fits, once the capture has it.
func (r *imsLab) message(t *testing.T, since time.Time, what string, fits func(ims.Message) bool) (found ims.Message) {
	t.Helper()
	await(t, opening, what, func() bool {
		for _, e := range r.core.Events() {
			if m := e.Message; m != nil && !m.At.Before(since) && fits(*m) {
				found = *m
				return true
			}
		}
		return false
	})
	return found
}

// told matches the requests that the core sends to the application server about a user.
func (r *imsLab) told(method, user string, words ...string) func(ims.Message) bool {
	return func(m ims.Message) bool {
		return m.Code == 0 && m.Method == method && m.To.Addr() == r.plan.AS && strings.Contains(m.Header("To")+m.Header("From"), "sip:"+user+"@") &&
			!slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(m.Head+string(m.Body), w) })
	}
}

// opens checks that a terminal was admitted at most a second after the core told of it.
func (r *imsLab) opens(t *testing.T, since time.Time, ns, user string) {
	t.Helper()
	await(t, opening, ns+" is admitted", func() bool { return r.admits(t, ns) })
	open := time.Now()
	told := r.message(t, since, "the core tells of "+user, r.told("REGISTER", user)).At
	t.Logf("admitted %v after the third-party REGISTER", open.Sub(told).Round(time.Millisecond))
	if open.Sub(told) > soon {
		t.Errorf("admitted %v after the third-party REGISTER, want at most %v", open.Sub(told), soon)
	}
}

// closes does what ends the registration of a terminal, and checks that its address is not
// admitted any more at most limit after the first message that told it.
func (r *imsLab) closes(t *testing.T, a netip.Addr, limit time.Duration, tells func(ims.Message) bool, end func()) {
	t.Helper()
	since, gone := time.Now(), make(chan time.Time, 1)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for r.open(t.Context(), a) {
			select {
			case <-tick.C:
			case <-t.Context().Done():
				return
			}
		}
		gone <- time.Now()
	}()
	end()
	m := r.message(t, since, "the core tells that it is over", tells)
	var closed time.Time
	select {
	case closed = <-gone:
	case <-time.After(opening):
		t.Fatalf("%v is admitted long after %s", a, m.Method)
	}
	t.Logf("closed %v after %s", closed.Sub(m.At).Round(time.Millisecond), m.Method)
	if closed.Sub(m.At) > limit {
		t.Errorf("closed %v after %s, want at most %v", closed.Sub(m.At), m.Method, limit)
	}
	for _, s := range r.sessions(t, "") {
		if s.Terminal.IP == a {
			t.Errorf("still watched: %+v", s)
		}
	}
}

// open reports whether an address is in `scas terminals`, or the kernel's map has one more than
// that.
func (r *imsLab) open(ctx context.Context, a netip.Addr) bool {
	var all []admin.Terminal
	if _, err := r.api.get(ctx, "/v1/terminals", &all); err != nil {
		return true
	}
	text, err := r.api.call(ctx, http.MethodGet, "/metrics", nil)
	kernel := regexp.MustCompile(fmt.Sprintf(`(?m)^scas_bpf_subscribers %d$`, len(all)))
	return slices.ContainsFunc(all, func(x admin.Terminal) bool { return x.IP == a }) || err != nil || len(all) > 0 && !kernel.Match(text)
}

// sipp runs a scenario of SIPp, which must succeed.
func (r *imsLab) sipp(t *testing.T, s ims.Scenario) {
	t.Helper()
	if err := r.core.Run(t.Context(), s); err != nil {
		t.Error(err)
	}
}

// registers registers a terminal of a user by SIPp; it is never refreshed. Kamailio may see the
// answer to its challenge before it has noted the challenge, and challenge again, which SIPp does
// not take: then it is tried again.
func (r *imsLab) registers(t *testing.T, user, ns string, expires int) {
	t.Helper()
	s := ims.Scenario{Name: "ue_register", NS: ns, From: netip.AddrPortFrom(r.Addr(ns), sippPort), User: imsUsers()[user], Keys: map[string]string{
		"expires": fmt.Sprint(expires), "instance": "00000000-0000-1000-8000-00000000000" + ns[len(ns)-1:],
		"ua": map[string]string{phone: "lab-phone/1.0", tv: "lab-tv/1.0"}[ns], "pani": "IEEE-802.11; i-wlan-node-id=020000000011",
	}, Args: []string{"-m", "1"}}
	err := r.core.Run(t.Context(), s)
	for range 3 {
		if err == nil {
			return
		}
		t.Logf("%s registers again: %v", user, err)
		err = r.core.Run(t.Context(), s)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// sippPort is where SIPp plays a terminal: beside the handset's, and below what libavformat takes
// for media (5000 and up).
const sippPort = 4070

// ladder draws all that has happened: the messages, what the media server was asked, what the
// screens showed, and how the orders went.
func (r *imsLab) ladder(t *testing.T, tv *screen) string {
	t.Helper()
	all := r.core.Events()
	columns := map[netip.Addr]string{r.Addr(phone): "phone", r.Addr(lab.UE2): "tv"}
	for _, e := range r.server.Events() {
		if e.Kind != peers.EventRequest || e.Method == "GET_PARAMETER" || e.Method == "OPTIONS" {
			continue
		}
		line := ims.Event{At: e.At, From: columns[e.Client], To: columnMedia, Title: e.Method, Detail: e.Range}
		for _, x := range r.ends {
			if to := x.To; to.IP == e.Client && e.At.After(orderedAt(x)) && e.At.Before(*x.Times.Ended) {
				line.Via = columnScas
			}
		}
		all = append(all, line)
	}
	for _, p := range r.players {
		line := p.Timeline()
		if len(line) > 0 {
			last := line[len(line)-1]
			all = append(all, pictureEvent("phone", "first picture", line[0]), pictureEvent("phone", "last picture", last))
		}
	}
	line := tv.shown(t)
	for i, s := range line {
		switch {
		case i == 0 || line[i-1].At.Add(3*time.Second).Before(s.At):
			all = append(all, pictureEvent("tv", "first picture", s))
		}
		if i == len(line)-1 || line[i+1].At.After(s.At.Add(3*time.Second)) {
			all = append(all, pictureEvent("tv", "last picture", s))
		}
	}
	for _, x := range r.ends {
		all = append(all, transferEvents(x)...)
	}
	if !r.drawn.IsZero() {
		all = slices.DeleteFunc(all, func(e ims.Event) bool { return e.At.After(r.drawn) })
	}
	slices.SortStableFunc(all, func(a, b ims.Event) int { return a.At.Compare(b.At) })
	var b strings.Builder
	if err := ims.Ladder(&b, ims.Columns([]string{"phone", "tv"}, []string{columnScas, columnMedia}), all); err != nil {
		t.Error(err)
	}
	return b.String()
}

func pictureEvent(column, what string, s peers.Shown) ims.Event {
	return ims.Event{At: s.At, From: column, Title: what + ":", Detail: fmt.Sprintf("%.2f s of the film", s.Pos)}
}

// transferEvents are the states an order went through.
func transferEvents(x session.Transfer) (out []ims.Event) {
	note := func(at *time.Time, format string, args ...any) {
		if at != nil {
			out = append(out, ims.Event{At: *at, From: columnScas, Title: "transfer", Detail: fmt.Sprintf(format, args...)})
		}
	}
	note(x.Times.Offered, "offered: %s, %s to %s", x.Trigger, x.From.Name, x.To.Name)
	note(x.Times.Armed, "armed: the %s may open the URL", x.To.Name)
	if x.Position != nil {
		note(x.Times.Attached, "attached: its PLAY was rewritten to %.2f s", *x.Position)
	}
	note(x.Times.Committed, "committed: the %s plays", x.To.Name)
	end := string(x.State)
	if x.Reason != nil {
		end += " (" + string(*x.Reason) + ")"
	}
	if x.Repeated != nil {
		end += fmt.Sprintf(": %.2f s of the film were shown twice", *x.Repeated)
	}
	note(x.Times.Ended, "%s", end)
	return out
}
