package kv

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"scas/session"
)

// patience is how long a test waits for what has to come.
const patience = 60 * time.Second

func testConfig(node string) Config {
	c := DefaultConfig()
	c.Node, c.Every = node, 50*time.Millisecond
	return c
}

// open opens a store that is closed with the test, unless it was closed before.
func open(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.nc.IsClosed() {
			s.Close()
		}
	})
	return s
}

// embeddedStore opens an embedded store on dir.
func embeddedStore(t testing.TB, dir string) *Store {
	t.Helper()
	c := testConfig("gw1")
	c.Dir = dir
	return open(t, c)
}

// member opens a store of an external server.
func member(t testing.TB, node string, urls ...string) *Store {
	t.Helper()
	c := testConfig(node)
	c.Servers = urls
	return open(t, c)
}

func flush(t testing.TB, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Flush(ctx); err != nil {
		t.Fatalf("flush: %v; %v", err, s.Stats())
	}
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: did not happen within %v", what, patience)
		}
	}
}

// natsd is an external server that can be stopped and started again with its port and files.
type natsd struct {
	t              testing.TB
	opts           server.Options
	*server.Server           // nil when it is in a process of its own
	process        *exec.Cmd // of startApart
}

func startServer(t testing.TB) *natsd {
	t.Helper()
	n := &natsd{t: t, opts: server.Options{
		ServerName: "n1", Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
	}}
	n.start()
	n.opts.Port = n.Addr().(*net.TCPAddr).Port
	t.Cleanup(n.stop)
	return n
}

func (n *natsd) start() {
	n.t.Helper()
	opts := n.opts
	srv, err := server.NewServer(&opts)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Server = srv
	srv.Start()
	if !srv.ReadyForConnections(patience) {
		n.t.Fatal("server does not start")
	}
}

func (n *natsd) stop() {
	if n.Server == nil {
		return
	}
	n.Shutdown()
	n.WaitForShutdown()
}

func (n *natsd) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.opts.Port) }

// startCluster starts three servers that know each other; n3 in a process of its own, to be
// killed, when apart is set.
func startCluster(t testing.TB, apart bool) []*natsd {
	t.Helper()
	var all []*natsd
	var routes []*url.URL
	dir := t.TempDir()
	for i := range 3 {
		ports := freePorts(t, 2)
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[1])})
		all = append(all, clusterMember(t, fmt.Sprintf("n%d", i+1), ports[0], ports[1], filepath.Join(dir, fmt.Sprint(i))))
	}
	var wg sync.WaitGroup
	for _, n := range all {
		n.opts.Routes = routes
		if apart && n == all[2] {
			n.startApart()
			continue
		}
		wg.Go(n.start)
	}
	wg.Wait()
	for _, n := range all {
		t.Cleanup(n.stop)
	}
	await(t, "cluster has a leader", func() bool {
		return slices.ContainsFunc(all, func(n *natsd) bool {
			if n.Server == nil || !n.JetStreamIsLeader() {
				return n.Server != nil && apart && n.JetStreamIsCurrent() // then n3 may lead
			}
			return len(n.JetStreamClusterPeers()) == 3
		})
	})
	return all
}

// startApart starts n in a process of its own.
func (n *natsd) startApart() {
	n.t.Helper()
	var routes []string
	for _, r := range n.opts.Routes {
		routes = append(routes, r.String())
	}
	text := strings.Join([]string{n.opts.ServerName, fmt.Sprint(n.opts.Port), fmt.Sprint(n.opts.Cluster.Port), n.opts.StoreDir, strings.Join(routes, ",")}, " ")
	n.process = exec.Command(os.Args[0], "-test.run=^TestServerProcess$")
	n.process.Env = append(os.Environ(), "SCAS_TEST_SERVER="+text)
	if err := n.process.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(n.kill)
}

// kill ends a server of startApart without warning.
func (n *natsd) kill() {
	if n.process.ProcessState == nil {
		n.process.Process.Kill()
		n.process.Wait()
	}
}

// TestServerProcess is the process of startApart.
func TestServerProcess(t *testing.T) {
	text := strings.Fields(os.Getenv("SCAS_TEST_SERVER"))
	if len(text) != 5 {
		return // no test: another one starts it
	}
	n := clusterMember(t, text[0], number(t, text[1]), number(t, text[2]), text[3])
	for _, r := range strings.Split(text[4], ",") {
		u, err := url.Parse(r)
		if err != nil {
			t.Fatal(err)
		}
		n.opts.Routes = append(n.opts.Routes, u)
	}
	n.start()
	select {}
}

func number(t testing.TB, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func clusterMember(t testing.TB, name string, port, routePort int, dir string) *natsd {
	return &natsd{t: t, opts: server.Options{
		ServerName: name, Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: dir, JetStreamMaxStore: 16 << 30, JetStreamMaxMemory: 64 << 20,
		Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: routePort},
	}}
}

func freePorts(t testing.TB, n int) (ports []int) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func binding(n int) session.Binding {
	return session.Binding{
		Key: fmt.Sprintf("sip:u%d@ims.example urn:uuid:%d 1", n, n), AoR: fmt.Sprintf("sip:u%d@ims.example", n),
		Instance: session.Ptr(fmt.Sprintf("urn:uuid:%d", n)), Name: "tv", IP: netip.AddrFrom4([4]byte{10, 10, byte(n >> 8), byte(n)}),
		Contact: "sip:u@10.10.1.2:5060", Path: []string{"<sip:term@pcscf.ims.example;lr>"}, Source: session.FromRegister,
		CallID: "call", CSeq: 1, Since: time.Unix(1000, 0).UTC(),
	}
}

func record(id string) session.Record {
	return session.Record{
		ID: id, Gateway: "gw1", AoR: session.Ptr("sip:bob@ims.example"), Terminal: session.Terminal{Name: "phone", IP: netip.MustParseAddr("10.10.1.2")},
		Protocol: session.RTSP, Transport: session.UDP, URL: session.Ptr("rtsp://media.example/film"), State: session.Playing,
		Started: time.Now().UTC(), Updated: time.Now().UTC(), Tracks: []session.Track{{ID: 1, Media: "video"}},
	}
}

func transfer(id string, state session.TransferState) session.Transfer {
	return session.Transfer{
		ID: id, Session: "s1", AoR: session.Ptr("sip:bob@ims.example"), From: session.Terminal{Name: "phone", IP: netip.MustParseAddr("10.10.1.2")},
		To: session.Terminal{Name: "tv", IP: netip.MustParseAddr("10.10.1.3")}, Trigger: session.Push, State: state, URL: "rtsp://media.example/film",
	}
}
