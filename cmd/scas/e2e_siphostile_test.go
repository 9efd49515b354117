package main

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"scas/admin"
	"scas/internal/lab"
	"scas/session"
	"scas/sip"
)

// guestAddress is one in the TV's network where nobody is.
const guestAddress = "10.78.2.77"

// TestSIPHostile: what somebody says who is not the core, or a user says about another, changes
// nothing, neither in `scas terminals` nor in the kernel nor on the screen. Meanwhile a
// registration runs out, and its address is closed in time.
func TestSIPHostile(t *testing.T) {
	t.Parallel()
	s, server := newHotel(t)
	s.register(t, s.client(t, phone, bob, secret), phone)
	film := s.play(t, phone, udp(), server.URL("film"))
	s.shown(t, server.URL("film"))
	if said := s.registered(t, registration{of: bob, terminal: netip.MustParseAddr(guestAddress), expires: 1}); said != "SIP/2.0 200 OK" {
		t.Fatalf("the core is told %q", said)
	}
	await(t, soon, "the guest is admitted", func() bool { return len(s.enrolled(t)) == 2 && s.opened(t) == 2 })
	guest := s.guest(t)

	s.spoofed(t)
	s.alien(t)
	s.otherUser(t)

	if n := s.opened(t); n != len(s.enrolled(t)) || n > 2 || !s.admits(t, phone) || s.admits(t, tv) {
		t.Errorf("%d addresses are open, %+v", n, s.enrolled(t))
	}
	there := []netip.Addr{s.Addr(phone)}
	if len(s.enrolled(t)) == 2 {
		there = append(there, guest.IP)
	}
	s.kernelAdmits(t, "after all that", there...)
	var all []session.Transfer
	if s.scas(t, &all, "transfers"); len(all) != 0 {
		t.Errorf("transfers %+v", all)
	}
	s.runsOut(t, guest)
	s.kernelAdmits(t, "after the guest", s.Addr(phone))
	untouched(t, "the phone", server, film)
	s.stop(t)
	s.discreet(t)
}

// guest returns the terminal at guestAddress.
func (s *site) guest(t *testing.T) admin.Terminal {
	t.Helper()
	all := s.enrolled(t)
	i := slices.IndexFunc(all, func(x admin.Terminal) bool { return x.IP.String() == guestAddress })
	if i < 0 || all[i].Expires == nil {
		t.Fatalf("%+v", all)
	}
	return all[i]
}

// runsOut waits for the end of a registration that nobody refreshes.
func (s *site) runsOut(t *testing.T, guest admin.Terminal) {
	t.Helper()
	var open time.Time // when it was seen open last
	await(t, time.Until(*guest.Expires)+opening, "the guest is not admitted any more", func() bool {
		at := time.Now()
		if s.opened(t) == 1 {
			return len(s.enrolled(t)) == 1
		}
		open = at
		return false
	})
	if late := open.Sub(*guest.Expires); late > soon || late < -soon {
		t.Errorf("open until %v after its registration ran out", late)
	}
}

// spoofed speaks as the core, or as bob behind it, from the TV's address.
func (s *site) spoofed(t *testing.T) {
	t.Helper()
	here := s.Addr(tv)
	for name, text := range map[string]string{
		"a registration":      thirdParty(registration{of: bob, about: bob, terminal: here, expires: 600}, here),
		"the end of one":      thirdParty(registration{of: bob, about: bob, terminal: s.Addr(phone)}, here),
		"an order":            asserted("MESSAGE", bob, s.Addr(phone), here, "Content-Type: text/plain\r\n", "push tv"),
		"an order by a REFER": asserted("REFER", bob, s.Addr(phone), here, "Refer-To: <sip:tv@ims.example>\r\n", ""),
	} {
		before := s.metric(t, "scas_sip_untrusted_total")
		s.tells(t, tv, core, text, false) // nobody answers
		await(t, opening, name+" is noticed", func() bool { return s.metric(t, "scas_sip_untrusted_total") > before })
		if said := s.tells(t, tv, s.registrar(tv), text, true); said != "SIP/2.0 401 Unauthorized" {
			t.Errorf("%s, where terminals register: %q", name, said)
		}
	}
}

// alien sends by the core what concerns somebody else.
func (s *site) alien(t *testing.T) {
	t.Helper()
	if said := s.registered(t, registration{of: ann, about: bob, terminal: s.Addr(tv), expires: 600}); said != "SIP/2.0 200 OK" {
		t.Errorf("the core is told %q", said)
	}
	await(t, opening, "the body is noticed", func() bool { return s.metric(t, "scas_sip_body_other_user_total") == 1 })
	for _, x := range []struct{ user, to string }{
		{bob, "<" + ann + ">"}, {bob, "<sip:tv@evil.example>"}, {bob, "<http://evil.example/>"}, {bob, "<sip:bob@" + guestAddress + ":9>"},
		{ann, "<" + bob + ">"}, {ann, "<sip:phone@ims.example>"}, {"sip:eve@ims.example", "<sip:phone@ims.example>"},
	} {
		text := asserted("REFER", x.user, s.Addr(phone), s.Addr(lab.MS), "Refer-To: "+x.to+"\r\n", "")
		if said := s.tells(t, lab.MS, core, text, true); said != "SIP/2.0 403 Forbidden" {
			t.Errorf("%s refers to %s: %q", x.user, x.to, said)
		}
	}
}

// otherUser registers ann on the TV: she sees nothing of bob's and moves nothing.
func (s *site) otherUser(t *testing.T) {
	t.Helper()
	onTV := s.client(t, tv, ann, secret2)
	s.register(t, onTV, tv)
	onTV.order(t, sip.Order{Op: "list"})
	list := onTV.incoming(t, "the list", func(in sip.Incoming) bool { return in.Sessions != nil }).Sessions
	if len(list.Items) != 0 || len(list.Terminals) != 1 {
		t.Errorf("ann is shown %+v", list)
	}
	for _, o := range []sip.Order{{Op: "pull"}, {Op: "pull", Session: "1"}, {Op: "push", To: "phone"}, {Op: "cancel", Session: "1"}} {
		onTV.order(t, o)
		onTV.incoming(t, "that it may not "+o.Op, result("failed"))
	}
	if err := onTV.Close(); err != nil {
		t.Error(err)
	}
	await(t, soon, "the TV is not admitted any more", func() bool { return !s.admits(t, tv) && len(s.enrolled(t)) == s.opened(t) })
}
