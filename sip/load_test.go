package sip

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"scas/session"
)

// loadRate is how many REGISTERs a second a large S-CSCF sends.
const loadRate = 2000

// BenchmarkThirdPartyRegister plays an S-CSCF that registers b.N users at 2000/s, each with an
// embedded REGISTER and an address of its own, over loopback UDP, and repeats what is not
// answered as RFC 3261 §17.1.2 says. The usual figure of 20 000 is
//
//	go test ./sip -run xxx -bench ThirdPartyRegister -benchtime 20000x
//
// It reports what was lost and repeated, the time to the answer, memory held afterwards, and
// CPU of the whole process, generator included.
func BenchmarkThirdPartyRegister(b *testing.B) {
	cfg := loadConfig()
	gate := &fakeGate{open: map[netip.Addr]session.Binding{}}
	s, err := New(cfg, Deps{Store: NewMemory(), Gate: gate}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	stop := serveBench(b, s)
	defer stop()
	g := newLoad(b, s.stack.listeners[0].local, b.N)
	before := heapNow()
	cpu := cpuNow()
	b.ResetTimer()
	g.run(loadRate)
	b.StopTimer()
	used := cpuNow() - cpu
	until(b, "every address is open", func() bool { return s.Stats()["open"] == uint64(b.N) })
	after := heapNow()
	b.ReportMetric(float64(g.lost), "lost")
	b.ReportMetric(float64(g.repeated), "retransmissions")
	b.ReportMetric(float64(g.quantile(0.5).Microseconds()), "µs-median")
	b.ReportMetric(float64(g.quantile(0.99).Microseconds()), "µs-p99")
	b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric((after-before)/(1<<20), "heap-MiB")
	b.ReportMetric(0, "ns/op") // the rate is given
	if g.lost > 0 {
		b.Errorf("%d of %d lost; %v", g.lost, b.N, s.Stats())
	}
}

// BenchmarkThirdPartyRegisterFlat is the same as fast as answers come, 64 under way.
func BenchmarkThirdPartyRegisterFlat(b *testing.B) {
	cfg := loadConfig()
	s, err := New(cfg, Deps{Store: NewMemory()}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	stop := serveBench(b, s)
	defer stop()
	g := newLoad(b, s.stack.listeners[0].local, b.N)
	cpu := cpuNow()
	b.ResetTimer()
	g.run(0)
	b.StopTimer()
	b.ReportMetric(float64((cpuNow()-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(g.repeated), "retransmissions")
	if g.lost > 0 {
		b.Errorf("%d of %d lost", g.lost, b.N)
	}
}

// loadConfig is a server that any core on loopback may tell of any user.
func loadConfig() Config {
	cfg := baseConfig("127.0.0.1")
	cfg.Listen = []string{"udp://127.0.0.1:0"}
	cfg.Subscribers = []string{"*"}
	cfg.RegEvent = false
	return cfg
}

// serveBench serves until the returned function is called.
func serveBench(b *testing.B, s *Server) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

// load is a generator of third-party REGISTERs.
type load struct {
	b        testing.TB
	conn     *net.UDPConn
	messages [][]byte

	mu       sync.Mutex
	sent     map[int]*awaited // by number
	took     []time.Duration
	repeated int
	lost     int
	free     chan struct{}
}

// awaited is a request that has no answer yet.
type awaited struct {
	first, next time.Time
	gap         time.Duration
}

func newLoad(b testing.TB, to netip.AddrPort, n int) *load {
	b.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	_ = conn.SetReadBuffer(4 << 20)
	g := &load{b: b, conn: conn, sent: map[int]*awaited{}, free: make(chan struct{}, 64)}
	for i := range n {
		user := fmt.Sprintf("sip:u%d@ims.test", i)
		d := &device{user: user, ip: fmt.Sprintf("10.%d.%d.%d", i>>16&0xff, i>>8&0xff, i&0xff), instance: fmt.Sprint("urn:uuid:", i), callID: user, expires: 600}
		inner := strings.Replace(d.inner(), "User-Agent", "P-Access-Network-Info: IEEE-802.11; i-wlan-node-id=020000000011\r\n"+
			"P-Charging-Vector: icid-value=\"f89fd6d106a41498ecac2b07f5f62c0f\";icid-generated-at=127.0.10.1\r\nUser-Agent", 1)
		raw := third(user, 720, "message/sip", inner)
		_, rest, _ := strings.Cut(raw, "branch=z9hG4bK")
		_, rest, _ = strings.Cut(rest, "\r\n")
		g.messages = append(g.messages, []byte(fmt.Sprintf("REGISTER sip:scas.ims.test:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;rport;branch=z9hG4bKload.%d\r\n%s", i, rest)))
	}
	return g
}

// run sends everything, rate a second (0: as answers come), and waits for the answers.
func (g *load) run(rate int) {
	go g.read()
	stop := make(chan struct{})
	defer close(stop)
	go g.resend(stop)
	began := time.Now()
	for i, m := range g.messages {
		if rate > 0 {
			if wait := time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))); wait > 0 {
				time.Sleep(wait)
			}
		} else {
			g.free <- struct{}{}
		}
		g.mu.Lock()
		now := time.Now()
		g.sent[i] = &awaited{first: now, next: now.Add(500 * time.Millisecond), gap: 500 * time.Millisecond}
		g.mu.Unlock()
		_, _ = g.conn.Write(m)
	}
	for g.waiting() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
}

// resend repeats what is due until stop is closed.
func (g *load) resend(stop chan struct{}) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			g.repeat()
		}
	}
}

func (g *load) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sent)
}

// repeat sends again what has waited for its time: T1, then twice as long each time, at most
// T2; after 64*T1 it is lost (RFC 3261 §17.1.2.2).
func (g *load) repeat() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	for i, w := range g.sent {
		switch {
		case now.Sub(w.first) > 32*time.Second:
			g.lost++
			delete(g.sent, i)
		case now.After(w.next):
			g.repeated++
			w.gap = min(2*w.gap, 4*time.Second)
			w.next = now.Add(w.gap)
			_, _ = g.conn.Write(g.messages[i])
		}
	}
}

func (g *load) read() {
	buf := make([]byte, 65536)
	for {
		n, err := g.conn.Read(buf)
		if err != nil {
			return
		}
		var i int
		_, rest, ok := strings.Cut(string(buf[:min(n, 512)]), "z9hG4bKload.")
		if _, err := fmt.Sscanf(rest, "%d", &i); !ok || err != nil || !strings.HasPrefix(string(buf[:n]), "SIP/2.0 200") {
			g.b.Errorf("answer %.100q", buf[:n])
			continue
		}
		g.mu.Lock()
		if w, ok := g.sent[i]; ok {
			g.took = append(g.took, time.Since(w.first))
			delete(g.sent, i)
			select {
			case <-g.free:
			default:
			}
		}
		g.mu.Unlock()
	}
}

func (g *load) quantile(q float64) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.took) == 0 {
		return 0
	}
	slices.Sort(g.took)
	return g.took[int(q*float64(len(g.took)-1))]
}

// heapNow is the live heap in bytes, the garbage collected.
func heapNow() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// cpuNow is the CPU time of the process so far.
func cpuNow() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
