package ims

import "net/netip"

// Plan says who has which IPv4 address. All but AS are addresses that the core takes in its
// namespace, on the interface there.
type Plan struct {
	Domain                      string // "ims.example": of users and service
	PCSCF, SCSCF, HSS, Presence netip.Addr
	AS                          netip.Addr // the application server, elsewhere; its PSI is sip:scas@Domain
}

// uri is the SIP URI of a node.
func (Plan) uri(a netip.Addr) string { return "sip:" + a.String() + ":5060" }

// Outbound is the S-CSCF's URI.
func (p Plan) Outbound() string { return p.uri(p.SCSCF) }

// PresenceURI is the presence server's URI.
func (p Plan) PresenceURI() string { return p.uri(p.Presence) }

// Proxy is the URI of the P-CSCF, the first hop of a terminal.
func (p Plan) Proxy() string { return p.uri(p.PCSCF) }

// own returns the addresses that belong to the core.
func (p Plan) own() []netip.Addr { return []netip.Addr{p.PCSCF, p.SCSCF, p.HSS, p.Presence} }
