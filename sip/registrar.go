package sip

import (
	"slices"
	"strings"
	"time"

	gosip "github.com/emiago/sipgo/sip"

	"scas/session"
)

// registrar is our own, for networks without IMS: terminals prove their user by digest with
// every request (RFC 3261 §10, RFC 8760).
type registrar struct {
	s      *stack
	reg    *registry
	digest *digestServer
}

func newRegistrar(s *stack, reg *registry) (*registrar, error) {
	d, err := newDigestServer(s.cfg.realm(), s.cfg.Users, s.now, s.count)
	if err != nil {
		return nil, err
	}
	for _, c := range d.users {
		for _, id := range c.ids {
			reg.users.users[id] = true
		}
	}
	return &registrar{s: s, reg: reg, digest: d}, nil
}

// authenticate lets a request through as the user its credentials prove, and only as that
// user: From, and To of a REGISTER, must name one of the credential's identities.
func (g *registrar) authenticate(r *request) *reply {
	c, refusal := g.digest.prove(r)
	if refusal != nil {
		return refusal
	}
	from, err := parseIdentity(headerText(r.Request, "From"))
	if err != nil || !slices.Contains(c.ids, from) {
		g.s.count.add("digest_other_user")
		return &reply{code: 403}
	}
	if r.Method == gosip.REGISTER {
		to, err := parseIdentity(toText(r.Request))
		if err != nil || !slices.Contains(c.ids, to) {
			g.s.count.add("digest_other_user")
			return &reply{code: 403}
		}
	}
	g.reg.known(c.ids)
	r.asserted = from
	return nil
}

// known makes a credential's identities one user without making an entry for it.
func (g *registry) known(ids []identity) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range ids {
		if _, ok := g.alias[id]; !ok {
			g.alias[id] = string(ids[0])
		}
	}
}

// register answers the REGISTER of a terminal that has proven its user.
func (g *registrar) register(r *request) reply {
	aor, _ := g.reg.userOf(r.asserted)
	to, _ := parseIdentity(toText(r.Request))
	if owner, ok := g.reg.userOf(to); !ok || owner != aor {
		return reply{code: 403}
	}
	contacts := contactsOf(r.Request)
	if len(contacts) > 0 && contacts[0].star {
		if d, said := expiresOf(r.Request); !said || d != 0 || len(headers(r.Request, "Contact")) > 1 {
			return reply{code: 400, reason: "Bad Contact"}
		}
		g.reg.remove(aor, func(b session.Binding) bool { return b.Source == session.FromRegistrar })
		return g.listed(r, aor)
	}
	for _, c := range contacts {
		if life := g.life(r, c); life > 0 && life < g.s.cfg.Limits.MinExpires {
			return reply{code: 423, headers: []gosip.Header{gosip.NewHeader("Min-Expires", deltaSeconds(g.s.cfg.Limits.MinExpires))}}
		}
	}
	for _, c := range contacts {
		if a := g.contact(r, aor, c); a != nil {
			return *a
		}
	}
	return g.listed(r, aor)
}

// life is the time a contact is granted.
func (g *registrar) life(r *request, c contact) time.Duration {
	life, said := c.expires, c.hasExpires
	if !said {
		life, _ = expiresOf(r.Request)
	}
	return min(life, g.s.cfg.Limits.Expires)
}

// contact adds, refreshes or removes one contact. Its address is that of the packet: whatever
// a terminal writes about itself opens nothing.
func (g *registrar) contact(r *request, aor string, c contact) *reply {
	key := bindingKey(aor, c.instance, c.regID, c.uri)
	callID, seq := r.CallID().Value(), r.CSeq().SeqNo
	for _, b := range g.reg.terminalsOf(aor) {
		if b.Key == key && b.CallID == callID && seq <= b.CSeq {
			return &reply{code: 500, reason: "Late Request"} // RFC 3261 §10.3 step 7
		}
	}
	life := g.life(r, c)
	if life == 0 {
		g.reg.remove(aor, func(b session.Binding) bool { return b.Key == key })
		return nil
	}
	b := session.Binding{
		Key: key, AoR: aor, Contact: c.uri, Source: session.FromRegistrar, Capabilities: c.features,
		Path:    []string{flow(r.peer, r.transport, r.listener)},
		Expires: session.Ptr(g.s.now().Add(life)), CallID: callID, CSeq: seq, Confirmed: true,
	}
	if g.reg.rules.admits(r.peer.Addr()) {
		b.IP = r.peer.Addr()
	} else {
		g.s.count.add("address_unknown")
	}
	if c.instance != "" {
		b.Instance = session.Ptr(c.instance)
	}
	if ua := headerText(r.Request, "User-Agent"); ua != "" {
		b.UserAgent = session.Ptr(shorten(ua, 128))
	}
	if !g.reg.put(b) {
		return &reply{code: 403, reason: "Too Many Contacts"}
	}
	g.s.count.add("register_own")
	return nil
}

// listed is the 200 that lists the user's contacts (RFC 3261 §10.3 step 8).
func (g *registrar) listed(r *request, aor string) reply {
	a := reply{code: 200}
	now := g.s.now()
	for _, b := range g.reg.terminalsOf(aor) {
		if b.Source != session.FromRegistrar || b.Expires == nil {
			continue
		}
		text := "<" + b.Contact + ">;expires=" + deltaSeconds(b.Expires.Sub(now).Round(time.Second))
		if b.Instance != nil {
			text += `;+sip.instance="<` + strings.Trim(*b.Instance, "<>") + `>"`
		}
		a.headers = append(a.headers, gosip.NewHeader("Contact", text))
	}
	for _, v := range pathOf(r.Request) {
		a.headers = append(a.headers, gosip.NewHeader("Path", v))
	}
	a.headers = append(a.headers, gosip.NewHeader("Date", now.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")))
	return a
}
