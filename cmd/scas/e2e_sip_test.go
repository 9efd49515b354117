package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"scas/admin"
	"scas/internal/command"
	"scas/internal/lab"
	"scas/session"
	"scas/sip"
)

// TestSIPOutside: who is no user of the service, or cannot prove it, opens nothing.
func TestSIPOutside(t *testing.T) {
	t.Parallel()
	s, server := newHotel(t)
	p := s.play(t, phone, udp(), server.URL("film"))
	for _, who := range []struct{ aor, password string }{{bob, "guessed"}, {"sip:eve@ims.example", secret}} {
		var refused *sip.StatusError
		if err := s.client(t, phone, who.aor, who.password).registers(t); !errors.As(err, &refused) || refused.Code < 400 {
			t.Errorf("%s registers: %v", who.aor, err)
		}
	}
	if said := s.registered(t, registration{of: "sip:eve@ims.example", terminal: s.Addr(phone), expires: 600}); said != "SIP/2.0 200 OK" {
		t.Errorf("the core is told %q", said)
	}
	reach(t, p, 3*time.Second)
	if all := s.terminals(t); len(all) != 0 || s.opened(t) != 0 || len(s.sessions(t, "")) != 0 {
		t.Errorf("%d addresses are open, %+v, %+v", s.opened(t), all, s.sessions(t, ""))
	}
	s.kernelAdmits(t, "refused")
	// the same of a user of the service opens the address
	if said := s.registered(t, registration{of: bob, terminal: s.Addr(phone), expires: 600}); said != "SIP/2.0 200 OK" {
		t.Errorf("the core is told %q", said)
	}
	await(t, soon, "the phone is admitted", func() bool { return s.admits(t, phone) })
	s.kernelAdmits(t, "registered", s.Addr(phone))
	if x := s.terminals(t)[0]; x.Source != session.FromRegister || x.AoR == nil || *x.AoR != bob || x.Expires == nil {
		t.Errorf("%+v", x)
	}
}

// TestSIP is an evening in a hotel without IMS: terminals register, a film is pushed from the
// phone to the TV, the way back is declined, and terminals leave.
func TestSIP(t *testing.T) {
	t.Parallel()
	s, server := newHotel(t)
	early := s.play(t, phone, udp(), server.URL("early"))
	reach(t, early, 2*time.Second)
	if seen := s.sessions(t, ""); len(seen) != 0 || s.opened(t) != 0 {
		t.Fatalf("seen before anybody registered: %+v", seen)
	}
	early.Quit()
	onPhone, onTV := s.client(t, phone, bob, secret), s.client(t, tv, bob, secret)
	s.register(t, onPhone, phone)
	s.register(t, onTV, tv)
	for _, x := range s.terminals(t) {
		if x.Source != session.FromRegistrar || *x.AoR != bob || x.Expires == nil || time.Until(*x.Expires) > 601*time.Second || x.Instance == nil ||
			x.UserAgent == nil || *x.UserAgent != "lab "+x.Name || x.IP != s.address(x.Name) {
			t.Errorf("%+v", x)
		}
	}

	from := udp()
	from.Start = moveStart
	origin := s.play(t, phone, from, server.URL("film"))
	reach(t, origin, moveOrder)
	if r := s.shown(t, server.URL("film")); r.Terminal.Name != "phone" || r.AoR == nil || *r.AoR != bob {
		t.Errorf("%+v", r)
	}
	target := s.pushed(t, onPhone, onTV, origin)
	s.declined(t, onPhone, onTV, target)

	// the TV leaves: it plays on, unwatched
	if err := onTV.Close(); err != nil {
		t.Error(err)
	}
	left := time.Now()
	await(t, soon, "the TV is not admitted any more", func() bool { return len(s.enrolled(t)) == 1 && s.opened(t) == 1 })
	await(t, soon, "its film is not shown any more", func() bool { return len(s.sessions(t, "")) == 0 })
	t.Logf("unwatched %v after the answer", time.Since(left))
	goesOn(t, target, time.Now().Add(3*time.Second))
	if seen := s.sessions(t, ""); len(seen) != 0 {
		t.Errorf("seen of a terminal that left: %+v", seen)
	}

	s.remembers(t)

	// a restart, unnoticed by the phone and what it plays
	again := s.play(t, phone, udp(), server.URL("again"))
	before := s.shown(t, server.URL("again"))
	s.stop(t)
	s.serve(t)
	await(t, soon, "the phone is admitted as before", func() bool { return s.admits(t, phone) })
	if r := s.shown(t, server.URL("again")); r.ID != before.ID || r.Terminal != before.Terminal || r.AoR == nil || *r.AoR != bob {
		t.Errorf("%+v", r)
	}
	untouched(t, "the phone", server, again)
	if err := onPhone.Close(); err != nil {
		t.Error(err)
	}
	await(t, soon, "nobody is admitted any more", func() bool { return len(s.enrolled(t)) == 0 && s.opened(t) == 0 && len(s.sessions(t, "")) == 0 })
	s.stop(t)
	s.discreet(t)
}

// pushed pushes a film from the phone; opening the URL on the TV accepts the offer.
func (s *site) pushed(t *testing.T, onPhone, onTV *terminalClient, origin *lab.Player) *lab.Player {
	t.Helper()
	onPhone.order(t, sip.Order{Op: "push", To: "tv"})
	said := onTV.incoming(t, "the offer", func(in sip.Incoming) bool { return in.Text != "" }).Text
	url := ""
	for line := range strings.SplitSeq(said, "\n") {
		if strings.HasPrefix(line, "rtsp://") {
			url = line
		}
	}
	x := s.newest(t)
	if x.State != session.Offered || x.Trigger != session.Push || x.To.Name != "tv" || x.URL != url {
		t.Fatalf("offered %q: %+v", said, x)
	}
	target := s.play(t, tv, udp(), url)
	if x = s.outcome(t, x.ID); x.State != session.Done {
		t.Fatalf("transfer %s", transferState(x))
	}
	if !over(t, origin).Clean {
		t.Errorf("the phone did not end cleanly: %+v", summary(origin.Result()))
	}
	goesOn(t, target, x.Times.Ended.Add(time.Second))
	first, ok := target.Result().Segments[0].First()
	if shown := origin.Result().LastShown.NPT; !ok || first.NPT < moveStart-2*time.Second || first.NPT > shown+picture {
		t.Errorf("the TV began at %v, the phone ended at %v", first.NPT, shown)
	}
	if r := onPhone.incoming(t, "the result", result("done")).Result; r.On != "tv" {
		t.Errorf("%+v", r)
	}
	if words := onTV.incoming(t, "the result in words", func(in sip.Incoming) bool { return in.Text != "" }).Text; !strings.HasPrefix(words, "Moved: ") {
		t.Errorf("the TV is told %q", words)
	}
	return target
}

// declined asks for the way back, which the phone declines.
func (s *site) declined(t *testing.T, onPhone, onTV *terminalClient, plays *lab.Player) {
	t.Helper()
	onTV.order(t, sip.Order{Op: "push", To: "phone"})
	offer := onPhone.incoming(t, "the offer", offered).Offer
	if offer.From != "tv" || len(offer.URL) != 1 || offer.Position == nil {
		t.Errorf("%+v", offer)
	}
	onPhone.order(t, sip.Order{Op: "decline", Offer: offer.Offer})
	onTV.incoming(t, "that it was declined", result("declined"))
	onPhone.incoming(t, "the same", result("declined"))
	if x := s.newest(t); x.State != session.Declined {
		t.Errorf("%+v", x)
	}
	goesOn(t, plays, time.Now().Add(time.Second))
	if r := s.one(t, offer.URL[0]); r.Terminal.IP != s.Addr(tv) || r.State != session.Playing {
		t.Errorf("%+v", r)
	}
	whole(t, "the TV", plays.Result())
}

// remembers checks the history: what played, and how both orders ended.
func (s *site) remembers(t *testing.T) {
	t.Helper()
	await(t, opening, "the history is complete", func() bool {
		var all []admin.Entry
		s.scas(t, &all, "log", "--since", "1h", "--user", bob)
		var said []string
		for _, x := range all {
			switch {
			case x.Transfer != nil:
				said = append(said, string(x.Transfer.State)+" "+x.Transfer.To.Name)
			case x.Session != nil:
				said = append(said, x.Event+" "+x.Session.Terminal.Name)
			}
		}
		slices.Sort(said)
		return slices.Equal(said, []string{"declined phone", "done tv", "end phone", "end tv", "play phone", "play tv"})
	})
	var moves []admin.Entry
	if s.scas(t, &moves, "log", "--event", "transfer", "--terminal", "tv", "--limit", "1"); len(moves) != 1 || moves[0].Transfer == nil {
		t.Errorf("%+v", moves)
	}
	if table, _, code := s.command(t, "log"); code != command.Done || !strings.Contains(table, "phone > tv") {
		t.Errorf("exit code %d: %s", code, table)
	}
}
