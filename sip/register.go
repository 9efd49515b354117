package sip

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	gosip "github.com/emiago/sipgo/sip"

	"scas/session"
)

// register answers REGISTER: of the core about a user (TS 24.229 5.4.1.7), or of a terminal
// with our own registrar. The core is answered before anything is done: an error or a delay
// could throw the user out of the network.
func (s *Server) register(_ context.Context, r *request) reply {
	if !r.trusted {
		if s.registrar == nil {
			return reply{code: 403}
		}
		return s.registrar.register(r)
	}
	id, err := parseIdentity(toText(r.Request))
	expires, said := expiresOf(r.Request)
	code := 200
	if err != nil || !s.registry.users.has(append(associated(r.Request), id)...) {
		s.count.add("register_other_user")
		if s.cfg.UnknownUsers == "404" {
			code = 404
		}
		return s.registerReply(r, code, expires, said, func() { release(r.Request) })
	}
	s.count.add("register_third_party")
	return s.registerReply(r, code, expires, said, func() {
		s.thirdParty(r, id, expires, said)
		release(r.Request)
	})
}

// release lets go of what a handled request holds: sipgo keeps it for 32 s, to answer
// repetitions, for which it needs no more than the answer.
func release(r *gosip.Request) { r.MessageData = gosip.MessageData{} }

// registerReply is the answer to a third-party REGISTER (ims-sip 1.6).
func (s *Server) registerReply(r *request, code int, expires time.Duration, said bool, after func()) reply {
	a := reply{code: code, after: after}
	if code != 200 {
		return a
	}
	secs := strconv.Itoa(int(expires / time.Second))
	for _, h := range headers(r, "Contact") {
		text := h.Value()
		if said {
			text += ";expires=" + secs
		}
		a.headers = append(a.headers, gosip.NewHeader("Contact", text))
	}
	if said {
		a.headers = append(a.headers, gosip.NewHeader("Expires", secs))
	}
	return a
}

// toText is the To header as text.
func toText(r *gosip.Request) string { return headerText(r, "To") }

// expiresOf reads Expires; said is false without one. The default is an hour (RFC 3261 §10.2.1.1).
func expiresOf(r *gosip.Request) (d time.Duration, said bool) {
	text := headerText(r, "Expires")
	if text == "" {
		return time.Hour, false
	}
	return seconds(text), true
}

// associated are the identities of P-Associated-URI, also in the malformed form that puts
// several into one pair of brackets (ims-sip 1.5).
func associated(r *gosip.Request) []identity {
	var out []identity
	for _, h := range r.GetHeaders("P-Associated-URI") {
		text := strings.NewReplacer("<", ",", ">", ",").Replace(h.Value())
		for _, piece := range splitOutside(text, ',') {
			if strings.HasPrefix(piece, ";") || strings.HasPrefix(piece, `"`) || !strings.Contains(piece, ":") {
				continue
			}
			if id, err := parseIdentity(piece); err == nil && len(out) < maxIdentities {
				out = append(out, id)
			}
		}
	}
	return out
}

// thirdParty does what a third-party REGISTER says (ims-sip 1.5).
func (s *Server) thirdParty(r *request, id identity, expires time.Duration, said bool) {
	set := append([]identity{id}, associated(r.Request)...)
	aor := s.registry.link(set)
	if aor == "" {
		return
	}
	e, err := parseBody(headerText(r, "Content-Type"), r.Body())
	if err != nil {
		s.count.add("body_unusable")
	}
	if e.info != "" {
		s.count.add("service_info")
	}
	inner := e.request
	if inner != nil && !s.sameUser(inner, aor) {
		s.count.add("body_other_user")
		s.log.Warn("body of a REGISTER is about another user, ignored", "peer", r.peer.Addr())
		s.log.Debug("that REGISTER", "aor", aor)
		inner = nil
	}
	if s.repeatedEnd(r, inner, expires) {
		return
	}
	now := s.now()
	if expires > 0 {
		s.registry.registered(aor, now.Add(expires+s.registry.grace()), coreTarget(r))
	}
	if inner == nil {
		s.withoutBody(aor, expires)
		return
	}
	s.withBody(aor, r, inner, expires, said)
}

// sameUser reports whether To and From of an embedded REGISTER are the user's.
func (s *Server) sameUser(inner *gosip.Request, aor string) bool {
	for _, text := range []string{toText(inner), headerText(inner, "From")} {
		id, err := parseIdentity(text)
		if err != nil {
			return false
		}
		if owner, ok := s.registry.userOf(id); !ok || owner != aor {
			return false
		}
	}
	return true
}

// withoutBody: the message says only that the user registered, or is gone.
func (s *Server) withoutBody(aor string, expires time.Duration) {
	if expires > 0 {
		s.count.add("register_without_contact")
		if s.registry.confirm != nil {
			s.registry.confirm(aor, 0)
		}
		return
	}
	s.registry.registered(aor, s.now(), target{})
	if s.registry.works != nil && s.registry.works(aor) {
		s.registry.endUnless(aor, goneWait)
		s.registry.confirm(aor, 0)
		return
	}
	s.registry.remove(aor, func(session.Binding) bool { return true })
}

// withBody: the embedded REGISTER says which terminals.
func (s *Server) withBody(aor string, r *request, inner *gosip.Request, expires time.Duration, said bool) {
	contacts := contactsOf(inner)
	switch {
	case len(contacts) == 0:
		s.withoutBody(aor, expires)
		return
	case contacts[0].star:
		s.registry.registered(aor, s.now(), target{})
		s.registry.remove(aor, func(session.Binding) bool { return true })
		return
	}
	removed := false
	for _, c := range contacts {
		life := c.life(inner)
		if expires == 0 || life == 0 {
			s.removeContact(aor, inner, c)
			removed = true
			continue
		}
		if said {
			life = min(life, expires)
		}
		s.addContact(aor, r, inner, c, life)
	}
	if removed && expires == 0 && len(s.registry.terminalsOf(aor)) == 0 {
		s.registry.registered(aor, s.now(), target{})
		s.registry.remove(aor, func(session.Binding) bool { return false }) // forgets the user when nothing is left
	}
	if removed && s.registry.works != nil && s.registry.works(aor) {
		s.registry.confirm(aor, time.Second) // the registrar settles what is left
	}
}

// addContact adds or refreshes one terminal.
func (s *Server) addContact(aor string, r *request, inner *gosip.Request, c contact, life time.Duration) {
	ip, differs := s.registry.rules.ueAddress(inner, c.uri)
	if !ip.IsValid() {
		s.count.add("address_unknown")
	}
	b := session.Binding{
		Key: bindingKey(aor, c.instance, c.regID, c.uri), AoR: aor, IP: ip, Contact: c.uri,
		Path: pathOf(r.Request), Source: session.FromRegister, Capabilities: c.features,
		Expires: session.Ptr(s.now().Add(life + s.registry.grace())),
		CallID:  inner.CallID().Value(), CSeq: inner.CSeq().SeqNo,
	}
	if c.instance != "" {
		b.Instance = session.Ptr(c.instance)
	}
	if ua := headerText(inner, "User-Agent"); ua != "" {
		b.UserAgent = session.Ptr(shorten(ua, 128))
	}
	if s.registry.put(b) && differs {
		s.log.Debug("address of a terminal differs between Via and Contact: NAT or relay", "aor", aor)
	}
}

// removeContact removes one terminal: by device, else by contact.
func (s *Server) removeContact(aor string, inner *gosip.Request, c contact) {
	key := bindingKey(aor, c.instance, c.regID, c.uri)
	callID, seq := inner.CallID().Value(), inner.CSeq().SeqNo
	s.registry.remove(aor, func(b session.Binding) bool {
		if b.CallID == callID && seq < b.CSeq {
			s.count.add("bindings_stale")
			return false
		}
		return b.Key == key || b.Contact != "" && sameURI(b.Contact, c.uri) && (c.instance == "" || b.Instance == nil)
	})
}

// contact is one Contact of a REGISTER.
type contact struct {
	star            bool
	uri             string
	instance, regID string
	expires         time.Duration
	hasExpires      bool
	features        []string
}

// contactsOf reads the Contacts of a REGISTER, at most maxContacts; those without a usable URI
// are left out.
func contactsOf(r *gosip.Request) []contact {
	var out []contact
	for _, h := range headers(r, "Contact") {
		for _, text := range splitOutside(h.Value(), ',') {
			if len(out) == maxContacts {
				return out
			}
			if text == "*" {
				return []contact{{star: true}}
			}
			if c, ok := parseContact(text); ok {
				out = append(out, c)
			}
		}
	}
	return out
}

func parseContact(text string) (contact, bool) {
	c := contact{uri: addrSpec(text)}
	var params string
	if end := strings.LastIndexByte(text, '>'); outsideQuotes(text, '<') >= 0 {
		open := outsideQuotes(text, '<')
		if closed := strings.IndexByte(text[open:], '>'); closed >= 0 {
			end = open + closed
		}
		params = text[end+1:]
	} else { // without brackets all parameters are the header's (RFC 3261 §20.10)
		c.uri, params, _ = strings.Cut(text, ";")
	}
	c.uri = strings.TrimSpace(c.uri)
	if len(c.uri) > maxURI || unsafe(c.uri) || !strings.Contains(c.uri, ":") {
		return c, false
	}
	for _, p := range splitOutside(params, ';') {
		name, value, _ := strings.Cut(p, "=")
		value = unquote(strings.TrimSpace(value))
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "+sip.instance":
			c.instance = shorten(bareInstance(value), maxURI)
		case "reg-id":
			c.regID = shorten(value, 16)
		case "expires":
			c.expires, c.hasExpires = seconds(value), true
		case "q":
		default:
			if len(c.features) < 32 && len(p) < 256 {
				c.features = append(c.features, p)
			}
		}
	}
	return c, true
}

// life is what the terminal asks for: parameter before header (RFC 3261 §10.2.1.1).
func (c contact) life(r *gosip.Request) time.Duration {
	if c.hasExpires {
		return c.expires
	}
	d, said := expiresOf(r)
	if !said {
		return 365 * 24 * time.Hour // not said: the outer one decides
	}
	return d
}

// pathOf reads Path: one header a line, several values in each (RFC 3327).
func pathOf(r *gosip.Request) []string {
	var out []string
	for _, h := range r.GetHeaders("Path") {
		for _, v := range splitOutside(h.Value(), ',') {
			if len(v) <= maxURI && len(out) < 16 {
				out = append(out, v)
			}
		}
	}
	return out
}

// coreTarget is where the S-CSCF that sent a REGISTER can be asked: the route is its From, the
// address that of the packet with the port the From names.
func coreTarget(r *request) target {
	uri := addrSpec(headerText(r, "From"))
	u, ok := parseURI(uri)
	if !ok {
		return target{}
	}
	port, err := strconv.ParseUint(u.port, 10, 16)
	if err != nil || port == 0 {
		port = 5060
		if r.transport == "tls" {
			port = 5061
		}
	}
	hop := "sip:" + net.JoinHostPort(strings.Trim(u.host, "[]"), strconv.Itoa(int(port)))
	return target{
		URI: uri, Route: []string{"<" + looseRoute(hop) + ">"}, Transport: r.transport,
		Address: netip.AddrPortFrom(r.peer.Addr(), uint16(port)),
	}
}

func shorten(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// options answers OPTIONS (RFC 3261 §11.2).
func (s *Server) options(context.Context, *request) reply {
	return reply{code: 200, headers: []gosip.Header{
		s.stack.allow(), gosip.NewHeader("Accept", "text/plain, application/vnd.scas.move+json"),
		s.notifies.events(),
	}}
}
