package tracer

import (
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/mms"
	"scas/tracer/rtsp"
)

// Detail is all that is known of a session that a transfer needs.
type Detail struct {
	Record      session.Record // with the position at the time asked for
	Control     bpf.Flow       // newest control connection
	RTSPSession string         // the Session header's id
	Version     string         // RTSP/1.0 or RTSP/2.0
	BaseURL     string         // what an aggregate request names
	ContentURL  string         // of the DESCRIBE, without userinfo
	Scale       rtsp.Scale     // how the server writes media times
	SDPRange    string         // a=range of the SDP: part of what makes two contents the same
	Timeout     time.Duration  // after which the server drops a silent session
	LastCSeq    int            // newest one the player used
	Depth       time.Duration  // of the player's buffer
	Tracks      []TrackDetail
	FirstMedia  time.Time // since the last PLAY; zero: none
	LastMedia   time.Time
	Receipt     time.Time // newest receiver report of the terminal that names one of the sources
	Unreachable time.Time // newest word of the terminal that media over UDP do not reach it; zero: none
	Teardown    bool      // the player sent TEARDOWN
	Terminated  bool      // it did, or the session is over
	MMS         *MMSDetail
}

// MMSDetail is what a transfer needs of a session that is MMS, by TCP or HTTP; nil for others.
type MMSDetail struct {
	Path            string // OpenFile's name, or the path of the request; for mms.SamePath
	OpenFileID      uint32 // MMST: of the newest StartPlaying
	PlayIncarnation uint32 // likewise; StopPlaying and EndOfStream name it
	LocationID      uint32 // of the newest media packet
	HaveLocation    bool
	Packets         uint64 // ASF data packets in the file; 0: unknown
	Counts          bool   // the player ends when it has that many, and not before (mms.md 6.5)
	Preroll         time.Duration
	PacketSize      uint32 // largest ASF data packet
	Media           mms.MediaSignature
	HaveMedia       bool   // Media tells the packets that come now
	Boundary        uint32 // MMST, watched: TCP sequence number at which a unit of the server begins, behind the newest bytes read
	HaveBoundary    bool
	ToServerSeq     uint16 // MMST: of the newest message of each direction
	ToViewerSeq     uint16
	ClientGUID      string    // MMSH
	ClientID        uint32    // MMSH: of the newest reply
	Ended           time.Time // when the stream ended by itself; zero: it did not
	Left            time.Time // MMSH: when the newest Play connection closed; the player may be seeking. zero: it is open
}

// TrackDetail is one media stream of a Detail.
type TrackDetail struct {
	ID        int
	SSRC      uint32
	HaveSSRC  bool
	PT        uint8
	ClockRate uint32
	Channel   int      // of interleaved RTP; -1 for UDP
	RTP, RTCP bpf.Flow // UDP
	Control   string   // URL
	LastMedia time.Time
	Packets   uint64
	Seq       session.Seq
	RTPTime   session.RTPTime
}

// Detail returns session id as it is at now, read from the kernel to the packet. ok is false
// when there is no such session.
func (l *Live) Detail(id string, now time.Time) (x Detail, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.d.byID[id]
	if !ok || !s.dormant.IsZero() {
		return Detail{}, false
	}
	l.refresh(s)
	x = s.detail(now)
	if c := l.d.conns[s.control]; c != nil && x.MMS != nil && !s.rec.Steered {
		h := &c.toViewer
		x.MMS.Boundary, x.MMS.HaveBoundary = h.order.next, h.order.started && h.synced && len(h.buf) == 0
	}
	return x, true
}

// Records returns all sessions with their positions at now, the oldest first.
func (l *Live) Records(now time.Time) []session.Record {
	all := l.table.List()
	for i := range all {
		if r, ok := l.Record(all[i].ID, now); ok {
			all[i] = r
		}
	}
	return all
}

// Record returns one session with its position at now.
func (l *Live) Record(id string, now time.Time) (session.Record, bool) {
	r, ok := l.table.Get(id)
	if !ok || r.State == session.Ended {
		return r, ok
	}
	if x, ok := l.Detail(id, now); ok {
		return x.Record, true
	}
	return r, true
}

// ByFlow returns the ids of the sessions that connection f controls, the oldest first.
func (l *Live) ByFlow(f bpf.Flow) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.d.conns[f]
	if !ok {
		return nil
	}
	var ids []string
	for _, s := range c.sessions {
		if s.control == f {
			ids = append(ids, s.rec.ID)
		}
	}
	return ids
}

// refresh reads the exact counters of a session's media from the kernel.
func (l *Live) refresh(s *sess) {
	if s.film != nil {
		l.refreshFilm(s)
		return
	}
	var tcp bpf.TCPStats
	var haveTCP bool
	if !s.rec.Steered {
		tcp, haveTCP = l.k.TCPStats(s.control)
		s.rec.Lossy = s.rec.Lossy || haveTCP && tcp.Lossy
	}
	for _, t := range s.tracks {
		switch {
		case t.channel < 0 && t.rtp.Terminal.IsValid():
			if m, ok := l.k.MediaStats(t.rtp); ok && m.HaveMedia {
				s.rec.Lossy = s.rec.Lossy || m.Lossy
				s.refused = later(s.refused, m.Unreachable)
				t.counted(m)
				s.exact(t, session.Seq(m.ExtSeq), session.RTPTime(m.RTPTime), m.SSRC, m.Last)
			}
		case haveTCP:
			for _, c := range tcp.Channels {
				if int(c.Channel) == t.channel && c.HaveMedia {
					t.stats.packets = c.Packets
					t.stats.base, t.stats.max = 1, c.Packets // TCP loses nothing
					s.exact(t, session.Seq(c.Seq), session.RTPTime(c.RTPTime), c.SSRC, c.Last)
				}
			}
		}
	}
}

// pingSize is that of a Ping, which is no media ([MS-MMSP] 2.2.4.9), bytes.
const pingSize = 48

// refreshFilm adds what the kernel counted behind the newest packet seen of a film.
func (l *Live) refreshFilm(s *sess) {
	c := l.d.conns[s.control]
	if c == nil || s.rec.Steered || s.rec.State != session.Playing || l.d.cfg.NoRTP {
		return
	}
	tcp, ok := l.k.TCPStats(s.control)
	if !ok {
		return
	}
	s.rec.Lossy = s.rec.Lossy || tcp.Lossy
	end := c.toViewer.order.next
	if c.samples && (!c.toViewer.order.started || int32(c.sampled-end) > 0) {
		end = c.sampled
	}
	n := int64(int32(tcp.ToTerminal.HighestSeq - end))
	s.film.beyond(s, n)
	if n > pingSize && tcp.ToTerminal.Last.After(s.film.lastAt) {
		s.film.passedAt = tcp.ToTerminal.Last
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// counted takes the kernel's counters of a UDP track.
func (t *track) counted(m bpf.MediaStats) {
	t.stats.packets = m.Packets
	t.stats.base, t.stats.max = 1, uint64(int64(m.Packets)+m.Lost)
	t.stats.jitter = float64(m.Jitter)
}

// exact moves the position of a track to the newest packet the kernel saw, if samples have
// told already where its PLAY is.
func (s *sess) exact(t *track, seq session.Seq, ts session.RTPTime, ssrc uint32, at time.Time) {
	if t.read.waiting || !t.haveSSRC || t.ssrc != ssrc || !at.After(t.read.lastAt) {
		return
	}
	t.last = at
	s.media(t, rtpHead{seq: seq, ts: ts, ssrc: ssrc}, at)
}

func (f *film) detail(s *sess) *MMSDetail {
	x := &MMSDetail{
		Path: f.path, OpenFileID: f.openFile, PlayIncarnation: f.incarnation, LocationID: f.location, HaveLocation: f.seen,
		Preroll: f.preroll, PacketSize: f.size, ClientGUID: f.asked.ClientGUID, ClientID: f.clientID, Ended: f.over, Left: f.left,
	}
	x.Packets, x.Counts = f.packets, f.player == filmLibav
	x.Media, x.HaveMedia = f.signature(s.rec.Protocol == session.MMSH)
	if f.talk != nil {
		x.ToServerSeq, x.ToViewerSeq = f.talk.seq[bpf.ToServer], f.talk.seq[bpf.ToTerminal]
	}
	return x
}

func (s *sess) detail(now time.Time) Detail {
	x := Detail{
		Record: s.record(now), Control: s.control, RTSPSession: s.key.id, Version: s.version, BaseURL: s.base,
		ContentURL: deref(s.rec.URL), Scale: s.scale, SDPRange: s.sdpRaw, Timeout: s.timeout, LastCSeq: s.cseq,
		Depth: s.profile.depth(s.live, s.sought), FirstMedia: s.since, Receipt: s.receipt,
		Unreachable: s.refused,
		Teardown:    s.stopped, Terminated: s.stopped || s.rec.State == session.Ended,
	}
	if s.film != nil {
		x.MMS, x.LastMedia, x.Depth = s.film.detail(s), s.film.newest(), s.lag()
	}
	for _, t := range s.tracks {
		x.Tracks = append(x.Tracks, TrackDetail{
			ID: t.id, SSRC: t.ssrc, HaveSSRC: t.haveSSRC, PT: t.pt, ClockRate: t.rate, Channel: t.channel,
			RTP: t.rtp, RTCP: t.rtcp, Control: t.control, LastMedia: t.last, Packets: t.stats.packets,
			Seq: t.read.newestSeq, RTPTime: t.read.newest,
		})
		if t.last.After(x.LastMedia) {
			x.LastMedia = t.last
		}
	}
	return x
}
