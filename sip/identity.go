package sip

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// identity is a public identity in the one form in which two of them may be compared:
// lower-case scheme and host, no port 5060, no parameters, the user percent-decoded. A number
// is a tel: URI whether it came as tel: or as sip: with user=phone. The empty identity is
// nobody. RFC 3261 §19.1.4, RFC 3966 §5.
type identity string

// errIdentity: the text is no identity a user can have.
var errIdentity = errors.New("no usable public identity")

// maxURI is the longest URI that is taken out of a message.
const maxURI = 512

// parseIdentity returns the identity named by a URI or by a name-addr ("Alice" <sip:..>;tag=..).
func parseIdentity(text string) (identity, error) {
	uri := addrSpec(text)
	if len(uri) > maxURI || unsafe(uri) {
		return "", errIdentity
	}
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return "", errIdentity
	}
	switch strings.ToLower(scheme) {
	case "sip", "sips":
		return sipIdentity(rest)
	case "tel":
		number, _, _ := strings.Cut(rest, ";")
		return telIdentity(number)
	}
	return "", errIdentity
}

// sipIdentity normalises what follows "sip:".
func sipIdentity(rest string) (identity, error) {
	u := splitURI(rest)
	if u.user == "" || u.host == "" || strings.Contains(u.user, ":") {
		return "", errIdentity
	}
	user, err := url.PathUnescape(u.user)
	if err != nil || unsafe(user) {
		return "", errIdentity
	}
	if strings.EqualFold(param(u.params, "user"), "phone") && strings.HasPrefix(user, "+") {
		number, _, _ := strings.Cut(user, ";")
		return telIdentity(number)
	}
	host := u.host
	if u.port != "" && u.port != "5060" {
		host = net.JoinHostPort(strings.Trim(host, "[]"), u.port)
	}
	return identity("sip:" + user + "@" + host), nil
}

// telIdentity normalises a telephone number: visual separators go (RFC 3966 §5.1.1).
func telIdentity(number string) (identity, error) {
	number = strings.Map(func(r rune) rune {
		if strings.ContainsRune("-.()", r) {
			return -1
		}
		return r
	}, strings.ToLower(number))
	if strings.Trim(number, "+0123456789abcdef*#") != "" || len(number) < 2 {
		return "", errIdentity
	}
	return identity("tel:" + number), nil
}

// parts of a SIP URI, as they stand in the text but for the host, which is in lower case.
type uriParts struct {
	user, host, port, params, headers string
}

// splitURI splits what follows the scheme of a SIP URI. A semicolon may stand in the user
// part, so the last @ ends it (RFC 4475 §3.1.1.9).
func splitURI(rest string) uriParts {
	var u uriParts
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		u.user, rest = rest[:at], rest[at+1:]
	}
	rest, u.headers, _ = strings.Cut(rest, "?")
	rest, u.params, _ = strings.Cut(rest, ";")
	u.host, u.port = rest, ""
	if strings.HasPrefix(rest, "[") {
		if end := strings.IndexByte(rest, ']'); end > 0 {
			u.host, u.port = rest[:end+1], strings.TrimPrefix(rest[end+1:], ":")
		}
	} else if host, port, ok := strings.Cut(rest, ":"); ok {
		u.host, u.port = host, port
	}
	u.host = strings.TrimSuffix(strings.ToLower(u.host), ".")
	return u
}

// parseURI splits a SIP URI or name-addr; ok is false for other schemes.
func parseURI(text string) (u uriParts, ok bool) {
	scheme, rest, found := strings.Cut(addrSpec(text), ":")
	if !found || (!strings.EqualFold(scheme, "sip") && !strings.EqualFold(scheme, "sips")) {
		return u, false
	}
	u = splitURI(rest)
	return u, u.host != ""
}

// addr returns the host as an address; invalid when it is a name.
func (u uriParts) addr() netip.Addr { return literal(u.host) }

// literal returns an address written in a message, IPv6 with or without brackets.
func literal(host string) netip.Addr {
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil || a.Zone() != "" {
		return netip.Addr{}
	}
	return a.Unmap()
}

// addrSpec returns the URI of a name-addr, or the text itself without header parameters.
func addrSpec(text string) string {
	text = strings.TrimSpace(text)
	if open := outsideQuotes(text, '<'); open >= 0 {
		inside, _, ok := strings.Cut(text[open+1:], ">")
		if !ok {
			return ""
		}
		return strings.TrimSpace(inside)
	}
	if strings.LastIndexByte(text, '@') < 0 {
		return text
	}
	at := strings.LastIndexByte(text, '@')
	if semi := strings.IndexByte(text[at:], ';'); semi >= 0 && strings.Contains(text[at+semi:], "tag=") {
		return strings.TrimSpace(text[:at+semi])
	}
	return text
}

// param returns the value of a parameter in "a=b;c;d=e", unquoted, the name in any case.
func param(params, name string) string {
	v, _ := lookupParam(params, name)
	return v
}

// lookupParam is param, and tells whether the parameter is there at all.
func lookupParam(params, name string) (string, bool) {
	for _, p := range splitOutside(params, ';') {
		k, v, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(k), name) {
			return unquote(strings.TrimSpace(v)), true
		}
	}
	return "", false
}

// unquote takes the quotes off a quoted-string (RFC 3261 §25.1).
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// outsideQuotes returns the index of the first c outside quoted strings, or -1.
func outsideQuotes(s string, c byte) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == c && !quoted:
			return i
		}
	}
	return -1
}

// splitOutside splits s at sep where it stands outside quotes and angle brackets, and trims
// each piece. Empty pieces are left out.
func splitOutside(s string, sep byte) []string {
	var out []string
	quoted, depth, start := false, 0, 0
	add := func(piece string) {
		if piece = strings.TrimSpace(piece); piece != "" {
			out = append(out, piece)
		}
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '<':
			depth++
		case c == '>' && depth > 0:
			depth--
		case c == sep && depth == 0:
			add(s[start:i])
			start = i + 1
		}
	}
	add(s[start:])
	return out
}

// unsafe reports characters that no URI may hold: controls, NUL, blanks, brackets.
func unsafe(s string) bool {
	for _, r := range s {
		if r <= ' ' || r == 0x7f || r == '<' || r == '>' || r == '"' || r == 0xfffd {
			return true
		}
	}
	return s == ""
}

// sameURI compares two contact URIs as far as a registrar needs: scheme, user, host, port
// (RFC 3261 §19.1.4).
func sameURI(a, b string) bool { return contactKey(a) == contactKey(b) }

// contactKey is a contact URI without what does not tell contacts apart.
func contactKey(text string) string {
	scheme, _, _ := strings.Cut(addrSpec(text), ":")
	u, ok := parseURI(text)
	if !ok {
		return strings.ToLower(addrSpec(text))
	}
	port := u.port
	if port == "" {
		port = "5060"
	}
	user, err := url.PathUnescape(u.user)
	if err != nil {
		user = u.user
	}
	return strings.ToLower(scheme) + ":" + user + "@" + u.host + ":" + port
}
