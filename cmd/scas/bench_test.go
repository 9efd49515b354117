package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"scas/internal/lab"
	"scas/session"
)

// benchRounds is how often each measurement is made with and without the gateway, in turns, for
// each of two pairs of labs; the machine's own mood changes from second to second, so the turns
// are short.
const (
	benchRounds = 15
	benchTurn   = 250 * time.Millisecond
)

// BenchmarkGateway compares media that pass a gateway with the same media through plain routing,
// in network namespaces that never saw a gateway. ratio is the throughput with scas divided by
// that without; cpu-ratio the processor time a packet (a Mbit) takes without, divided by that with,
// which a busy machine disturbs less. 0.95 is the goal for watched media (issue 2). What is steered
// is shown for comparison: its TCP passes a process, and the kernel forwards any packet slower
// once there is a policy rule.
func BenchmarkGateway(b *testing.B) {
	lab.Root(b)
	b.Logf("machine: %s", machine())
	always := siteConfig{steer: "always"}
	b.Run("watched-rtp", func(b *testing.B) { compare(b, siteConfig{}, rtpLoad, "packets/s") })
	b.Run("watched-interleaved", func(b *testing.B) { compare(b, siteConfig{}, interleavedLoad, "Mbit/s") })
	b.Run("watched-interleaved-wire-size", func(b *testing.B) { compare(b, siteConfig{wire: true}, interleavedLoad, "Mbit/s") })
	b.Run("steered-rtp", func(b *testing.B) { compare(b, always, rtpLoad, "packets/s") })
	b.Run("steered-interleaved", func(b *testing.B) { compare(b, always, interleavedLoad, "Mbit/s") })
}

// machine tells on what the figures were measured.
func machine() string {
	cpu := "unknown processor"
	text, _ := os.ReadFile("/proc/cpuinfo") // then it stays unknown
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			cpu = strings.TrimSpace(value)
		}
	}
	kernel := "?"
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%d x %s, Linux %s, %s, load before %s", runtime.NumCPU(), cpu, kernel, runtime.Version(), strings.TrimSpace(string(load)))
}

// benchLoad is a stream of media through one lab. start makes it known to the gateway, if there is
// one; push sends for a turn and returns what arrived.
type benchLoad interface {
	start(b *testing.B)
	push(ctx context.Context) (float64, error)
	stop()
}

// compare measures in turns a lab without and one with a gateway, and reports. The second pair of
// labs is made in the other order.
func compare(b *testing.B, cfg siteConfig, of func(*testing.B, *site) benchLoad, unit string) {
	b.Helper()
	for b.Loop() {
		var rate, cost turns
		for with := range 2 {
			labs := [2]*site{newSite(b, cfg), newSite(b, cfg)}
			loads := [2]benchLoad{of(b, labs[0]), of(b, labs[1])}
			labs[with].serve(b)
			for _, l := range loads {
				l.start(b)
			}
			on := false
			c, err := lab.Compare(b.Context(), benchRounds, func(want bool) error { on = want; return nil },
				func(ctx context.Context) (float64, error) {
					i := with
					if !on {
						i = 1 - with
					}
					used, began := processor(), time.Now()
					v, err := loads[i].push(ctx)
					cost.add(on, float64(processor()-used)/(v*time.Since(began).Seconds()))
					if on {
						err = errors.Join(err, labs[i].followed(b))
					}
					return v, err
				})
			if err != nil {
				b.Fatal(err)
			}
			b.Logf("%s, pair %d: %v", unit, with+1, c)
			rate.without, rate.with = append(rate.without, c.A...), append(rate.with, c.B...)
			for _, l := range loads {
				l.stop()
			}
			labs[with].stop(b)
		}
		b.ReportMetric(quartile(rate.without, 2), unit+"-without")
		b.ReportMetric(quartile(rate.with, 2), unit+"-with")
		r := ratios(rate.with, rate.without)
		b.ReportMetric(quartile(r, 2), "ratio")
		b.ReportMetric(quartile(cost.without, 2)/quartile(cost.with, 2), "cpu-ratio")
		b.Logf("%s: ratio %.3f, half of %d rounds between %.3f and %.3f; processor time %.4g ns without, %.4g ns with, ratio %.3f", unit,
			quartile(r, 2), len(r), quartile(r, 1), quartile(r, 3), quartile(cost.without, 2), quartile(cost.with, 2),
			quartile(cost.without, 2)/quartile(cost.with, 2))
	}
	b.ReportMetric(0, "ns/op") // how long the comparison took says nothing
}

// turns are the values of all turns.
type turns struct{ without, with []float64 }

func (t *turns) add(on bool, v float64) {
	if on {
		t.with = append(t.with, v)
	} else {
		t.without = append(t.without, v)
	}
}

func ratios(a, b []float64) []float64 {
	r := make([]float64, len(a))
	for i := range a {
		r[i] = a[i] / b[i]
	}
	return r
}

// quartile returns the value below which n quarters of v are.
func quartile(v []float64, n int) float64 { return slices.Sorted(slices.Values(v))[len(v)*n/4] }

// processor returns the processor time this process has used: it is both ends of a load, and
// packets are forwarded in its name.
func processor() time.Duration {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// interleaved is one session of frames of RTP, as fast as TCP takes them.
type interleaved struct{ gw *site }

func interleavedLoad(_ *testing.B, gw *site) benchLoad { return interleaved{gw} }

func (interleaved) start(*testing.B) {}
func (interleaved) stop()            {}

func (l interleaved) push(ctx context.Context) (float64, error) {
	r, err := l.gw.PushInterleaved(ctx, lab.TCPLoad{Warmup: 50 * time.Millisecond, Duration: benchTurn})
	return r.Mbit(), err
}

// followed checks that the session of a load was known and its media were seen: else there
// was nothing to measure.
func (s *site) followed(b *testing.B) error {
	var all []session.Record
	if _, err := s.api.get(b.Context(), "/v1/sessions", &all); err != nil {
		return err
	}
	if len(all) == 0 {
		return errors.New("the session of the load is not known")
	}
	r := all[len(all)-1]
	packets := uint64(0)
	for _, t := range r.Tracks {
		packets += t.Packets
	}
	if r.Steered != (s.cfg.steer == "always") || packets < 1000 {
		return fmt.Errorf("the load was not followed: %+v", r)
	}
	return nil
}

// The RTP load is one film of two tracks; its ports are those the load sends between.
const (
	benchTracks     = 2
	benchServerPort = 20000
	benchClientPort = 30000
)

// rtpUDP is one session over UDP, packets as fast as one core sends them.
type rtpUDP struct {
	gw      *site
	server  *net.TCPListener
	control net.Conn
}

func rtpLoad(b *testing.B, gw *site) benchLoad {
	server, err := gw.Host(lab.MS).ListenTCP(b.Context(), netip.AddrPortFrom(gw.Addr(lab.MS), 554))
	if err != nil {
		b.Fatal(err)
	}
	l := &rtpUDP{gw: gw, server: server}
	b.Cleanup(l.stop)
	go answerAll(server)
	return l
}

func (l *rtpUDP) stop() {
	l.server.Close()
	if l.control != nil {
		l.control.Close()
	}
}

func (l *rtpUDP) start(b *testing.B) {
	var err error
	if l.control, err = setUp(b.Context(), l.gw, l.server.Addr().String()); err != nil {
		b.Fatal(err)
	}
}

func (l *rtpUDP) push(ctx context.Context) (float64, error) {
	r, err := l.gw.PushRTP(ctx, lab.RTPLoad{
		Server: netip.AddrPortFrom(l.gw.Addr(lab.MS), benchServerPort), Client: netip.AddrPortFrom(l.gw.Addr(phone), benchClientPort),
		Flows: benchTracks, Duration: benchTurn,
	})
	return r.PPS(), err
}

// answerAll is an RTSP server that sets up what it is asked for and sends nothing: the load
// does.
func answerAll(l *net.TCPListener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			r := bufio.NewReader(c)
			for {
				head, err := readHead(r)
				if err != nil {
					return
				}
				if _, err := c.Write(benchReply(head)); err != nil {
					return
				}
			}
		}()
	}
}

// readHead reads a message up to its blank line.
func readHead(r *bufio.Reader) ([]string, error) {
	var head []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if line = strings.TrimSpace(line); line == "" {
			return head, nil
		}
		head = append(head, line)
	}
}

func benchReply(head []string) []byte {
	method, rest, _ := strings.Cut(head[0], " ")
	url, _, _ := strings.Cut(rest, " ")
	reply := []string{"RTSP/1.0 200 OK", "Session: bench"}
	for _, line := range head {
		if strings.HasPrefix(line, "CSeq:") {
			reply = append(reply, line)
		}
	}
	body := ""
	switch method {
	case "DESCRIBE":
		body = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=Bench\r\nt=0 0\r\na=range:npt=0-3600\r\n"
		for i := range benchTracks {
			body += fmt.Sprintf("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:stream=%d\r\n", i)
		}
		reply = append(reply, "Content-Type: application/sdp", "Content-Base: "+url+"/", fmt.Sprintf("Content-Length: %d", len(body)))
	case "SETUP":
		i := int(url[len(url)-1] - '0')
		reply = append(reply, fmt.Sprintf("Transport: RTP/AVP;unicast;client_port=%d-%d;server_port=%d-%d;ssrc=%08X",
			benchClientPort+2*i, benchClientPort+2*i+1, benchServerPort+2*i, benchServerPort+2*i+1, 0x5ca50000+i))
	case "PLAY":
		reply = append(reply, "Range: npt=0-3600")
	}
	return []byte(strings.Join(reply, "\r\n") + "\r\n\r\n" + body)
}

// setUp plays the film of the RTP load on the phone and returns its control connection.
func setUp(ctx context.Context, gw *site, server string) (net.Conn, error) {
	c, err := gw.Host(phone).DialTCP(ctx, netip.MustParseAddrPort(server))
	if err != nil {
		return nil, err
	}
	url := "rtsp://" + server + "/load"
	asks := []string{"DESCRIBE " + url + " RTSP/1.0"}
	for i := range benchTracks {
		asks = append(asks, fmt.Sprintf("SETUP %s/stream=%d RTSP/1.0\r\nTransport: RTP/AVP;unicast;client_port=%d-%d",
			url, i, benchClientPort+2*i, benchClientPort+2*i+1))
	}
	asks = append(asks, "PLAY "+url+"/ RTSP/1.0\r\nSession: bench")
	r := bufio.NewReader(c)
	for i, ask := range asks {
		_, err := fmt.Fprintf(c, "%s\r\nCSeq: %d\r\n\r\n", ask, i+1)
		if err == nil {
			_, err = readHead(r)
		}
		if err == nil && i == 0 {
			_, err = r.Discard(r.Buffered()) // the description
		}
		if err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}
