package sip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/emiago/sipgo"
	gosip "github.com/emiago/sipgo/sip"
)

// listener is one socket with a sipgo user agent of its own: so every request is known to
// have come in by it, and what is sent by it leaves from its address.
type listener struct {
	name    string // as configured
	network string
	core    bool           // of Config.Listen
	local   netip.AddrPort // as bound
	public  string         // host:port in Via and Contact
	ua      *sipgo.UserAgent
	srv     *sipgo.Server
	cli     *sipgo.Client
	packets *packetConn
	streams net.Listener
}

// listen binds one listener.
func (s *stack) listen(name string, core bool) (*listener, error) {
	network, addr, err := splitListen(name)
	if err != nil {
		return nil, err
	}
	l := &listener{name: name, network: network, core: core}
	if err := l.bind(s, addr); err != nil {
		return nil, err
	}
	host := l.local.Addr().String()
	if s.cfg.Advertise != "" {
		host = s.cfg.Advertise
	}
	l.public = net.JoinHostPort(host, strconv.Itoa(int(l.local.Port())))
	if err := l.agent(s); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// bind opens the socket behind our own reader.
func (l *listener) bind(s *stack, addr string) error {
	var bound net.Addr
	switch l.network {
	case "udp":
		pc, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		if u, ok := pc.(*net.UDPConn); ok {
			_ = u.SetReadBuffer(4 << 20) // as much as the system allows: a burst is not lost
		}
		l.packets, bound = newPacketConn(s, l, pc), pc.LocalAddr()
	default:
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		bound = ln.Addr()
		l.streams = newStreamListener(s, l, ln)
		if l.network == "tls" {
			conf, err := s.serverTLS(l.core)
			if err != nil {
				return errors.Join(err, ln.Close())
			}
			l.streams = newTLSListener(s, l, ln, conf)
		}
	}
	ap, err := netip.ParseAddrPort(bound.String())
	l.local = ap
	return err
}

// agent makes the sipgo objects of the listener.
func (l *listener) agent(s *stack) error {
	quiet := quietLogger(s.log, s.count)
	opts := []sipgo.UserAgentOption{
		sipgo.WithUserAgent("scas"), sipgo.WithUserAgentHostname(s.cfg.realm()),
		sipgo.WithUserAgentParser(gosip.NewParser(gosip.WithHeadersParsers(lenientParsers()))),
		sipgo.WithUserAgentTransportLayerOptions(gosip.WithTransportLayerLogger(quiet)),
		sipgo.WithUserAgentTransactionLayerOptions(gosip.WithTransactionLayerLogger(quiet),
			gosip.WithTransactionLayerUnhandledResponseHandler(func(*gosip.Response) { s.count.add("stray_responses") })),
	}
	if l.network == "tls" {
		conf, err := s.clientTLS()
		if err != nil {
			return err
		}
		opts = append(opts, sipgo.WithUserAgenTLSConfig(conf))
	}
	var err error
	if l.ua, err = sipgo.NewUA(opts...); err != nil {
		return err
	}
	if l.srv, err = sipgo.NewServer(l.ua, sipgo.WithServerLogger(quiet)); err != nil {
		return err
	}
	l.srv.OnNoRoute(func(req *gosip.Request, tx gosip.ServerTransaction) { s.serve(l, req, tx) })
	client := []sipgo.ClientOption{sipgo.WithClientLogger(quiet), sipgo.WithClientAddr(l.public)}
	if l.network == "udp" {
		client = append(client, sipgo.WithClientConnectionAddr(l.local.String()))
	}
	l.cli, err = sipgo.NewClient(l.ua, client...)
	return err
}

// serve runs until the socket is closed.
func (l *listener) serve() error {
	switch l.network {
	case "udp":
		for { // packetConn ends a round so that sipgo forgets the peers it remembers
			if err := l.srv.ServeUDP(l.packets); err != nil || l.packets.closed() {
				return err
			}
		}
	case "tls":
		return l.srv.ServeTLS(l.streams)
	default:
		return l.srv.ServeTCP(l.streams)
	}
}

// served waits until sipgo reads a UDP socket of ours. A request before that, or while packetConn
// begins a new round, would want a socket of its own on the same port, and fail.
func served(ctx context.Context, ua *sipgo.UserAgent, local netip.AddrPort) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := ua.TransportLayer().GetConnection("udp", local.String()); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("socket is not served: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

func (l *listener) close() {
	if l.ua != nil {
		_ = l.ua.Close()
	}
	if l.packets != nil {
		_ = l.packets.Close()
	}
	if l.streams != nil {
		_ = l.streams.Close()
	}
}

// do sends a request through sipgo and waits for the final response.
func (l *listener) do(ctx context.Context, req *gosip.Request) (*gosip.Response, error) {
	if l.network == "udp" {
		if err := served(ctx, l.ua, l.local); err != nil {
			return nil, err
		}
	}
	return l.cli.Do(ctx, req)
}

// contact is our URI at this listener.
func (l *listener) contact(uri string) string {
	u, _ := parseURI(uri)
	c := "sip:" + u.user + "@" + l.public
	if l.network != "udp" {
		c += ";transport=" + l.network
	}
	return c
}

// serverTLS is the configuration of a tls listener; a core listener asks for a certificate
// when ClientCA says which ones count.
func (s *stack) serverTLS(core bool) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(s.cfg.TLS.Certificate, s.cfg.TLS.Key)
	if err != nil {
		return nil, fmt.Errorf("sip.tls: %w", err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if s.cfg.TLS.ClientCA != "" && core {
		if conf.ClientCAs, err = loadCA(s.cfg.TLS.ClientCA); err != nil {
			return nil, err
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

func (s *stack) clientTLS() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	cert, err := tls.LoadX509KeyPair(s.cfg.TLS.Certificate, s.cfg.TLS.Key)
	if err != nil {
		return nil, fmt.Errorf("sip.tls: %w", err)
	}
	conf.Certificates = []tls.Certificate{cert}
	if s.cfg.TLS.ServerCA != "" {
		conf.RootCAs, err = loadCA(s.cfg.TLS.ServerCA)
	}
	return conf, err
}

func loadCA(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("sip.tls: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("sip.tls: no certificate in %s", file)
	}
	return pool, nil
}
