package rtsp

import (
	"strconv"
	"strings"
)

// Transport is the Transport header: the alternatives of a request in order of preference, or
// the single choice of a reply (RFC 2326 §12.39, RFC 7826 §18.54).
type Transport []TransportSpec

// TransportSpec is one way of delivery.
type TransportSpec struct {
	// Profile is the transport as it was written: "RTP/AVP", "RTP/AVP/UDP", "RTP/AVP/TCP", ...
	Profile string
	// Unicast and Multicast tell which of the two words was there; neither means multicast by
	// RFC 2326 and unicast in the field.
	Unicast, Multicast bool
	// ClientPort and ServerPort are RTP and RTCP port. {0, 0}: absent; {n, 0}: one port only.
	// They are filled in from DestAddr and SrcAddr when those are what the header has.
	ClientPort, ServerPort [2]int
	// Port is the pair of ports of a multicast group.
	Port [2]int
	// Interleaved are the channels of RTP and RTCP when HasInterleaved; the second is -1 when
	// only one was given.
	Interleaved    [2]int
	HasInterleaved bool
	// SSRC is the synchronization source of the sender, nil when not announced. The first one
	// of a list.
	SSRC *uint32
	// Source and Destination are addresses as written, without brackets; "" when absent.
	Source, Destination string
	// Mode is the mode without quotes, in the case it came in; "" means play.
	Mode string
	// TTL of a multicast group, 0 when absent.
	TTL int
	// DestAddr and SrcAddr are the addresses of version 2.0, RTP first, each "host:port",
	// ":port" or "host".
	DestAddr, SrcAddr []string
	// Extra are parameters that this package does not know, as written.
	Extra []string
}

// TCP reports whether media travel inside the control connection.
func (s TransportSpec) TCP() bool {
	return s.HasInterleaved || strings.HasSuffix(strings.ToUpper(s.Profile), "/TCP")
}

// ParseTransport reads a Transport value. The error is a *HeaderError: no profile, or a port or
// channel that is none. An SSRC or TTL that is none counts as absent.
func ParseTransport(v string) (Transport, error) {
	var t Transport
	for _, text := range splitQuoted(v, ',') {
		if strings.TrimSpace(text) == "" {
			continue
		}
		spec, reason := parseSpec(text)
		if reason != "" {
			return nil, &HeaderError{Header: "Transport", Value: v, Reason: reason}
		}
		t = append(t, spec)
	}
	if len(t) == 0 {
		return nil, &HeaderError{Header: "Transport", Value: v, Reason: "empty"}
	}
	return t, nil
}

func parseSpec(text string) (s TransportSpec, reason string) {
	parts := splitQuoted(text, ';')
	s.Profile = strings.TrimSpace(parts[0])
	if s.Profile == "" || strings.ContainsAny(s.Profile, "= \t\"") {
		return s, "no profile"
	}
	for _, part := range parts[1:] {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		key, value, _ := strings.Cut(part, "=")
		if reason = s.param(strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value), part); reason != "" {
			return s, reason
		}
	}
	s.fromAddr()
	return s, ""
}

// param takes one parameter. The result is what is wrong with it, "" when nothing.
func (s *TransportSpec) param(key, value, raw string) (reason string) {
	ok := true
	switch key {
	case "unicast":
		s.Unicast = true
	case "multicast":
		s.Multicast = true
	case "client_port":
		s.ClientPort, ok = parsePair(value, 1<<16-1)
	case "server_port":
		s.ServerPort, ok = parsePair(value, 1<<16-1)
	case "port":
		s.Port, ok = parsePair(value, 1<<16-1)
	case "interleaved":
		ok = s.interleaved(value)
	case "ssrc":
		s.SSRC = parseSSRC(unquote(value))
	case "source":
		s.Source = trimBrackets(unquote(value))
	case "destination":
		s.Destination = trimBrackets(unquote(value))
	case "mode":
		s.Mode = unquote(value)
	case "ttl":
		s.TTL, _ = parseSmall(value, 255)
	case "dest_addr":
		s.DestAddr = parseAddrs(value)
	case "src_addr":
		s.SrcAddr = parseAddrs(value)
	default:
		s.Extra = append(s.Extra, raw)
	}
	if !ok {
		return "bad " + key
	}
	return ""
}

func (s *TransportSpec) interleaved(value string) (ok bool) {
	first, second, _ := strings.Cut(value, "-")
	s.Interleaved[1] = -1
	if s.Interleaved[0], ok = parseSmall(strings.TrimSpace(first), 255); !ok {
		return false
	}
	if second = strings.TrimSpace(second); second != "" {
		s.Interleaved[1], ok = parseSmall(second, 255)
	}
	s.HasInterleaved = ok
	return ok
}

// fromAddr fills the fields of 1.0 in from those of 2.0.
func (s *TransportSpec) fromAddr() {
	if len(s.DestAddr) > 0 && s.ClientPort == [2]int{} {
		var host string
		host, s.ClientPort = portsOf(s.DestAddr)
		if s.Destination == "" {
			s.Destination = host
		}
	}
	if len(s.SrcAddr) > 0 && s.ServerPort == [2]int{} {
		var host string
		host, s.ServerPort = portsOf(s.SrcAddr)
		if s.Source == "" {
			s.Source = host
		}
	}
}

// portsOf returns the host of the first address and the ports of the first two.
func portsOf(addrs []string) (host string, ports [2]int) {
	for i, a := range addrs[:min(len(addrs), 2)] {
		h, p := cutHostPort(a)
		if i == 0 {
			host = trimBrackets(h)
		}
		ports[i], _ = parseSmall(p, 1<<16-1)
	}
	return host, ports
}

// parsePair reads "a-b" or "a"; an empty value is an absent one.
func parsePair(v string, limit int) (p [2]int, ok bool) {
	if v == "" {
		return p, true
	}
	first, second, pair := strings.Cut(v, "-")
	if p[0], ok = parseSmall(strings.TrimSpace(first), limit); !ok {
		return [2]int{}, false
	}
	if second = strings.TrimSpace(second); pair && second != "" {
		if p[1], ok = parseSmall(second, limit); !ok {
			return [2]int{}, false
		}
	}
	return p, true
}

// parseSmall reads digits up to limit.
func parseSmall(v string, limit int) (int, bool) {
	if !isNumber(v) {
		return 0, false
	}
	if n, _ := strconv.Atoi(v); n <= limit {
		return n, true
	}
	return 0, false
}

// parseSSRC reads eight hexadecimal digits or fewer, the first number of a 2.0 list; nil when
// there are none.
func parseSSRC(v string) *uint32 {
	v, _, _ = strings.Cut(v, "/")
	v = strings.TrimSpace(v)
	if len(v) > 2 && v[0] == '0' && v[1]|0x20 == 'x' {
		v = v[2:]
	}
	n, err := strconv.ParseUint(v, 16, 32)
	if err != nil {
		return nil
	}
	ssrc := uint32(n)
	return &ssrc
}

// parseAddrs reads `":a"/":b"`.
func parseAddrs(v string) []string {
	var all []string
	for _, a := range splitQuoted(v, '/') {
		if a = unquote(strings.TrimSpace(a)); a != "" {
			all = append(all, a)
		}
	}
	return all
}

// String writes the header value; parameters stand in one fixed order.
func (t Transport) String() string {
	specs := make([]string, len(t))
	for i, s := range t {
		specs[i] = s.String()
	}
	return strings.Join(specs, ",")
}

// String writes one alternative. Version 2.0 addresses take the place of ports and addresses
// of version 1.0 when they are there.
func (s TransportSpec) String() string {
	var b strings.Builder
	b.WriteString(s.Profile)
	add := func(present bool, text string) {
		if present {
			b.WriteString(";" + text)
		}
	}
	add(s.Unicast, "unicast")
	add(s.Multicast, "multicast")
	old := func(addrs []string) bool { return len(addrs) == 0 }
	add(s.Destination != "" && old(s.DestAddr), "destination="+quoteOdd(s.Destination))
	add(s.Source != "" && old(s.SrcAddr), "source="+quoteOdd(s.Source))
	add(!old(s.DestAddr), "dest_addr="+quoteAddrs(s.DestAddr))
	add(!old(s.SrcAddr), "src_addr="+quoteAddrs(s.SrcAddr))
	add(s.Port != [2]int{}, "port="+pairString(s.Port, 0))
	add(s.ClientPort != [2]int{} && old(s.DestAddr), "client_port="+pairString(s.ClientPort, 0))
	add(s.ServerPort != [2]int{} && old(s.SrcAddr), "server_port="+pairString(s.ServerPort, 0))
	add(s.HasInterleaved, "interleaved="+pairString(s.Interleaved, -1))
	add(s.TTL != 0, "ttl="+strconv.Itoa(s.TTL))
	if s.SSRC != nil {
		b.WriteString(";ssrc=" + hex8(*s.SSRC))
	}
	add(s.Mode != "", `mode="`+s.Mode+`"`)
	for _, x := range s.Extra {
		b.WriteString(";" + x)
	}
	return b.String()
}

func pairString(p [2]int, none int) string {
	if p[1] == none {
		return strconv.Itoa(p[0])
	}
	return strconv.Itoa(p[0]) + "-" + strconv.Itoa(p[1])
}

func quoteAddrs(addrs []string) string { return `"` + strings.Join(addrs, `"/"`) + `"` }
