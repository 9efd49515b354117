package sip

import (
	"fmt"
	"net/netip"
	"strings"
)

// trust is a list of peers whose assertions are believed, each a prefix and the transport it
// holds for (empty: any). ims-sip 5.1.
type trust []trustedPeer

type trustedPeer struct {
	network string
	prefix  netip.Prefix
}

// parseTrusted reads "192.0.2.1/32", "192.0.2.1" and "tls://192.0.2.0/24".
func parseTrusted(list []string) (trust, error) {
	var out trust
	for _, s := range list {
		network, text, ok := strings.Cut(s, "://")
		if !ok {
			network, text = "", s
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a, aerr := netip.ParseAddr(text)
			if aerr != nil {
				return nil, fmt.Errorf("sip.trusted: %q: %w", s, err)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if network != "" && network != "udp" && network != "tcp" && network != "tls" {
			return nil, fmt.Errorf("sip.trusted: %q: unknown transport", s)
		}
		out = append(out, trustedPeer{network: network, prefix: p.Masked()})
	}
	return out, nil
}

// believes reports whether a peer that sent over network may assert identities.
func (t trust) believes(network string, peer netip.Addr) bool {
	peer = peer.Unmap()
	for _, p := range t {
		if (p.network == "" || p.network == network) && p.prefix.Contains(peer) {
			return true
		}
	}
	return false
}

// service tells which users the operator subscribed.
type service struct {
	all     bool
	domains map[string]bool
	users   map[identity]bool
}

func newService(list []string, users []Credential) (service, error) {
	s := service{domains: map[string]bool{}, users: map[identity]bool{}}
	for _, text := range list {
		if text == "*" {
			s.all = true
			continue
		}
		if domain, ok := strings.CutPrefix(strings.TrimPrefix(text, "sip:"), "*@"); ok {
			s.domains[strings.ToLower(domain)] = true
			continue
		}
		id, err := parseIdentity(text)
		if err != nil {
			return s, fmt.Errorf("subscribers: %q: %w", text, err)
		}
		s.users[id] = true
	}
	for _, u := range users {
		if id, err := parseIdentity(u.AoR); err == nil {
			s.users[id] = true
		}
	}
	return s, nil
}

// has reports whether one of the identities is a user of the service.
func (s service) has(ids ...identity) bool {
	for _, id := range ids {
		_, host, _ := strings.Cut(string(id), "@")
		if s.all || s.users[id] || s.domains[host] {
			return true
		}
	}
	return false
}
