package sip

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Config is what an operator says about the application server. The zero value listens
// nowhere; start from DefaultConfig.
type Config struct {
	// Listen are the sockets for the core network, "udp://192.0.2.9:5060", also tcp and tls,
	// on concrete addresses: an answer must leave from the address that was asked. Only a peer
	// in Trusted is heard here; with Registrar and without Access, terminals too, by digest.
	Listen []string
	// Access are sockets for terminals: nobody is trusted there, everybody needs digest.
	Access []string
	// Advertise replaces the host of Listen and Access in Via and Contact, when peers know
	// this machine by another address. Empty: as listened.
	Advertise string
	// URI is the service's own address, with a user part: "sip:scas@ims.example". Required.
	URI string
	// Trusted are the peers whose assertions are believed: prefixes, each optionally bound to
	// a transport, "192.0.2.1/32", "tls://192.0.2.0/24". DESIGN §4, TS 33.210.
	Trusted []string
	// Outbound is the first hop of requests to the core: "sip:scscf.ims.example". Empty: the
	// Request-URI decides.
	Outbound string
	// Presence is the presence server that is subscribed to. Empty: none.
	Presence string
	// Terminals is where the address of a terminal must lie. Naming a loopback prefix admits
	// it. Empty: no terminal's address is believed.
	Terminals []netip.Prefix
	// Never are addresses that are no terminal whatever a message says: the core, the gateways.
	Never []netip.Prefix
	// Registrar makes the server a registrar of its own for terminals without IMS.
	Registrar bool
	// Users may register with our own registrar.
	Users []Credential
	// Subscribers are the users of the service, by any of their identities; "*" is everybody
	// and "*@domain" everybody there. A user outside opens nothing.
	Subscribers []string
	// Static are terminals known without SIP.
	Static []StaticTerminal
	// RegEvent subscribes to the registration state of each registered user (RFC 3680).
	RegEvent bool
	// Refuse says how an untrusted peer is refused: "silent" or "403".
	Refuse string
	// UnknownUsers says what a third-party REGISTER of a user outside the service gets: "200"
	// or "404".
	UnknownUsers string
	// CoreHop makes the whole Path the route of a terminal (true), or its last hop only.
	CoreHop bool
	TLS     TLS
	Limits  Limits
}

// TLS are files for tls:// listeners.
type TLS struct {
	Certificate, Key string
	// ClientCA, when set, is what a peer's certificate must lead to; a peer without one is
	// not heard on the core listeners.
	ClientCA string
	// ServerCA is what the certificate of a peer we call must lead to; empty: the system's.
	ServerCA string
}

// Credential is one user of our own registrar.
type Credential struct {
	AoR        string   // public identity, "sip:bob@hotel.example"
	Identities []string // further ones of the same user
	User       string   // name in the digest; empty: the user part of AoR
	Password   string   // kept in memory as HA1 only
	// HA1 instead of the password: hex of H(user:realm:password), per algorithm.
	MD5, SHA256 string
}

// StaticTerminal is one terminal that the configuration names.
type StaticTerminal struct {
	AoR, Name string
	IP        netip.Addr
}

// Limits bound what peers can make the server hold (ims-sip 5.4).
type Limits struct {
	Requests      int           // in work at once; default 2000
	Datagram      int           // bytes; default 32 KiB
	Header        int           // bytes of one header line; default 1 KiB
	Head          int           // bytes of all headers of one message over TCP; default 16 KiB
	Connections   int           // TCP and TLS, per listener, of which one source that is not trusted gets 1/16; default 512
	Peers         int           // UDP source addresses remembered at once; default 16384
	Idle          time.Duration // of a connection; default 120 s
	Message       time.Duration // from first to last byte of a message; default 10 s
	SourceRate    float64       // requests a second of one address on access listeners; default 20
	SourceBurst   int           // default 40
	Messages      int           // orders of one user in 10 s, and twice as many questions besides; default 5
	Bindings      int           // of one user; default 10
	AoRs          int           // default 200 000
	SubscribeRate float64       // new SUBSCRIBEs a second to the core; default 50
	Expires       time.Duration // longest registration our registrar grants; default 1 h
	MinExpires    time.Duration // shortest; default 60 s
	Datagrams     int           // bytes of a request to the core over UDP; beyond: TCP. Default 8000
	AccessUDP     int           // the same to terminals; default 1300 (RFC 3261 §18.1.1)
	Grace         time.Duration // added to the life of a registration that the core says; default 30 s
}

// DefaultConfig returns the defaults of every optional field.
func DefaultConfig() Config {
	return Config{
		RegEvent: true, Refuse: "silent", UnknownUsers: "200", CoreHop: true,
		Limits: Limits{
			Requests: 2000, Datagram: 32 << 10, Header: 1 << 10, Head: 16 << 10,
			Connections: 512, Peers: 16384, Idle: 120 * time.Second, Message: 10 * time.Second,
			SourceRate: 20, SourceBurst: 40, Messages: messagesBurst, Bindings: 10, AoRs: 200_000, SubscribeRate: 50,
			Expires: time.Hour, MinExpires: time.Minute, Datagrams: 8000, AccessUDP: 1300, Grace: 30 * time.Second,
		},
	}
}

// Validate reports the first thing an operator must change.
func (c Config) Validate() error {
	if len(c.Listen)+len(c.Access) == 0 {
		return fmt.Errorf("sip.listen: no address to listen on")
	}
	for _, l := range append(append([]string(nil), c.Listen...), c.Access...) {
		if _, _, err := splitListen(l); err != nil {
			return fmt.Errorf("sip.listen: %w", err)
		}
		if strings.HasPrefix(l, "tls:") && (c.TLS.Certificate == "" || c.TLS.Key == "") {
			return fmt.Errorf("sip.tls: %s needs a certificate and a key", l)
		}
	}
	if u, ok := parseURI(c.URI); !ok || u.user == "" {
		return fmt.Errorf("sip.uri: %q is no SIP URI with a user part (sip:scas@ims.example)", c.URI)
	}
	for name, uri := range map[string]string{"outbound": c.Outbound, "presence": c.Presence} {
		if _, ok := parseURI(uri); uri != "" && !ok {
			return fmt.Errorf("sip.%s: %q is no SIP URI", name, uri)
		}
	}
	if _, err := parseTrusted(c.Trusted); err != nil {
		return err
	}
	if c.Refuse != "silent" && c.Refuse != "403" {
		return fmt.Errorf("sip.refuse: %q is neither silent nor 403", c.Refuse)
	}
	if c.UnknownUsers != "200" && c.UnknownUsers != "404" {
		return fmt.Errorf("sip.unknown_users: %q is neither 200 nor 404", c.UnknownUsers)
	}
	return c.validateUsers()
}

func (c Config) validateUsers() error {
	if len(c.Users) > 0 && !c.Registrar {
		return fmt.Errorf("sip.users: only a registrar has users (sip.registrar)")
	}
	for i, u := range c.Users {
		if _, err := parseIdentity(u.AoR); err != nil {
			return fmt.Errorf("sip.users[%d].aor: %q: %w", i, u.AoR, err)
		}
		if u.Password == "" && u.MD5 == "" && u.SHA256 == "" {
			return fmt.Errorf("sip.users[%d]: %s has neither a password nor an HA1", i, u.AoR)
		}
	}
	for i, t := range c.Static {
		if _, err := parseIdentity(t.AoR); err != nil {
			return fmt.Errorf("subscribers[%d].aor: %q: %w", i, t.AoR, err)
		}
	}
	return nil
}

// splitListen splits "udp://192.0.2.9:5060".
func splitListen(s string) (network, addr string, err error) {
	network, addr, ok := strings.Cut(s, "://")
	if !ok || (network != "udp" && network != "tcp" && network != "tls") {
		return "", "", fmt.Errorf("%q is not udp://, tcp:// or tls://ADDRESS:PORT", s)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", "", fmt.Errorf("%q: %w", s, err)
	}
	if a := literal(host); !a.IsValid() || a.IsUnspecified() {
		return "", "", fmt.Errorf("%q does not name one address of this machine", s)
	}
	return network, addr, nil
}

// realm is the domain of the service.
func (c Config) realm() string {
	u, _ := parseURI(c.URI)
	return u.host
}
