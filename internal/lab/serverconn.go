package lab

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// serverConn is one control connection. Its requests are answered one after the other.
type serverConn struct {
	srv    *Server
	wire   *wireConn
	remote netip.AddrPort
	local  netip.AddrPort
}

func newServerConn(s *Server, c *net.TCPConn) *serverConn {
	return &serverConn{
		srv: s, wire: &wireConn{Conn: c},
		remote: unmapped(c.RemoteAddr().(*net.TCPAddr).AddrPort()),
		local:  unmapped(c.LocalAddr().(*net.TCPAddr).AddrPort()),
	}
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func (c *serverConn) serve() {
	defer c.wire.Close()
	r := bufio.NewReaderSize(c.wire, 8192)
	for {
		u, err := readUnit(r)
		if err != nil {
			return
		}
		if u.msg == nil {
			c.srv.interleaved(c, u.channel, u.payload)
			continue
		}
		if u.msg.isReply() {
			continue
		}
		if !c.answer(u.msg) {
			return
		}
	}
}

// answer handles one request; false ends the connection.
func (c *serverConn) answer(m *message) bool {
	method, target, err := m.requestLine()
	if err != nil {
		return false
	}
	x := c.srv.session(m.get("Session"))
	if x != nil {
		x.touch()
		x.lastConn.Store(c)
	}
	reply, then := c.handle(x, method, target, m)
	reply.head = append([]field{{"CSeq", m.get("CSeq")}, {"Server", c.srv.cfg.Name}}, reply.head...)
	ev := ServerEvent{
		Kind: ServerRequest, Remote: c.remote, Method: method, URL: target,
		Head: headLines(m), Status: reply.status(), Session: strings.Split(reply.get("Session"), ";")[0],
	}
	if x != nil {
		ev.NPT, ev.Session = x.position().Seconds(), x.id
	}
	c.srv.log.add(ev)
	if err := c.wire.send(reply); err != nil {
		return false
	}
	if then != nil {
		then()
	}
	return true
}

// handle returns the reply to a request and what is to be done once it is sent, or nil.
func (c *serverConn) handle(x *serverSession, method, target string, m *message) (*message, func()) {
	if status := c.srv.refused(method); status != 0 {
		return response(status), nil
	}
	u, err := url.Parse(target)
	if err != nil || len(target) > 4096 {
		return response(400), nil
	}
	if slices.Contains(c.srv.cfg.Missing, strings.TrimPrefix(u.Path, "/")) {
		return response(404), nil
	}
	switch method {
	case "OPTIONS":
		return response(200, field{"Public", "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, GET_PARAMETER, TEARDOWN"}), nil
	case "DESCRIBE":
		return c.describe(target), nil
	case "SETUP":
		return c.setup(x, target, m), nil
	}
	if method != "PLAY" && method != "PAUSE" && method != "TEARDOWN" && method != "GET_PARAMETER" {
		return response(501), nil
	}
	if x == nil {
		if method == "GET_PARAMETER" && m.get("Session") == "" {
			return response(200), nil
		}
		return response(454), nil
	}
	var reply *message
	var then func()
	switch method {
	case "PLAY":
		reply, then = x.play(c, m)
	case "PAUSE":
		reply = x.pause()
	case "TEARDOWN":
		c.srv.take(func(other *serverSession) bool { return other == x })
		x.close()
		reply = response(200)
	default:
		reply = response(200)
	}
	reply.add("Session", c.srv.sessionHeader(x))
	return reply, then
}

func (c *serverConn) describe(target string) *message {
	cfg := c.srv.cfg
	base := strings.TrimSuffix(target, "/")
	slash := "/"
	if cfg.AbsoluteControl {
		slash = ""
	}
	m := response(200, field{"Content-Type", "application/sdp"}, field{"Content-Base", base + slash})
	m.body = []byte(c.srv.sdp(base, c.local.Addr()))
	return m
}

// sdp describes the film; its tracks are base/stream=N.
func (s *Server) sdp(base string, host netip.Addr) string {
	family, any := "IP4", "0.0.0.0"
	if host.Is6() {
		family, any = "IP6", "::"
	}
	u := s.cfg.Unit
	span := string(u) + "=" + formatTime(u, 0, 0) + "-" + formatTime(u, s.cfg.Duration, 3)
	if s.cfg.Live {
		span = "npt=now-"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "v=0\r\no=- 8470 1 IN %s %s\r\ns=Lab film\r\nc=IN %s %s\r\nt=0 0\r\na=control:*\r\na=range:%s\r\n",
		family, host, family, any, span)
	control := "stream="
	if s.cfg.AbsoluteControl {
		control = base + "/stream="
	}
	fmt.Fprintf(&b, "m=video 0 RTP/AVP %d\r\na=rtpmap:%d H264/%d\r\n"+
		"a=fmtp:%d packetization-mode=1;profile-level-id=42C00D;sprop-parameter-sets=Z0LADdoFBfJNQE0CwQ==,aM48gA==\r\n"+
		"a=framerate:%d\r\na=control:%s%d\r\n", videoPT, videoPT, videoClock, videoPT, s.cfg.FPS, control, VideoTrack)
	if s.cfg.NoAudio {
		return b.String()
	}
	fmt.Fprintf(&b, "m=audio 0 RTP/AVP %d\r\na=rtpmap:%d mpeg4-generic/%d/1\r\n"+
		"a=fmtp:%d streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1408\r\n"+
		"a=control:%s%d\r\n", audioPT, audioPT, audioClock, audioPT, control, AudioTrack)
	return b.String()
}

// setup makes a session, or adds a track to x.
func (c *serverConn) setup(x *serverSession, target string, m *message) *message {
	cut := strings.LastIndex(target, "/stream=")
	if cut < 0 {
		return response(459)
	}
	n, err := strconv.Atoi(target[cut+len("/stream="):])
	if err != nil || n < 0 || n >= c.srv.cfg.tracks() {
		return response(404)
	}
	t, err := parseTransport(m.get("Transport"))
	switch {
	case err != nil, t.multicast, t.tcp && c.srv.cfg.NoTCP, !t.tcp && c.srv.cfg.NoUDP, !t.tcp && t.client[0] < 0:
		return response(461)
	case x == nil && m.get("Session") != "":
		return response(454)
	}
	fresh := x == nil
	if fresh {
		x = newServerSession(c, target[:cut], m.get("User-Agent"))
	}
	header, status := x.setup(c, n, t)
	if status != 200 {
		if fresh {
			x.close()
		}
		return response(status)
	}
	if fresh && !c.srv.add(x) {
		x.close()
		return response(453)
	}
	return response(200, field{"Transport", header}, field{"Session", c.srv.sessionHeader(x)})
}

// interleaved takes a frame from a player: RTCP on odd channels keeps its session alive.
func (s *Server) interleaved(c *serverConn, channel uint8, payload []byte) {
	s.mu.Lock()
	var found *serverSession
	for _, x := range s.sessions {
		if x.carrier() == c && x.ownsChannel(channel) {
			found = x
		}
	}
	s.mu.Unlock()
	if found != nil {
		found.report(payload)
	}
}

// response returns a reply without CSeq.
func response(status int, head ...field) *message {
	text := map[int]string{
		200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 453: "Not Enough Bandwidth",
		454: "Session Not Found", 455: "Method Not Valid in This State", 457: "Invalid Range",
		459: "Aggregate Operation Not Allowed", 461: "Unsupported Transport", 501: "Not Implemented",
		503: "Service Unavailable",
	}[status]
	if text == "" {
		text = "Refused"
	}
	return &message{start: fmt.Sprintf("RTSP/1.0 %d %s", status, text), head: head}
}

func headLines(m *message) []string {
	out := make([]string, 0, len(m.head))
	for _, f := range m.head {
		out = append(out, f.name+": "+f.value)
	}
	return out
}

func splitField(line string) field {
	name, value, _ := strings.Cut(line, ":")
	return field{name, strings.TrimSpace(value)}
}
