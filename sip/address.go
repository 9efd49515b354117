package sip

import (
	"net/netip"
	"strings"

	gosip "github.com/emiago/sipgo/sip"
)

// addressRules say which addresses can be a terminal's (ims-sip 1.4).
type addressRules struct {
	terminals []netip.Prefix
	never     []netip.Prefix
}

// newAddressRules: never a terminal are what the configuration says, our own listeners, and
// each peer that is trusted by its very address.
func newAddressRules(cfg Config) addressRules {
	r := addressRules{terminals: cfg.Terminals, never: append([]netip.Prefix(nil), cfg.Never...)}
	if t, err := parseTrusted(cfg.Trusted); err == nil {
		for _, p := range t {
			if p.prefix.IsSingleIP() {
				r.never = append(r.never, p.prefix)
			}
		}
	}
	for _, l := range append(append([]string(nil), cfg.Listen...), cfg.Access...) {
		if _, addr, err := splitListen(l); err == nil {
			if ap, err := netip.ParseAddrPort(addr); err == nil && !ap.Addr().IsLoopback() {
				r.never = append(r.never, netip.PrefixFrom(ap.Addr(), ap.Addr().BitLen()))
			}
		}
	}
	return r
}

// admits reports whether a may be a terminal's address. Loopback needs a prefix of loopback
// addresses in the configuration: a wide prefix does not admit it by accident.
func (r addressRules) admits(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	if a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return false
	}
	for _, p := range r.never {
		if p.Contains(a) {
			return false
		}
	}
	for _, p := range r.terminals {
		if p.Contains(a) && (!a.IsLoopback() || p.Addr().IsLoopback()) {
			return true
		}
	}
	return false
}

// ueAddress is the address of the terminal that sent an embedded REGISTER, by the order of
// ims-sip 1.4: received of the bottom Via, its sent-by, the Contact. differs tells that Via
// and Contact name different addresses: a NAT or relay between terminal and P-CSCF.
func (r addressRules) ueAddress(inner *gosip.Request, contact string) (ip netip.Addr, differs bool) {
	began, _ := bottomVia(inner)
	via := viaAddr(began)
	fromContact := netip.Addr{}
	if u, ok := parseURI(contact); ok {
		fromContact = u.addr()
	}
	if !via.IsValid() {
		via = fromContact
	}
	if !r.admits(via) {
		return netip.Addr{}, false
	}
	return via, fromContact.IsValid() && fromContact != via
}

// bottomVia is the Via of who began a request, and how many there are; nil and 0 for none.
func bottomVia(req *gosip.Request) (last *gosip.ViaHeader, n int) {
	for _, h := range req.GetHeaders("Via") {
		if v, ok := h.(*gosip.ViaHeader); ok {
			last = v
			n++
		}
	}
	return last, n
}

// viaAddr is received of a Via, else the sent-by host when that is an address (RFC 3261 §18.2.1).
// Invalid when it is a name: names are not looked up.
func viaAddr(v *gosip.ViaHeader) netip.Addr {
	if v == nil {
		return netip.Addr{}
	}
	if received, ok := v.Params.Get("received"); ok && received != "" {
		return literal(strings.TrimSpace(received))
	}
	return literal(v.Host)
}
