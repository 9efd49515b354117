package sip

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo"
	gosip "github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// ClientConfig is what a terminal has to know. Start from the zero value.
type ClientConfig struct {
	AoR      string // public identity, "sip:alice@ims.example"; required
	User     string // name in the digest; empty: the user part of AoR
	Password string
	// Proxy is the first hop, a P-CSCF or the application server itself:
	// "sip:192.0.2.1:5060;transport=tcp", "sips:.." for TLS. Empty: the domain of AoR.
	Proxy     string
	Service   string         // URI of the service; empty: sip:scas@ the domain of AoR
	Local     netip.AddrPort // to bind; zero: the address that leads to Proxy, a free port
	Instance  string         // "urn:uuid:..", the same in every run of one terminal; required
	Expires   time.Duration  // of the registration asked for; default 600 s
	UserAgent string         // default "scas-handset"
	TLS       *tls.Config    // for TLS; nil: the system's certificates
	// Received is called for each message of the service, one after another, in the order of
	// arrival. It must not call Close.
	Received func(Incoming)
	Log      *slog.Logger     // nil: discarded
	Now      func() time.Time // nil: time.Now
}

// Incoming is one message of the service: exactly one field is set.
type Incoming struct {
	Offer    *Offer
	Result   *Result
	Sessions *SessionList
	Text     string
}

// StatusError is a request of a Client that was refused.
type StatusError struct {
	Method string
	Code   int
	Reason string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: %d %s", e.Method, e.Code, e.Reason)
}

// Client is the client half: one terminal that is registered, sends orders and takes offers.
// Safe for concurrent use.
type Client struct {
	cfg     ClientConfig
	domain  string
	network string         // udp, tcp, tls
	proxy   netip.AddrPort // first hop
	local   netip.AddrPort
	ua      *sipgo.UserAgent
	cli     *sipgo.Client
	in      chan Incoming
	wg      sync.WaitGroup
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	sockets []io.Closer

	regMu  sync.Mutex // one REGISTER at a time
	pubMu  sync.Mutex // one PUBLISH at a time
	callID string
	tag    string

	mu         sync.Mutex // guards what follows
	cseq       uint32
	challenges map[string]*challenge // by header name
	registered bool
	route      []string // Service-Route
	gruu       string
	etag       string
	published  *Presence
}

type challenge struct {
	*digest.Challenge
	count int
}

// opening is how long opening a socket may take on a busy machine.
const opening = 10 * time.Second

// NewClient opens the sockets of a terminal. Nothing is sent before Register. The caller must
// Close it.
func NewClient(cfg ClientConfig) (*Client, error) {
	c := &Client{
		cfg: cfg, in: make(chan Incoming, 64), challenges: map[string]*challenge{},
		callID: newToken(12), tag: newToken(8),
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	if err := c.configure(); err != nil {
		c.stop()
		return nil, fmt.Errorf("sip client: %w", err)
	}
	if err := c.open(); err != nil {
		c.stop()
		c.closeSockets()
		return nil, fmt.Errorf("sip client: %w", err)
	}
	c.wg.Go(c.dispatch)
	if c.network != "udp" {
		c.wg.Go(c.keepAlive)
	}
	return c, nil
}

// configure fills in what the configuration leaves open.
func (c *Client) configure() error {
	me, ok := parseURI(c.cfg.AoR)
	if _, err := parseIdentity(c.cfg.AoR); err != nil || !ok || me.user == "" {
		return fmt.Errorf("%q is no public identity (sip:alice@ims.example)", c.cfg.AoR)
	}
	if c.cfg.Instance == "" || unsafe(c.cfg.Instance) {
		return errors.New("the instance is missing (urn:uuid:..)")
	}
	c.domain = me.host
	if c.cfg.User == "" {
		c.cfg.User = me.user
	}
	if c.cfg.Service == "" {
		c.cfg.Service = "sip:scas@" + me.host
	}
	if c.cfg.Proxy == "" {
		c.cfg.Proxy = "sip:" + me.host
	}
	if c.cfg.Expires == 0 {
		c.cfg.Expires = 600 * time.Second
	}
	if c.cfg.UserAgent == "" {
		c.cfg.UserAgent = "scas-handset"
	}
	if c.cfg.Log == nil {
		c.cfg.Log = slog.New(slog.DiscardHandler)
	}
	if c.cfg.Now == nil {
		c.cfg.Now = time.Now
	}
	if u, ok := parseURI(c.cfg.Service); !ok || u.user == "" {
		return fmt.Errorf("%q is no URI of a service", c.cfg.Service)
	}
	return c.findProxy()
}

// findProxy resolves the first hop and chooses the local address.
func (c *Client) findProxy() error {
	u, ok := parseURI(c.cfg.Proxy)
	if !ok {
		return fmt.Errorf("%q is no SIP URI", c.cfg.Proxy)
	}
	c.network = strings.ToLower(param(u.params, "transport"))
	port := u.port
	if strings.HasPrefix(strings.ToLower(addrSpec(c.cfg.Proxy)), "sips:") {
		c.network = "tls"
	}
	switch c.network {
	case "":
		c.network = "udp"
	case "udp", "tcp", "tls":
	default:
		return fmt.Errorf("transport %q is not udp, tcp or tls", c.network)
	}
	if port == "" {
		port = map[bool]string{true: "5061", false: "5060"}[c.network == "tls"]
	}
	host := strings.Trim(u.host, "[]")
	if c.cfg.TLS == nil {
		c.cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if c.network == "tls" && c.cfg.TLS.ServerName == "" {
		c.cfg.TLS = c.cfg.TLS.Clone()
		c.cfg.TLS.ServerName = host
	}
	probe, err := net.Dial("udp", net.JoinHostPort(host, port)) // sends nothing: it resolves and routes
	if err != nil {
		return err
	}
	defer probe.Close()
	c.proxy, _ = netip.ParseAddrPort(probe.RemoteAddr().String())
	c.local = c.cfg.Local
	if !c.local.Addr().IsValid() {
		own, _ := netip.ParseAddrPort(probe.LocalAddr().String())
		c.local = netip.AddrPortFrom(own.Addr(), c.local.Port())
	}
	return nil
}

// open binds the local sockets. Over TLS the one connection to the proxy carries both
// directions, from a port that stands in Contact (RFC 5626 without the flows).
func (c *Client) open() error {
	raiseMTU()
	var pc net.PacketConn
	var ln net.Listener
	var err error
	switch c.network {
	case "udp":
		if pc, err = net.ListenPacket("udp", c.local.String()); err == nil {
			c.local, _ = netip.ParseAddrPort(pc.LocalAddr().String())
			c.sockets = append(c.sockets, pc)
		}
	default:
		if ln, err = net.Listen("tcp", c.local.String()); err == nil {
			c.local, _ = netip.ParseAddrPort(ln.Addr().String())
			c.sockets = append(c.sockets, ln)
		}
		if err == nil && c.network == "tls" { // only the port was wanted
			err = ln.Close()
			ln = nil
		}
	}
	if err != nil {
		return err
	}
	quiet := quietLogger(c.cfg.Log, newCounters())
	c.ua, err = sipgo.NewUA(sipgo.WithUserAgent(c.cfg.UserAgent), sipgo.WithUserAgentHostname(c.domain),
		sipgo.WithUserAgenTLSConfig(c.cfg.TLS),
		sipgo.WithUserAgentTransportLayerOptions(gosip.WithTransportLayerLogger(quiet)),
		sipgo.WithUserAgentTransactionLayerOptions(gosip.WithTransactionLayerLogger(quiet)))
	if err != nil {
		return err
	}
	srv, err := sipgo.NewServer(c.ua, sipgo.WithServerLogger(quiet))
	if err != nil {
		return err
	}
	srv.OnNoRoute(c.serve)
	options := []sipgo.ClientOption{
		sipgo.WithClientAddr(c.local.String()), sipgo.WithClientNAT(), sipgo.WithClientLogger(quiet),
	}
	if c.network != "tcp" {
		options = append(options, sipgo.WithClientConnectionAddr(c.local.String()))
	}
	if c.cli, err = sipgo.NewClient(c.ua, options...); err != nil {
		return err
	}
	if pc != nil {
		c.wg.Go(func() { _ = srv.ServeUDP(pc) }) // ends when the socket is closed
		ctx, cancel := context.WithTimeout(c.ctx, opening)
		defer cancel()
		return served(ctx, c.ua, c.local)
	}
	if ln != nil {
		c.wg.Go(func() { _ = srv.ServeTCP(ln) })
	}
	return nil
}

// keepAlive keeps the connection to the proxy from being closed as idle (RFC 5626 §3.5.1).
func (c *Client) keepAlive() {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		conn, err := c.ua.TransportLayer().GetConnection(c.network, c.proxy.String())
		if err != nil {
			continue // the next request dials again
		}
		if w, ok := conn.(io.Writer); ok {
			_, _ = w.Write([]byte("\r\n\r\n"))
		}
	}
}

// Contact returns the URI at which the terminal is reached.
func (c *Client) Contact() string {
	u, _ := parseURI(c.cfg.AoR)
	contact := "sip:" + u.user + "@" + c.local.String()
	if c.network != "udp" {
		contact += ";transport=" + c.network
	}
	return contact
}

// GRUU returns the public GRUU that the registrar gave, "" when none.
func (c *Client) GRUU() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gruu
}

// closing bounds what Close still sends.
const closing = 4 * time.Second

// Close withdraws presence and registration, as far as the other side answers within a few
// seconds, and closes the sockets.
func (c *Client) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	c.mu.Lock()
	registered, published := c.registered, c.etag != ""
	c.mu.Unlock()
	c.stop() // refreshes end before the last word
	var err error
	if published {
		err = c.unpublish(ctx)
	}
	if registered {
		c.regMu.Lock()
		_, rerr := c.register(ctx, 0)
		c.regMu.Unlock()
		err = errors.Join(err, rerr)
	}
	c.closeSockets()
	c.wg.Wait()
	return err
}

func (c *Client) closeSockets() {
	if c.ua != nil {
		_ = c.ua.Close()
	}
	for _, s := range c.sockets {
		_ = s.Close() // sipgo closes what it serves: the second time is an error
	}
}

// deltaSeconds is d as it stands in a header (RFC 3261 §20.19).
func deltaSeconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
