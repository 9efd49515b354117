package sip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// target is where a request goes: a Request-URI, the route to it, the transport of the first
// hop. Listener, when set, is the listener whose socket must be used: that of the connection
// a terminal behind NAT opened. Address, when valid, is the first hop itself.
type target struct {
	URI       string
	Route     []string
	Transport string // udp, tcp, tls; empty: what the first hop says, else udp
	Listener  string
	Address   netip.AddrPort
}

// errNoListener: no listener speaks the transport that the target needs.
var errNoListener = errors.New("no listener for this transport")

// sendTime bounds a request of ours: 64*T1 (RFC 3261 §17.1.2.2).
const sendTime = 32 * time.Second

// raiseMTU sets what sipgo has for the whole process, once: its bound of 1300 bytes for UDP,
// which knows no other transport to turn to (send has its own), and the logger for what it
// says outside of any user agent.
func raiseMTU() {
	raiseOnce.Do(func() {
		gosip.UDPMTUSize = 65535 + 200
		gosip.SetDefaultLogger(slog.New(slog.DiscardHandler))
	})
}

var raiseOnce sync.Once //nolint:gochecknoglobals // guards sipgo's globals

// newRequest returns a request of the service: From our URI with a new tag, To the target,
// Route from the target or else the configured first hop, P-Asserted-Identity when the core
// is asked. The caller adds what is special and sends it once.
func (s *stack) newRequest(method string, to target) *gosip.Request {
	var uri gosip.Uri
	if err := gosip.ParseUri(addrSpec(to.URI), &uri); err != nil {
		uri = gosip.Uri{Scheme: "sip", Host: "invalid.invalid"}
	}
	req := gosip.NewRequest(gosip.RequestMethod(method), uri)
	route := to.Route
	if len(route) == 0 && s.cfg.Outbound != "" && !to.Address.IsValid() {
		route = []string{"<" + looseRoute(s.cfg.Outbound) + ">"}
	}
	for _, hop := range route {
		var h gosip.RouteHeader
		if err := gosip.ParseUri(addrSpec(hop), &h.Address); err == nil {
			req.AppendHeader(&h)
		}
	}
	tag := newToken(8)
	req.AppendHeader(gosip.NewHeader("From", "<"+s.cfg.URI+">;tag="+tag))
	req.AppendHeader(gosip.NewHeader("To", "<"+toURI(to.URI)+">"))
	callID := gosip.CallIDHeader(newToken(12) + "@" + s.cfg.realm())
	req.AppendHeader(&callID)
	req.AppendHeader(&gosip.CSeqHeader{SeqNo: 1, MethodName: gosip.RequestMethod(method)})
	maxForwards := gosip.MaxForwardsHeader(70)
	req.AppendHeader(&maxForwards)
	if len(s.cfg.Trusted) > 0 {
		req.AppendHeader(gosip.NewHeader("P-Asserted-Identity", "<"+s.cfg.URI+">"))
	}
	if to.Address.IsValid() {
		req.SetDestination(to.Address.String())
	}
	if to.Transport != "" {
		req.SetTransport(strings.ToUpper(to.Transport))
	}
	return req
}

// toURI is the URI for a To header: without the parameters that only routing needs.
func toURI(uri string) string {
	uri = addrSpec(uri)
	u, ok := parseURI(uri)
	if _, gr := lookupParam(u.params, "gr"); ok && u.user != "" && !gr {
		head, _, _ := strings.Cut(uri[strings.LastIndexByte(uri, '@'):], ";")
		return uri[:strings.LastIndexByte(uri, '@')] + head
	}
	return uri
}

// looseRoute adds ;lr to a configured first hop.
func looseRoute(uri string) string {
	uri = addrSpec(uri)
	if u, ok := parseURI(uri); ok {
		if _, lr := lookupParam(u.params, "lr"); !lr {
			return uri + ";lr"
		}
	}
	return uri
}

// contact is our own Contact on the listener that requests over this transport leave by.
func (s *stack) contact(transport string) gosip.Header {
	l := s.pick(transport, "", "")
	if l == nil {
		return gosip.NewHeader("Contact", "<"+s.cfg.URI+">")
	}
	return gosip.NewHeader("Contact", "<"+l.contact(s.cfg.URI)+">")
}

// send sends req and returns the final response. Via is added; a request too long for UDP
// goes by TCP, and by UDP after all when nobody listens there (RFC 3261 §18.1.1). Safe for
// concurrent use; req must not be used for another send.
func (s *stack) send(ctx context.Context, req *gosip.Request) (*gosip.Response, error) {
	return s.sendFrom(ctx, req, "")
}

// sendFrom is send by a named listener; empty: whichever fits.
func (s *stack) sendFrom(ctx context.Context, req *gosip.Request, name string) (*gosip.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	if req.Body() == nil {
		req.SetBody(nil)
	}
	network := strings.ToLower(req.Transport())
	if network == "udp" && name == "" && s.tooLong(req) {
		if l := s.pick("tcp", "", ""); l != nil {
			big := req.Clone()
			big.SetTransport("TCP")
			if req.MessageData.Destination() == "" {
				big.SetDestination("")
			}
			res, err := s.exchange(ctx, l, big)
			if err == nil || ctx.Err() != nil {
				return res, err
			}
			s.count.add("tcp_refused")
		}
	}
	l := s.pick(network, name, firstHop(req))
	if l == nil {
		return nil, fmt.Errorf("%s: %w", network, errNoListener)
	}
	req.SetTransport(strings.ToUpper(network))
	return s.exchange(ctx, l, req)
}

// exchange does one client transaction.
func (s *stack) exchange(ctx context.Context, l *listener, req *gosip.Request) (*gosip.Response, error) {
	s.count.add("sent_" + methodName(string(req.Method)))
	res, err := l.do(ctx, req)
	if err != nil {
		s.count.add("sent_failed")
		return nil, fmt.Errorf("%s over %s: %w", req.Method, l.network, err)
	}
	return res, nil
}

// tooLong reports a request that UDP should not carry: sipgo's own Via comes on top.
func (s *stack) tooLong(req *gosip.Request) bool {
	const via = 120
	limit := s.cfg.Limits.AccessUDP
	if s.toCore(req) {
		limit = s.cfg.Limits.Datagrams
	}
	return len(req.String())+via > limit
}

// toCore reports that the first hop is the configured one or a trusted address.
func (s *stack) toCore(req *gosip.Request) bool {
	hop := firstHop(req)
	if u, ok := parseURI(s.cfg.Outbound); ok && strings.HasPrefix(hop, u.host+":") {
		return true
	}
	host, _, err := net.SplitHostPort(hop)
	return err == nil && s.trust.believes(strings.ToLower(req.Transport()), literal(host))
}

// firstHop is host:port of where a request goes first.
func firstHop(req *gosip.Request) string { return strings.ToLower(req.Destination()) }

// pick chooses the listener a request leaves by: the named one, else the first of that
// transport in the address family of the hop, core listeners before access listeners.
func (s *stack) pick(network, name, hop string) *listener {
	if network == "" {
		network = "udp"
	}
	var second *listener
	host, _, _ := net.SplitHostPort(hop)
	dst := literal(host)
	for _, l := range s.listeners {
		if name != "" && l.name == name {
			return l
		}
		if name != "" || l.network != network {
			continue
		}
		if !dst.IsValid() || dst.Is4() == l.local.Addr().Is4() {
			return l
		}
		if second == nil {
			second = l
		}
	}
	return second
}
