package rtsp

import (
	"net/netip"
	"strconv"
	"strings"
)

// parts are the pieces of an absolute URL, cut but not decoded.
type parts struct {
	scheme, userinfo, host, port, path string
	hasUserinfo                        bool
}

// cutURL cuts an absolute URL. It is false for a relative one.
func cutURL(url string) (p parts, ok bool) {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok || scheme == "" || strings.ContainsAny(scheme, "/?;=") {
		return parts{}, false
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	p = parts{scheme: strings.ToLower(scheme), path: rest[end:]}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		p.hasUserinfo, p.userinfo, authority = true, authority[:at], authority[at+1:]
	}
	p.host, p.port = cutHostPort(strings.ToLower(authority))
	if p.port == "" {
		p.port = "554"
		if p.scheme == "rtsps" {
			p.port = "322"
		}
	}
	return p, true
}

// StripUserinfo returns the URL without user name and password.
func StripUserinfo(url string) string {
	p, ok := cutURL(url)
	if !ok || !p.hasUserinfo {
		return url
	}
	start := strings.Index(url, "://") + 3
	return url[:start] + url[start+len(p.userinfo)+1:]
}

// SameURL reports whether two URLs name the same resource: scheme and host in any case, the
// default port filled in, user info and slashes at the end left out, escaped by some players and
// not by others. Relative ones compare as text.
func SameURL(a, b string) bool { return SameURLAt(a, b, netip.Addr{}) }

// SameURLAt is SameURL for two URLs of one server, whose host may be written as its address: a
// bookmark may have that where the other has the name.
func SameURLAt(a, b string, server netip.Addr) bool {
	pa, aok := cutURL(a)
	pb, bok := cutURL(b)
	if !aok || !bok {
		return aok == bok && strings.TrimRight(a, "/") == strings.TrimRight(b, "/")
	}
	return pa.scheme == pb.scheme && pa.port == pb.port && (pa.host == pb.host || pa.isAt(server) || pb.isAt(server)) &&
		strings.TrimRight(unescape(pa.path), "/") == strings.TrimRight(unescape(pb.path), "/")
}

// isAt reports whether the host is written as that address.
func (p parts) isAt(server netip.Addr) bool {
	a, err := netip.ParseAddr(strings.Trim(p.host, "[]"))
	return err == nil && server.IsValid() && a.WithZone("") == server
}

// unescape decodes what is escaped, but for what has a meaning of its own where it is not.
func unescape(path string) string {
	if !strings.Contains(path, "%") {
		return path
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			n, err := strconv.ParseUint(path[i+1:i+3], 16, 8)
			if err == nil && strings.IndexByte("%/?#&=;", byte(n)) < 0 {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
			if err == nil {
				b.WriteString(strings.ToUpper(path[i : i+3]))
				i += 2
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

// ResolveControl returns the URL of an SDP control under a base: an absolute control as it is,
// the base for "*" and "", else both joined by exactly one slash, as every player does it
// (RFC 2326 C.1.1 says otherwise for a base without one at its end).
func ResolveControl(base, control string) string {
	if _, absolute := cutURL(control); absolute {
		return control
	}
	if control == "" || control == "*" {
		return base
	}
	return strings.TrimSuffix(base, "/") + "/" + strings.TrimPrefix(control, "/")
}

// MatchControl reports whether url, from a SETUP or an RTP-Info entry, names the stream with
// this control under base. Servers and players write base with another port or host name, so
// the end of the URL decides when the whole does not.
func MatchControl(url, base, control string) bool {
	if control == "" || control == "*" {
		return SameURL(url, base)
	}
	if SameURL(url, ResolveControl(base, control)) || url == control {
		return true
	}
	tail := control
	if p, absolute := cutURL(control); absolute {
		tail = p.path
	}
	if p, absolute := cutURL(url); absolute {
		url = p.path
	}
	tail = "/" + strings.Trim(tail, "/")
	return tail != "/" && strings.HasSuffix("/"+strings.Trim(url, "/"), tail)
}

// BaseURL returns the URL that the controls of a DESCRIBE reply are relative to: Content-Base or
// Content-Location when it is absolute, else the URL asked for (RFC 2326 C.1.1).
func BaseURL(reply *Message, requested string) string {
	for _, name := range []string{"Content-Base", "Content-Location"} {
		v := reply.Get(name)
		if _, absolute := cutURL(v); absolute {
			return v
		}
	}
	return requested
}
