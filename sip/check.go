package sip

import (
	"slices"
	"strconv"
	"strings"

	gosip "github.com/emiago/sipgo/sip"
)

// check finds what is wrong with a request that could be parsed; nil: nothing. The order is
// that of RFC 3261 §8.2 where the codes of RFC 4475 allow it (ims-sip 5.5).
func (s *stack) check(r *gosip.Request) *reply {
	for _, f := range []func(*gosip.Request) *reply{checkMandatory, checkURI, checkMethod, checkContent, checkContacts} {
		if a := f(r); a != nil {
			if a.code == 405 {
				a.headers = append(a.headers, s.allow())
			}
			return a
		}
	}
	if _, ok := s.handlers[string(r.Method)]; !ok {
		a := s.noHandler(string(r.Method))
		return &a
	}
	return nil
}

// knownMethods are the methods that have a meaning; others are answered with 501.
const knownMethods = " INVITE ACK BYE CANCEL REGISTER OPTIONS INFO PRACK UPDATE SUBSCRIBE NOTIFY REFER MESSAGE PUBLISH "

func known(method string) bool { return strings.Contains(knownMethods, " "+method+" ") }

// noHandler answers a method that is not served here.
func (s *stack) noHandler(method string) reply {
	if known(method) {
		return reply{code: 405, headers: []gosip.Header{s.allow()}}
	}
	return reply{code: 501, headers: []gosip.Header{s.allow()}}
}

// allow lists the methods that have a handler (RFC 3261 §20.5).
func (s *stack) allow() gosip.Header {
	var names []string
	for m := range s.handlers {
		names = append(names, m)
	}
	slices.Sort(names)
	return gosip.NewHeader("Allow", strings.Join(names, ", "))
}

// single are the headers that may stand in a message once.
func single() []string {
	return []string{"From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length", "Content-Type", "Expires", "Event"}
}

// checkMandatory looks at the headers every request has (RFC 3261 §8.1.1).
func checkMandatory(r *gosip.Request) *reply {
	if r.From() == nil || r.To() == nil || r.CallID() == nil || r.CSeq() == nil || r.Via() == nil {
		return &reply{code: 400, reason: "Missing or Malformed Header"}
	}
	for _, name := range single() {
		if len(headers(r, name)) > 1 {
			return &reply{code: 400, reason: "Repeated Header"}
		}
	}
	if !strings.EqualFold(r.SipVersion, "SIP/2.0") {
		return &reply{code: 505}
	}
	if m := string(r.CSeq().MethodName); m != string(r.Method) && known(string(r.Method)) {
		return &reply{code: 400, reason: "CSeq Method Mismatch"}
	}
	if text := headerText(r, "Max-Forwards"); text != "" {
		n, err := strconv.ParseUint(text, 10, 8)
		if err != nil {
			return &reply{code: 400, reason: "Bad Max-Forwards"}
		}
		if n == 0 && r.Method != gosip.REGISTER || n == 0 && r.Method == gosip.OPTIONS {
			return &reply{code: 483}
		}
	}
	if text := headerText(r, "Expires"); text != "" {
		if _, err := strconv.ParseUint(text, 10, 32); err != nil {
			return &reply{code: 400, reason: "Bad Expires"}
		}
	}
	return nil
}

// checkURI looks at the URIs that say for whom the request is.
func checkURI(r *gosip.Request) *reply {
	switch r.Recipient.Scheme {
	case "sip", "sips":
		if r.Recipient.Headers.Length() > 0 || unsafe(r.Recipient.String()) || r.Recipient.Host == "" {
			return &reply{code: 400, reason: "Bad Request-URI"}
		}
	case "tel":
	default:
		return &reply{code: 416}
	}
	for _, uri := range []gosip.Uri{r.From().Address, r.To().Address} {
		if unsafe(uri.String()) {
			return &reply{code: 400, reason: "Bad Address"}
		}
	}
	switch r.To().Address.Scheme {
	case "sip", "sips", "tel":
	default:
		if r.Method == gosip.REGISTER {
			return &reply{code: 400, reason: "Unusable Address of Record"}
		}
	}
	return nil
}

// checkMethod looks at what the request asks us to understand.
func checkMethod(r *gosip.Request) *reply {
	if !known(string(r.Method)) {
		return nil // 501 by the caller
	}
	var unsupported []string
	for _, h := range headers(r, "Require") {
		for _, tag := range splitOutside(h.Value(), ',') {
			if tag = strings.ToLower(tag); tag != "path" {
				unsupported = append(unsupported, tag)
			}
		}
	}
	if len(unsupported) > 0 && r.Method != gosip.CANCEL {
		return &reply{code: 420, headers: []gosip.Header{gosip.NewHeader("Unsupported", strings.Join(unsupported, ", "))}}
	}
	return nil
}

// checkContent refuses calls by what is wrong with their offer; the rest of INVITE is not
// served, and the bodies of other methods are their handlers' business.
func checkContent(r *gosip.Request) *reply {
	if r.Method != gosip.INVITE {
		return nil
	}
	if t := mediaType(headerText(r, "Content-Type")); len(r.Body()) > 0 && t != "application/sdp" && !strings.HasPrefix(t, "multipart/") {
		return &reply{code: 415, headers: []gosip.Header{gosip.NewHeader("Accept", "application/sdp")}}
	}
	if accept := headers(r, "Accept"); len(accept) > 0 {
		for _, h := range accept {
			if strings.Contains(strings.ToLower(h.Value()), "application/sdp") || strings.Contains(h.Value(), "*/*") {
				return nil
			}
		}
		return &reply{code: 406}
	}
	return nil
}

// maxContacts is how many Contacts one REGISTER may hold (ims-sip 1.3).
const maxContacts = 16

// checkContacts looks at the Contacts of a REGISTER (RFC 4475 §3.3.14: a question mark wants
// angle brackets).
func checkContacts(r *gosip.Request) *reply {
	if r.Method != gosip.REGISTER {
		return nil
	}
	n := 0
	for _, h := range headers(r, "Contact") {
		for _, c := range splitOutside(h.Value(), ',') {
			n++
			if c == "*" {
				continue
			}
			uri := addrSpec(c)
			if outsideQuotes(c, '<') < 0 {
				uri, _, _ = strings.Cut(c, ";")
				if strings.ContainsAny(uri, "?,") {
					return &reply{code: 400, reason: "Bad Contact"}
				}
			}
			if unsafe(uri) || len(uri) > maxURI || !strings.Contains(uri, ":") {
				return &reply{code: 400, reason: "Bad Contact"}
			}
		}
	}
	if n > maxContacts {
		return &reply{code: 400, reason: "Too Many Contacts"}
	}
	return nil
}

// mediaType is a Content-Type without its parameters, in lower case.
func mediaType(s string) string {
	t, _, _ := strings.Cut(s, ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// hears reports whether terminals may speak on a listener at all: on access listeners, and on
// core listeners when there are no others.
func (s *stack) hears(l *listener) bool {
	return s.cfg.Registrar && (!l.core || len(s.cfg.Access) == 0)
}

// who finds out who asks; a non-nil reply refuses or challenges.
func (s *stack) who(l *listener, r *request) *reply {
	if l.core && s.trust.believes(l.network, r.peer.Addr()) {
		r.trusted = true
		return s.assert(r)
	}
	if !s.hears(l) || s.auth == nil {
		s.count.add("untrusted")
		return &reply{code: 403}
	}
	for _, h := range r.Headers() {
		if strings.HasPrefix(strings.ToLower(h.Name()), "p-") {
			s.count.add("assertions_removed")
		}
	}
	for _, name := range []string{"P-Asserted-Identity", "P-Served-User", "P-Access-Network-Info", "P-Charging-Vector", "P-Associated-URI"} {
		for _, h := range r.GetHeaders(name) {
			r.RemoveHeader(h.Name())
		}
	}
	switch r.Method {
	case gosip.OPTIONS, gosip.CANCEL, gosip.BYE, gosip.NOTIFY:
		return nil // in a dialog, or harmless: their handlers decide
	}
	return s.auth(r)
}

// assert reads P-Asserted-Identity of a trusted peer: at most one sip and one tel value
// (RFC 3325 §9.1). Requests that act for a user need one.
func (s *stack) assert(r *request) *reply {
	schemes := map[string]identity{}
	for _, h := range r.GetHeaders("P-Asserted-Identity") {
		for _, v := range splitOutside(h.Value(), ',') {
			id, err := parseIdentity(v)
			scheme, _, _ := strings.Cut(strings.ToLower(addrSpec(v)), ":")
			scheme = strings.TrimSuffix(scheme, "s")
			if _, twice := schemes[scheme]; err != nil || twice {
				s.count.add("bad_assertions")
				return &reply{code: 403}
			}
			schemes[scheme] = id
		}
	}
	if id, ok := schemes["sip"]; ok {
		r.asserted = id
	} else if id, ok := schemes["tel"]; ok {
		r.asserted = id
	}
	switch r.Method {
	case gosip.MESSAGE, gosip.REFER, gosip.PUBLISH, gosip.SUBSCRIBE:
		if r.asserted == "" {
			s.count.add("bad_assertions")
			return &reply{code: 403}
		}
	}
	return nil
}
