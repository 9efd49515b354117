package tracer

import (
	"errors"
	"strings"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/mms"
)

// mmstDialogue is MMS over TCP on a connection, which is one session at most at a time.
type mmstDialogue struct {
	d *Decoder
	c *conn
	s *sess

	connect  mms.Connect
	udp      bool // media travel by UDP
	file     mms.OpenFile
	report   mms.ReportOpenFile
	header   uint8 // incarnation of the header's data packets
	reading  bool  // the header is still to come
	starting *start
	stopping int // StopPlaying without answer
	open     int // requests without answer
	asked    bool
	lost     bool      // bytes of the server are missing since the last request
	seq      [2]uint16 // newest of each direction
}

// mmstTimeout is how long a silent session lives: the server's idle timer ([MS-MMSP] 3.2.2).
const mmstTimeout = time.Hour

func looksMMST(b []byte) verdict {
	_, _, err := mms.Next(b, mms.ToServer)
	switch {
	case err != nil && !errors.Is(err, mms.ErrShort), len(b) > 0 && b[0] != 1:
		return no
	case len(b) < 16:
		return perhaps
	}
	return yes
}

func openMMST(d *Decoder, c *conn, _ []byte, _ time.Time) dialogue {
	return &mmstDialogue{d: d, c: c}
}

// units reads messages and data packets.
func (x *mmstDialogue) units(dir bpf.Dir, h *half, b []byte, at time.Time) []byte {
	way := mms.ToServer
	if dir == bpf.ToTerminal {
		way = mms.ToViewer
	}
	for len(b) > 0 {
		if !h.synced {
			x.lost = x.lost || dir == bpf.ToTerminal
			i := x.resync(b, way)
			if i < 0 {
				return b[max(0, len(b)-resyncTail):]
			}
			b, h.synced = b[i:], true
		}
		u, n, err := mms.Next(b, way)
		switch {
		case errors.Is(err, mms.ErrShort):
			return b
		case err != nil:
			x.d.stats.Undecoded++
			h.synced = false
			b = b[1:]
			continue
		}
		b = b[n:]
		x.unit(dir, u, at)
	}
	return nil
}

// resync returns where a unit begins in b, or -1: at a message, or at a media packet of the film.
func (x *mmstDialogue) resync(b []byte, way mms.Dir) int {
	var sig mms.MediaSignature
	media := false
	if x.s != nil && way == mms.ToViewer {
		sig, media = x.s.film.signature(false)
		sig.From = 0
	}
	for i := range b {
		if mms.IsMessage(b[i:]) || media && packetAt(sig, b, i) {
			return i
		}
	}
	return -1
}

func (x *mmstDialogue) unit(dir bpf.Dir, u mms.Unit, at time.Time) {
	if x.s != nil {
		x.s.touched = at
		x.s.rec.Steered = x.c.steered
		if !x.s.dormant.IsZero() {
			x.d.revive(x.s, at)
		}
	}
	if u.Kind == mms.KindData {
		x.data(u, at)
	} else {
		x.seq[dir&1] = u.Message.Seq
		for m, ok := u.Message, true; ok; m, ok = m.More() {
			if dir == bpf.ToServer {
				x.request(m, at)
			} else {
				x.reply(m, at)
			}
		}
	}
	if dir == bpf.ToTerminal && x.asked && x.open <= 0 && !x.reading && x.starting == nil && !x.expecting() {
		x.asked = false
		x.d.sink.Replied(x.c.flow)
	}
}

// expecting reports whether the first packet of a start is still to come.
func (x *mmstDialogue) expecting() bool {
	return x.s != nil && x.s.rec.State == session.Playing && x.s.film.waiting && !x.udp && !x.d.cfg.NoRTP && x.s.film.over.IsZero()
}

// request takes a message of the viewer.
func (x *mmstDialogue) request(m mms.Message, at time.Time) {
	x.asked, x.lost = true, false
	switch m.MID {
	case mms.MIDConnect:
		x.decode(m, &x.connect)
		x.c.userAgent = subscriber(x.connect.SubscriberName)
		x.open++
	case mms.MIDConnectFunnel:
		var f mms.ConnectFunnel
		x.decode(m, &f)
		x.udp = f.UDP()
		x.open++
	case mms.MIDOpenFile:
		x.file = mms.OpenFile{}
		x.decode(m, &x.file)
		x.file.Token = nil // credentials are not kept
		x.open++
	case mms.MIDReadBlock:
		var r mms.ReadBlock
		x.decode(m, &r)
		x.header, x.reading = uint8(r.PlayIncarnation), true
		x.open++
	case mms.MIDStartPlaying:
		s := start{rate: 1, at: at}
		if x.decode(m, &s.StartPlaying) {
			x.starting = &s
		}
	case mms.MIDStartStriding:
		var s mms.StartStriding
		if x.decode(m, &s) {
			x.starting = &start{s.StartPlaying, s.Rate, at}
		}
	case mms.MIDStopPlaying:
		x.stopping = min(x.stopping+1, maxPending)
	case mms.MIDStreamSwitch, mms.MIDFunnelInfo, mms.MIDSecurityResponse:
		x.open++
	case mms.MIDCloseFile:
		x.end(at)
	}
	x.open = min(x.open, maxPending)
}

func (x *mmstDialogue) decode(m mms.Message, b mms.Body) bool {
	if m.Decode(b) != nil {
		x.d.stats.Undecoded++
		return false
	}
	return true
}

// subscriber returns the subscriber name as a user agent: the product and what tells one program
// from another, without the host it calls.
func subscriber(name string) string {
	var keep []string
	for part := range strings.SplitSeq(name, ";") {
		part = strings.TrimSpace(part)
		if k, _, ok := strings.Cut(part, ":"); part != "" && (!ok || !strings.EqualFold(k, "Host")) {
			keep = append(keep, part)
		}
	}
	return clip(strings.Join(keep, "; "), maxName)
}

// reply takes a message of the server.
func (x *mmstDialogue) reply(m mms.Message, at time.Time) {
	if m.MID != mms.MIDPing && m.MID != mms.MIDReportEndOfStream && m.MID != mms.MIDReportStreamChange {
		x.open = max(x.open-1, 0)
	}
	failed := m.HR().Failed()
	switch m.MID {
	case mms.MIDReportDisconnectedFunnel:
		x.udp = false
	case mms.MIDReportOpenFile:
		x.report = mms.ReportOpenFile{}
		if x.decode(m, &x.report) && !failed {
			x.opened(at)
		}
	case mms.MIDReportReadBlock:
		x.reading = x.reading && !failed
	case mms.MIDReportStreamChange:
		var r mms.ReportStreamChange
		if x.decode(m, &r) && !failed {
			x.header, x.reading = uint8(r.Incarnation), !x.udp
		}
	case mms.MIDReportStartedPlaying, mms.MIDReportStartStriding:
		if failed {
			x.starting = nil
		} else if x.starting != nil {
			x.started(at)
		}
	case mms.MIDReportEndOfStream:
		x.ended(m, at)
	}
}

// opened opens the session of a file.
func (x *mmstDialogue) opened(at time.Time) {
	x.end(at)
	d, c := x.d, x.c
	if !d.roomForSession(c.flow.Terminal.Addr()) {
		return
	}
	s := d.fresh(c, at)
	s.film = &film{path: clip(x.file.FileName, maxURL), size: x.report.PacketSize, packets: x.report.PacketCount, talk: x,
		player: playerOfMMST(x.connect.SubscriberName)}
	s.rec.Protocol, s.rec.Transport = session.MMS, session.TCP
	if x.udp {
		s.rec.Protocol, s.rec.Transport = session.MMSU, session.UDP
	}
	s.key.id = "mms " + s.rec.ID
	s.timeout, s.version = mmstTimeout, ""
	url := mms.URL("mms", hostURL(clip(x.connect.Host(), maxName), c.flow.Server, 1755), s.film.path)
	s.rec.URL, s.base = session.Ptr(url), url
	s.live, s.rec.Seekable = x.report.Live(), x.report.Seekable()
	if v := min(x.report.Duration, maxFilm.Seconds()); v > 0 && !s.live {
		s.rec.Duration, s.end = session.Ptr(v), session.NPTSeconds(v)
	}
	s.profile = profileOf(d.cfg.Profiles, c.userAgent)
	d.enter(s)
	x.s = s
	d.changed(s, at)
}

// started applies a StartPlaying that was answered: a start, a resumption, or a seek. A film that
// was over and is started again is a new session.
func (x *mmstDialogue) started(at time.Time) {
	p := x.starting
	x.starting, x.stopping = nil, 0
	if x.s == nil {
		return
	}
	if x.s.rec.State == session.Ended {
		x.reopen(at)
	}
	s := x.s
	first := s.play.at.IsZero()
	npt, known := x.place(p)
	s.film.openFile, s.film.incarnation = p.OpenFileID, p.PlayIncarnation
	s.beginFilm(play{start: npt, known: known, scale: scaleOf(p.rate), speed: 1, at: at, first: first}, uint8(p.PlayIncarnation), true, at)
	x.d.sink.Playing(x.c.flow)
	x.d.changed(s, at)
}

// reopen makes a new session of the file that is open, whose session is over.
func (x *mmstDialogue) reopen(at time.Time) {
	old := x.s
	if x.opened(at); x.s != old {
		x.s.film.header, x.s.film.whole = old.film.header, old.film.whole
		x.s.film.preroll, x.s.film.packets = old.film.preroll, old.film.packets
		x.s.describeFilm()
	}
}

func scaleOf(rate float64) float64 {
	if rate >= -5 && rate <= 5 && rate != 0 {
		return rate
	}
	return 1
}

// ended applies an EndOfStream: the answer to a StopPlaying, or the end of the film.
func (x *mmstDialogue) ended(m mms.Message, at time.Time) {
	s := x.s
	if s == nil {
		x.stopping = 0
		return
	}
	if x.stopping > 0 {
		x.stopping--
		if x.starting == nil && s.rec.State == session.Playing { // else it is half of a seek
			s.pausePlay(at)
			x.d.changed(s, at)
		}
		return
	}
	if m.HR() != mms.MoreEntries {
		s.film.over = at
	}
}

// data takes a data packet.
func (x *mmstDialogue) data(u mms.Unit, at time.Time) {
	if x.s == nil {
		return
	}
	if x.reading && u.Data.Incarnation == x.header {
		if x.s.film.piece(u.Data.Flags, u.Payload) {
			x.reading = false
			x.s.describeFilm()
			x.d.changed(x.s, at)
		}
		return
	}
	if x.starting != nil && x.lost && x.answers(u, at) {
		x.started(at) // its reply was not seen
	}
	if f := x.s.film; f.haveInc && u.Data.Incarnation == f.inc {
		f.sampled = false
		x.d.filmPacket(x.s, u.Data, u.Payload, at)
	}
}

// tail looks for the end of the stream and the newest media packet.
func (x *mmstDialogue) tail(b []byte, at time.Time) bool {
	if x.s == nil || x.starting != nil {
		return false
	}
	found := x.d.sample(x.s, b, false, at)
	for i := 0; i+48 <= len(b); i++ {
		if mms.IsMessage(b[i:]) {
			if u, _, err := mms.Next(b[i:], mms.ToViewer); err == nil && u.Message.MID == mms.MIDReportEndOfStream {
				x.ended(u.Message, at)
			}
		}
	}
	return found
}

func (x *mmstDialogue) end(at time.Time) {
	if x.s != nil {
		x.d.end(x.s, at)
	}
	x.starting, x.stopping = nil, 0
}

func (x *mmstDialogue) closed(dir bpf.Dir, reset bool, at time.Time) { x.end(at) }

func (x *mmstDialogue) forgotten(at time.Time) { x.end(at) }
