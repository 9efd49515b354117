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
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"scas/internal/lab"
	"scas/session"
)

// benchRounds is how often each measurement is made with and without the gateway, in turns.
const benchRounds = 9

// BenchmarkGateway compares media that pass a gateway which watches them with the same media
// through plain routing: the throughput with scas divided by that without. 0.95 is the goal
// for watched media (issue 2); what is steered passes a process and is shown for comparison.
func BenchmarkGateway(b *testing.B) {
	lab.Root(b)
	b.Logf("machine: %s", machine())
	b.Run("watched-rtp", func(b *testing.B) { benchRTP(b) })
	b.Run("watched-interleaved", func(b *testing.B) { benchInterleaved(b, siteConfig{}, false) })
	b.Run("watched-interleaved-wire-size", func(b *testing.B) { benchInterleaved(b, siteConfig{}, true) })
	b.Run("steered-interleaved", func(b *testing.B) { benchInterleaved(b, siteConfig{steer: "always"}, false) })
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

// compare measures in turns without and with the gateway, and reports.
func compare(b *testing.B, set func(on bool) error, measure func(context.Context) (float64, error), unit string) {
	b.Helper()
	for b.Loop() {
		c, err := lab.Compare(b.Context(), benchRounds, set, measure)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(c.MedA, unit+"-without")
		b.ReportMetric(c.MedB, unit+"-with")
		b.ReportMetric(c.Ratio, "ratio")
		b.ReportMetric(c.Low, "lowest-ratio")
		b.ReportMetric(c.High, "highest-ratio")
		b.Logf("%s: %v\nwithout %.4g\nwith    %.4g", unit, c, c.A, c.B)
	}
	b.ReportMetric(0, "ns/op") // how long the comparison took says nothing
}

// benchInterleaved: one session, frames of RTP as fast as TCP takes them.
func benchInterleaved(b *testing.B, cfg siteConfig, wire bool) {
	cfg.wire = wire
	gw := newSite(b, cfg)
	on := false
	set := func(want bool) error {
		if on = want; on {
			gw.serve(b)
		} else {
			gw.stop(b)
		}
		return nil
	}
	compare(b, set, func(ctx context.Context) (float64, error) {
		r, err := gw.PushInterleaved(ctx, lab.TCPLoad{Duration: 500 * time.Millisecond})
		if err == nil && on {
			err = gw.followed(b, cfg.steer == "always")
		}
		return r.Mbit(), err
	}, "Mbit/s")
}

// followed checks that the session of a load was known and its media were seen: else there
// was nothing to measure.
func (s *site) followed(b *testing.B, steered bool) error {
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
	if r.Steered != steered || packets < 1000 {
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

// benchRTP: one session over UDP, packets as fast as one core sends them.
func benchRTP(b *testing.B) {
	gw := newSite(b, siteConfig{})
	server, err := gw.Host(lab.MS).ListenTCP(b.Context(), netip.AddrPortFrom(gw.Addr(lab.MS), 554))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { server.Close() })
	go answerAll(server)
	var control net.Conn
	hangUp := func() {
		if control != nil {
			control.Close()
		}
	}
	b.Cleanup(hangUp)
	on := false
	set := func(want bool) (err error) {
		hangUp()
		if on = want; on {
			gw.serve(b)
		} else {
			gw.stop(b)
		}
		control, err = setUp(b.Context(), gw, server.Addr().String())
		return err
	}
	compare(b, set, func(ctx context.Context) (float64, error) {
		r, err := gw.PushRTP(ctx, lab.RTPLoad{
			Server: netip.AddrPortFrom(gw.Addr(lab.MS), benchServerPort), Client: netip.AddrPortFrom(gw.Addr(phone), benchClientPort),
			Flows: benchTracks, Duration: 500 * time.Millisecond,
		})
		if err == nil && on {
			err = gw.followed(b, false)
		}
		return r.PPS(), err
	}, "packets/s")
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
