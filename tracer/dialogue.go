package tracer

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/rtsp"
)

// request remembers a request until its reply, and what can be told from it alone.
func (d *Decoder) request(c *conn, m *rtsp.Message, at time.Time) {
	if ua := m.Get("User-Agent"); ua != "" {
		c.userAgent = ua
	}
	r := remember(m)
	r.at = at
	d.stats.Undecoded += uint64(c.wait(r))
	if s := d.named(c, m.Get("Session")); s != nil {
		d.adopt(c, s, at)
		s.cseq = max(s.cseq, r.cseq)
		if m.Method() == "TEARDOWN" {
			s.stopped = true
		}
	}
}

// named returns the session that a Session header names, seen from connection c.
func (d *Decoder) named(c *conn, header string) *sess {
	if header == "" {
		return nil
	}
	h, err := rtsp.ParseSession(header)
	if err != nil {
		return nil
	}
	return d.sessions[sessKey{c.flow.Terminal.Addr(), c.flow.Server, h.ID}]
}

// adopt makes c the connection that controls s.
func (d *Decoder) adopt(c *conn, s *sess, at time.Time) {
	s.touched = at
	if !s.dormant.IsZero() {
		d.revive(s, at)
	}
	if s.control == c.flow && c.has(s) {
		return
	}
	s.control, s.serving = c.flow, false
	s.rec.Steered = c.steered
	if !c.has(s) {
		c.hold(s)
	}
}

// hold adds s to the sessions of c, in the place of those that are over.
func (c *conn) hold(s *sess) {
	c.sessions = append(slices.DeleteFunc(c.sessions, func(x *sess) bool { return x.rec.State == session.Ended }), s)
}

func (c *conn) has(s *sess) bool {
	for _, x := range c.sessions {
		if x == s {
			return true
		}
	}
	return false
}

// reply matches a reply to its request and applies both.
func (d *Decoder) reply(c *conn, m *rtsp.Message, at time.Time) {
	if m.Status() < 200 {
		return // 100 Continue: the reply is still to come
	}
	r, ok := c.take(m)
	if !ok {
		d.orphan(c, m, at)
		return
	}
	d.answered(c, r, m, at)
	if len(c.pending) == 0 {
		d.sink.Replied(c.flow)
	}
}

func (d *Decoder) answered(c *conn, req request, m *rtsp.Message, at time.Time) {
	good := m.Status() < 300
	s := d.named(c, req.session)
	if s == nil {
		s = d.named(c, m.Get("Session"))
	}
	if s != nil && m.Status() == 454 { // Session Not Found
		d.end(s, at)
		return
	}
	switch req.method {
	case "DESCRIBE":
		if good {
			d.described(c, req, m, at)
		}
	case "SETUP":
		if good {
			d.setUp(c, s, req, m, at)
		}
	case "PLAY":
		if good && s != nil {
			d.played(s, req, m, at)
		}
	case "PAUSE":
		if good && s != nil {
			d.haltedAt(s, m, at)
		}
	case "TEARDOWN":
		// A TEARDOWN of one stream's control URL ends that stream only (RFC 2326 §10.7).
		if good && s != nil && d.wholeSession(s, req) {
			d.end(s, at)
		}
	}
}

func (d *Decoder) wholeSession(s *sess, req request) bool {
	if len(s.tracks) < 2 {
		return true
	}
	for _, t := range s.tracks {
		if rtsp.SameURL(t.control, req.url) {
			return false
		}
	}
	return true
}

// described keeps what a DESCRIBE said, for the SETUPs that follow on this or another
// connection of the terminal.
func (d *Decoder) described(c *conn, req request, m *rtsp.Message, at time.Time) {
	if len(m.Body()) > maxSDP {
		d.stats.Undecoded++
		return
	}
	sdp, err := rtsp.ParseSDP(m.Body())
	if err != nil {
		d.stats.Undecoded++
		return
	}
	if len(sdp.Media) > maxTracks {
		sdp.Media = slices.Clone(sdp.Media[:maxTracks])
	}
	x := &content{url: rtsp.StripUserinfo(req.url), base: rtsp.BaseURL(m, req.url), sdp: sdp, at: at}
	if sdp.Range != nil {
		x.raw = sdp.Range.String()
	}
	c.content = x
	d.keepContent(contentKey{c.flow.Terminal.Addr(), strings.TrimSuffix(x.url, "/")}, x)
}

// contentOf finds the description a SETUP belongs to: that of its connection, or of an
// earlier one of the same terminal whose URL leads to the track's.
func (d *Decoder) contentOf(c *conn, setupURL string) *content {
	if c.content != nil {
		return c.content
	}
	u := rtsp.StripUserinfo(setupURL)
	for range maxPath {
		if x, ok := d.contents[contentKey{c.flow.Terminal.Addr(), strings.TrimSuffix(u, "/")}]; ok {
			return x
		}
		if u = u[:max(strings.LastIndexByte(u, '/'), 0)]; u == "" {
			break
		}
	}
	return nil
}

// setUp opens a session or adds a track to it.
func (d *Decoder) setUp(c *conn, s *sess, req request, m *rtsp.Message, at time.Time) {
	tr, err := rtsp.ParseTransport(m.Get("Transport"))
	if err != nil || len(tr) == 0 {
		d.stats.Undecoded++
		return
	}
	if s == nil {
		if s = d.open(c, req, m, at); s == nil {
			return
		}
	}
	d.adopt(c, s, at)
	if h, err := rtsp.ParseSession(m.Get("Session")); err == nil && h.Timeout > 0 {
		s.timeout = min(h.Timeout, maxTimeout)
	}
	offered, _ := rtsp.ParseTransport(req.transport)
	t := s.track(d.contentOf(c, req.url), req.url)
	if t == nil {
		d.stats.Refused++
		return
	}
	d.unwatch(t)
	d.carry(c, s, t, tr[0], offered)
	s.rec.Opaque = !strings.HasPrefix(strings.ToUpper(tr[0].Profile), "RTP/AVP") // SRTP, x-real-rdt
	d.changed(s, at)
}

// open makes the session of a first SETUP reply.
func (d *Decoder) open(c *conn, req request, m *rtsp.Message, at time.Time) *sess {
	h, err := rtsp.ParseSession(m.Get("Session"))
	if err != nil || h.ID == "" {
		d.stats.Refused++
		return nil
	}
	if !d.roomForSession(c.flow.Terminal.Addr()) {
		return nil
	}
	s := d.fresh(c, at)
	s.key.id = h.ID
	s.version = m.Version()
	x := d.contentOf(c, req.url)
	if x == nil {
		x = &content{url: rtsp.StripUserinfo(req.url), base: req.url}
	}
	s.describe(x)
	s.profile = profileOf(d.cfg.Profiles, c.userAgent)
	d.enter(s)
	return s
}

// fresh makes a session controlled by c, with no content yet.
func (d *Decoder) fresh(c *conn, at time.Time) *sess {
	ip := c.flow.Terminal.Addr()
	name, aor := d.cfg.Name(ip)
	id, number := d.newID()
	s := &sess{
		number: number,
		key:    sessKey{terminal: ip, server: c.flow.Server}, control: c.flow,
		version: rtsp.Version10, timeout: time.Minute, touched: at,
		play: play{scale: 1, speed: 1},
		rec: session.Record{
			ID: id, Gateway: d.cfg.Gateway,
			Terminal: session.Terminal{Name: name, IP: ip},
			Protocol: session.RTSP, Transport: session.TransportUnknown,
			Server: c.flow.Server, State: session.Setup, Started: at, Steered: c.steered, Lossy: c.gaps,
		},
	}
	if aor != "" {
		s.rec.AoR = &aor
	}
	if c.userAgent != "" {
		s.rec.UserAgent = session.Ptr(c.userAgent)
	}
	c.hold(s)
	d.byID[s.rec.ID] = s
	d.stats.Sessions++
	return s
}

// describe copies into s what its description says.
func (s *sess) describe(x *content) {
	s.rec.URL = session.Ptr(x.url)
	s.base, s.sdpRaw = x.base, x.raw
	s.live, s.rec.Seekable = x.sdp.Live, x.sdp.Seekable
	if x.sdp.Duration > 0 {
		s.rec.Duration = session.Ptr(x.sdp.Duration.Seconds())
		s.end = session.NPT(x.sdp.End)
	}
	if x.sdp.Range != nil {
		s.scale = x.sdp.Range.Scale()
	}
}

// track returns the track of a SETUP URL, a new one when it was not set up before; nil when
// there are too many.
func (s *sess) track(x *content, setupURL string) *track {
	for _, t := range s.tracks {
		if rtsp.SameURL(t.control, setupURL) {
			return t
		}
	}
	if len(s.tracks) >= maxTracks {
		return nil
	}
	t := &track{id: len(s.tracks), control: setupURL, channel: -1}
	if x != nil {
		for i, m := range x.sdp.Media {
			if rtsp.MatchControl(setupURL, x.base, m.Control) || len(x.sdp.Media) == 1 {
				t.of(i, m)
				break
			}
		}
	}
	s.tracks = append(s.tracks, t)
	return t
}

// of copies into t what its m= section says.
func (t *track) of(i int, m rtsp.MediaDescription) {
	t.id, t.media, t.language = i, m.Media, m.Language
	if len(m.PTs) > 0 {
		p := m.PTs[0]
		t.codec, t.rate, t.pt, t.havePT = p.Codec, p.ClockRate, p.PT, len(m.PTs) == 1
		t.mpegts = isMPEGTS(p.Codec, p.PT)
	}
}

func isMPEGTS(codec string, pt uint8) bool { return strings.EqualFold(codec, "MP2T") || pt == 33 }

// carry applies the Transport of a SETUP reply, completed by what was offered.
func (d *Decoder) carry(c *conn, s *sess, t *track, tr rtsp.TransportSpec, offered []rtsp.TransportSpec) {
	var offer rtsp.TransportSpec
	if len(offered) > 0 {
		offer = offered[0]
	}
	if tr.SSRC != nil {
		t.ssrc, t.haveSSRC = *tr.SSRC, true
	}
	switch {
	case tr.Multicast:
		s.rec.Transport = session.Multicast
	case tr.HasInterleaved:
		s.rec.Transport = session.TCP
		d.interleave(c, s, t, tr.Interleaved)
	case offer.HasInterleaved && tr.TCP():
		s.rec.Transport = session.TCP
		d.interleave(c, s, t, offer.Interleaved)
	default:
		s.rec.Transport = session.UDP
		d.datagrams(c, s, t, tr, offer)
	}
}

func (d *Decoder) interleave(c *conn, s *sess, t *track, pair [2]int) {
	if pair[0] < 0 || pair[0] > 255 {
		d.stats.Undecoded++
		return
	}
	if c.channels == nil {
		c.channels = map[uint8]channel{}
	}
	t.channel = pair[0]
	c.channels[uint8(pair[0])] = channel{s, t, false}
	if pair[1] > 0 && pair[1] <= 255 {
		c.channels[uint8(pair[1])] = channel{s, t, true}
	}
	all := make([]bpf.Channel, 0, len(s.tracks))
	for _, t := range s.tracks {
		if t.channel >= 0 {
			all = append(all, bpf.Channel{Number: uint8(t.channel), PT: t.pt, SSRC: t.ssrc})
		}
	}
	d.sink.Channels(c.flow, all)
}

// datagrams finds the two flows of a UDP track. Servers send to the TCP peer unless
// destination says otherwise, and from it unless source does.
func (d *Decoder) datagrams(c *conn, s *sess, t *track, tr, offer rtsp.TransportSpec) {
	ports := tr.ClientPort
	if ports[0] == 0 {
		ports = offer.ClientPort
	}
	if ports[0] == 0 {
		d.stats.Undecoded++
		return
	}
	from := c.flow.Server.Addr()
	if a, err := netip.ParseAddr(tr.Source); err == nil {
		from = a.Unmap()
	}
	pair := func(i int) bpf.Flow {
		return bpf.Flow{
			Terminal: netip.AddrPortFrom(c.flow.Terminal.Addr(), uint16(ports[i])),
			Server:   netip.AddrPortFrom(from, uint16(tr.ServerPort[i])),
		}
	}
	t.rtp = pair(0)
	d.watch(s, t, t.rtp, false)
	if ports[1] > 0 {
		t.rtcp = pair(1)
		d.watch(s, t, t.rtcp, true)
	}
}

// haltedAt applies the reply to a PAUSE; only VLC's server says where it stopped.
func (d *Decoder) haltedAt(s *sess, m *rtsp.Message, at time.Time) {
	s.pausePlay(at)
	if r := s.spot(m.Get("Range")); r.start != nil && s.reference() == nil {
		s.halt, s.halted = session.NPT(*r.start), true
	}
	d.changed(s, at)
}

func parseScale(v string) float64 {
	x, err := strconv.ParseFloat(v, 64)
	if err != nil || x == 0 || math.IsNaN(x) || math.Abs(x) > 32 {
		return 1
	}
	return x
}
