package lab

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// rawClient speaks RTSP by hand.
type rawClient struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
	n int
	// frames seen before the last reply
	frames int
}

func dialRaw(t *testing.T, s *Server) *rawClient {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	return &rawClient{t: t, c: c, r: bufio.NewReader(c)}
}

// ask sends a request and returns the reply.
func (c *rawClient) ask(method, url string, head ...field) *message {
	c.t.Helper()
	c.n++
	if _, err := c.c.Write(request(method, url, c.n, head...).marshal()); err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
	c.frames = 0
	for {
		u, err := readUnit(c.r)
		if err != nil {
			c.t.Fatalf("%s: %v", method, err)
		}
		if u.msg == nil {
			c.frames++
			continue
		}
		if u.msg.cseq() != c.n {
			c.t.Fatalf("%s: CSeq %d, want %d", method, u.msg.cseq(), c.n)
		}
		return u.msg
	}
}

// open sets a session up and returns its id.
func (c *rawClient) open(url string, offers ...string) field {
	c.t.Helper()
	var id field
	for i, o := range offers {
		head := []field{{"Transport", o}}
		if id.value != "" {
			head = append(head, id)
		}
		m := c.ask("SETUP", fmt.Sprintf("%s/stream=%d", url, i), head...)
		if m.status() != 200 {
			c.t.Fatalf("SETUP: %s", m.start)
		}
		s, _, _ := strings.Cut(m.get("Session"), ";")
		id = field{"Session", s}
	}
	return id
}

func TestServerStatus(t *testing.T) {
	t.Parallel()
	s := serve(t, ServerConfig{})
	url := s.URL("film")
	c := dialRaw(t, s)
	id := c.open(url, "RTP/AVP/TCP;unicast;interleaved=4-5")
	for _, tc := range []struct {
		name, method, url string
		head              []field
		want              int
	}{
		{"unknown method", "RECORD", url, []field{id}, 501},
		{"unknown session", "PLAY", url, []field{{"Session", "4711"}}, 454},
		{"no session", "PLAY", url, nil, 454},
		{"pause before play", "PAUSE", url, []field{id}, 455},
		{"aggregate setup", "SETUP", url, []field{{"Transport", "RTP/AVP;client_port=2-3"}}, 459},
		{"unknown track", "SETUP", url + "/stream=7", []field{{"Transport", "RTP/AVP;client_port=2-3"}}, 404},
		{"track twice", "SETUP", url + "/stream=0", []field{id, {"Transport", "RTP/AVP;client_port=2-3"}}, 455},
		{"no transport", "SETUP", url + "/stream=0", nil, 461},
		{"multicast", "SETUP", url + "/stream=0", []field{{"Transport", "RTP/AVP;multicast"}}, 461},
		{"odd channels", "SETUP", url + "/stream=1", []field{id, {"Transport", "RTP/AVP/TCP;interleaved=9-7"}}, 461},
		{"beyond the end", "PLAY", url, []field{id, {"Range", "npt=999-"}}, 457},
		{"bad range", "PLAY", url, []field{id, {"Range", "bytes=0-"}}, 457},
		{"bad url", "DESCRIBE", "rtsp://[::1", nil, 400},
		{"options", "OPTIONS", "*", nil, 200},
		{"keep-alive", "GET_PARAMETER", url, []field{id}, 200},
		{"teardown", "TEARDOWN", url, []field{id}, 200},
		{"gone", "GET_PARAMETER", url, []field{id}, 454},
	} {
		if got := c.ask(tc.method, tc.url, tc.head...).status(); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
	if n := len(s.Sessions()); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

func TestServerSurvivesGarbage(t *testing.T) {
	t.Parallel()
	s := serve(t, ServerConfig{})
	for _, in := range []string{
		"\x16\x03\x01\x02", "GET / HTTP/1.1\r\n\r\n", "PLAY\r\n\r\n", "$\xff\xff\xff", "$\x00\x00\x04junk$\x01\x00\x01x",
		"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", strings.Repeat("A", maxHead+1), "SETUP rtsp://x/stream=0 RTSP/1.0\r\nTransport: ;;;,,\r\n\r\n",
		"SETUP rtsp://x/stream=99999999999999999999 RTSP/1.0\r\n\r\n", "PLAY % RTSP/1.0\r\n\r\n",
	} {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(in)); err != nil {
			t.Logf("%.20q: %v", in, err) // closed by the server while we wrote
		}
		c.Close()
	}
	if m := dialRaw(t, s).ask("OPTIONS", s.URL("film")); m.status() != 200 {
		t.Errorf("afterwards: %s", m.start)
	}
}

func TestServerTimeout(t *testing.T) {
	t.Parallel()
	s := serve(t, ServerConfig{Timeout: 500 * time.Millisecond, AnnounceTimeout: true})
	c := dialRaw(t, s)
	m := c.ask("SETUP", s.URL("film")+"/stream=0", field{"Transport", "RTP/AVP;unicast;client_port=2-3"})
	if !strings.HasSuffix(m.get("Session"), ";timeout=1") {
		t.Errorf("Session: %s", m.get("Session"))
	}
	id, _, _ := strings.Cut(m.get("Session"), ";")
	if _, err := s.Await(testContext(t), func(e ServerEvent) bool { return e.Kind == ServerTimeout && e.Session == id }); err != nil {
		t.Fatal(err)
	}
	if got := c.ask("GET_PARAMETER", s.URL("film"), field{"Session", id}).status(); got != 454 {
		t.Errorf("status %d", got)
	}
}

// TestServerBinding: GstRtspServer ends a session with the last connection that named it, other
// servers keep it.
func TestServerBinding(t *testing.T) {
	t.Parallel()
	for _, bound := range []bool{true, false} {
		t.Run(fmt.Sprint("bound ", bound), func(t *testing.T) {
			s := serve(t, ServerConfig{BoundSession: bound})
			first, second := dialRaw(t, s), dialRaw(t, s)
			id := first.open(s.URL("film"), "RTP/AVP;unicast;client_port=2-3")
			if got := first.ask("PLAY", s.URL("film"), id).status(); got != 200 {
				t.Fatalf("PLAY: %d", got)
			}
			if got := second.ask("GET_PARAMETER", s.URL("film"), id).status(); got != 200 {
				t.Fatalf("over the second connection: %d", got)
			}
			second.c.Close()
			if bound {
				_, err := s.Await(testContext(t), func(e ServerEvent) bool { return e.Kind == ServerGone && e.Session == id.value })
				if err != nil {
					t.Fatal(err)
				}
			}
			want := map[bool]int{true: 454, false: 200}[bound]
			if got := first.ask("GET_PARAMETER", s.URL("film"), id).status(); got != want {
				t.Errorf("over the first: %d, want %d", got, want)
			}
		})
	}
}

func TestServerTeardownElsewhere(t *testing.T) {
	t.Parallel()
	s := serve(t, Live555Server())
	p := play(t, PlayerConfig{URL: s.URL("film"), Silence: 2 * time.Second})
	reach(t, p, 0)
	other := dialRaw(t, s)
	if got := other.ask("TEARDOWN", s.URL("film"), field{"Session", p.Session()}).status(); got != 200 {
		t.Fatalf("TEARDOWN: %d", got)
	}
	r := ended(t, p)
	if r.Reason != EndedSilence || r.TeardownStatus != 454 {
		t.Errorf("reason %q, status of the player's own TEARDOWN %d", r.Reason, r.TeardownStatus)
	}
}

func TestServerMediaOrder(t *testing.T) {
	t.Parallel()
	for _, early := range []bool{true, false} {
		s := serve(t, ServerConfig{EarlyMedia: early, Burst: true, Film: Film{Duration: time.Second}})
		c := dialRaw(t, s)
		id := c.open(s.URL("film"), "RTP/AVP/TCP;unicast;interleaved=0-1", "RTP/AVP/TCP;unicast;interleaved=2-3")
		m := c.ask("PLAY", s.URL("film"), id, field{"Range", "npt=0.5-"})
		if m.status() != 200 || !early && c.frames > 0 {
			t.Errorf("early %v: %s after %d frames", early, m.start, c.frames)
		}
		if n := strings.Count(m.get("RTP-Info"), "url="); n != 2 {
			t.Errorf("RTP-Info: %s", m.get("RTP-Info"))
		}
	}
}

func TestServerRangeEnd(t *testing.T) {
	t.Parallel()
	for _, u := range []Unit{UnitNPT, UnitClock, UnitSMPTE} {
		t.Run(string(u), func(t *testing.T) {
			t.Parallel()
			s := serve(t, ServerConfig{Unit: u, Film: Film{Duration: 46 * time.Second}})
			p := play(t, PlayerConfig{URL: s.URL("film"), TCP: true, Start: 45600 * time.Millisecond, SDPRange: true, Depth: 100 * time.Millisecond})
			r := ended(t, p)
			whole(t, r)
			seg := r.Segments[0]
			first, _ := seg.First()
			last, _ := seg.Last()
			if first.NPT != 45*time.Second || last.Number != 46*25-1 || *seg.Replied != 45*time.Second {
				t.Errorf("from %v to picture %d, reply %v", first.NPT, last.Number, *seg.Replied)
			}
			asked := s.Requests("PLAY")[0].Header("range")
			if !strings.HasPrefix(asked, string(u)+"=") || strings.HasSuffix(asked, "-") {
				t.Errorf("Range: %s", asked)
			}
		})
	}
}

func TestServerLive(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, tcp bool) {
		s := serve(t, LiveServer())
		p := play(t, PlayerConfig{URL: s.URL("cam"), TCP: tcp})
		first, err := p.First(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		q := play(t, PlayerConfig{URL: s.URL("cam"), TCP: tcp})
		reach(t, p, first.NPT+400*time.Millisecond)
		second, err := q.First(testContext(t))
		if err != nil || second.NPT <= first.NPT {
			t.Errorf("joined at %v after %v: %v", second.NPT, first.NPT, err)
		}
		seg := p.Result().Segments[0]
		if seg.Replied != nil || len(seg.ClockError) != 0 {
			t.Errorf("a live reply has a position: %+v", seg.Replied)
		}
	})
}

// TestServerBurst: a server faster than real time fills a player that reads on, and is held up
// by one that does not.
func TestServerBurst(t *testing.T) {
	t.Parallel()
	s := serve(t, ServerConfig{Burst: true, Film: Film{Duration: 60 * time.Second, Bitrate: 4_000_000}, PacketLog: -1})
	all := play(t, PlayerConfig{URL: s.URL("film"), TCP: true})
	reach(t, all, 59*time.Second)
	if pic, ok := all.Shown(time.Now()); ok && pic.NPT > 55*time.Second {
		t.Errorf("shows %v already", pic.NPT)
	}
	held := play(t, PlayerConfig{URL: s.URL("film"), TCP: true, ReadAhead: time.Second, Depth: 100 * time.Millisecond})
	reach(t, held, 0)
	if err := held.PauseLocal(); err != nil {
		t.Fatal(err)
	}
	stood, _ := held.Shown(time.Now())
	some := play(t, PlayerConfig{URL: s.URL("film"), TCP: true, ReadAhead: time.Second, Depth: 300 * time.Millisecond})
	reach(t, some, 1500*time.Millisecond)
	if pic, _ := some.Newest(); pic.NPT > 10*time.Second {
		t.Errorf("read %v ahead", pic.NPT)
	}
	if err := some.Seek(testContext(t), 30*time.Second); err != nil {
		t.Errorf("seek of a player that is held up: %v", err)
	}
	reach(t, some, 30*time.Second)
	if pic, _ := held.Newest(); pic.NPT > stood.NPT+2*time.Second || len(s.Requests("PAUSE")) != 1 {
		t.Errorf("a player paused by itself at %v read on to %v, %d PAUSE", stood.NPT, pic.NPT, len(s.Requests("PAUSE")))
	}
	if err := held.ResumeLocal(); err != nil {
		t.Fatal(err)
	}
	reach(t, held, stood.NPT+2*time.Second)
}

func TestServerSeesReports(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, tcp bool) {
		s := serve(t, ServerConfig{ReportEvery: 100 * time.Millisecond})
		ctx := testContext(t)
		events := s.Events(ctx)
		p := play(t, PlayerConfig{URL: s.URL("film"), TCP: tcp, Reports: 200 * time.Millisecond, Punch: PunchGst})
		reach(t, p, 0)
		sess := s.Sessions()[0]
		for e := range events {
			if e.Kind == ServerReport && e.SSRC == sess.SSRC[AudioTrack] {
				break
			}
		}
		if sess = s.Sessions()[0]; sess.Packets == 0 || !sess.Playing || sess.TCP != tcp || len(sess.Log) == 0 || sess.UserAgent == "" {
			t.Errorf("session %+v", sess)
		}
		whole(t, p.Result())
	})
}
