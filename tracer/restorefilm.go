package tracer

import (
	"time"

	"scas/session"
	"scas/tracer/mms"
)

// savedFilm is the film of a session as it is kept over a restart. Packets of ASF tell their
// time themselves: the first one that is seen says where the film is.
type savedFilm struct {
	Path        string        `json:"path"`
	OpenFile    uint32        `json:"open_file"`
	Incarnation uint32        `json:"incarnation"`
	Inc         uint8         `json:"inc"`
	HaveInc     bool          `json:"have_inc"`
	Preroll     time.Duration `json:"preroll"`
	Size        uint32        `json:"size"`
	Packets     uint64        `json:"packets"`
	HeaderSize  int           `json:"header_size"`
	GUID        string        `json:"guid"`
	ClientID    uint32        `json:"client_id"`
	Seen        bool          `json:"seen"`
	Start       session.NPT   `json:"start"`
	StartAt     time.Time     `json:"start_at"`
	Last        session.NPT   `json:"last"`
	LastAt      time.Time     `json:"last_at"`
	LastSend    time.Duration `json:"last_send"`
	Location    uint32        `json:"location"`
	Player      filmPlayer    `json:"player"`
	Ran         time.Time     `json:"ran"`
}

func (f *film) save() *savedFilm {
	return &savedFilm{
		Path: f.path, OpenFile: f.openFile, Incarnation: f.incarnation, Inc: f.inc, HaveInc: f.haveInc, Preroll: f.preroll,
		Size: f.size, Packets: f.packets, HeaderSize: f.header.Size, GUID: f.asked.ClientGUID, ClientID: f.clientID,
		Seen: f.seen, Start: f.start, StartAt: f.startAt, Last: f.last, LastAt: f.lastAt, LastSend: f.lastSend, Location: f.location,
		Player: f.player, Ran: f.ran,
	}
}

// restoreFilm gives s its film again, and its connection a dialogue that is in the middle of it.
func (d *Decoder) restoreFilm(s *sess, x *savedFilm) {
	s.film = &film{
		path: x.Path, openFile: x.OpenFile, incarnation: x.Incarnation, inc: x.Inc, haveInc: x.HaveInc, clientID: x.ClientID,
		preroll: max(min(x.Preroll, maxPreroll), 0), size: x.Size, packets: x.Packets, whole: x.HeaderSize > 0,
		header: mms.Header{Size: x.HeaderSize}, asked: mms.Pragma{ClientGUID: x.GUID},
		seen: x.Seen, waiting: !x.Seen, start: x.Start, startAt: x.StartAt, last: x.Last, lastAt: x.LastAt, lastSend: x.LastSend, location: x.Location,
		player: x.Player, ran: x.Ran,
	}
	c := d.conn(s.control, s.dormant, false)
	if c == nil || c.talk != nil {
		return
	}
	c.speaks, c.userAgent = speaksOurs, deref(s.rec.UserAgent)
	if !c.has(s) {
		c.sessions = append(c.sessions, s)
	}
	if s.rec.Protocol == session.MMSH {
		c.talk = &mmshDialogue{d: d, c: c, s: s, body: bodyChunks, played: s.rec.State != session.Setup}
		return
	}
	t := &mmstDialogue{d: d, c: c, s: s, udp: s.rec.Protocol == session.MMSU}
	t.file.FileName = x.Path
	t.report = mms.ReportOpenFile{OpenFileID: x.OpenFile, PacketSize: x.Size, PacketCount: x.Packets, Duration: time.Duration(s.end).Seconds()}
	if s.rec.Seekable {
		t.report.Attributes = mms.CanSeek
	}
	if s.live {
		t.report.Attributes = mms.Broadcast
	}
	if x.HeaderSize > 0 {
		t.report.HeaderSize = uint32(s.film.header.FileHeaderSize())
	}
	s.film.talk, c.talk = t, t
}
