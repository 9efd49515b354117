// Package session knows what a watched session is: the record that two gateways must agree
// on, the transfer of a session to another terminal, the table that holds both, and the
// arithmetic between RTP time and media time. It refuses to know where facts come from and
// how orders are carried out: no socket, no kernel, no clock.
//
// Specifications: RFC 2326 §3.6 (npt), RFC 3550 §5.1 and A.1 (sequence numbers, timestamps).
package session

import (
	"net/netip"
	"time"
)

// Protocol is how a session is controlled.
type Protocol string

// The protocols a session can have.
const (
	RTSP     Protocol = "rtsp"
	RTSPS    Protocol = "rtsps"
	RTSPHTTP Protocol = "rtsp-http"
	MMS      Protocol = "mms"  // over TCP, media too
	MMSU     Protocol = "mmsu" // media over UDP
	MMSH     Protocol = "mmsh" // over HTTP
)

// Transport is how the media of a session travel.
type Transport string

// The transports a session can have.
const (
	UDP              Transport = "udp"
	TCP              Transport = "tcp"
	HTTP             Transport = "http"
	Multicast        Transport = "multicast"
	TransportUnknown Transport = "unknown"
)

// State is what a session does.
type State string

// The states of a session.
const (
	Setup   State = "setup"
	Playing State = "playing"
	Paused  State = "paused"
	Ended   State = "ended"
)

// Source is where a position comes from.
type Source string

// The sources of a position, the best first.
const (
	SourceRTP    Source = "rtp"    // RTP timestamps, anchored at a PLAY
	SourceMedia  Source = "media"  // MMS/ASF data packet send time
	SourceServer Source = "server" // the server was asked
	SourceClock  Source = "clock"  // wall clock since PLAY
)

// Position is where in the film a viewer is, at one moment. Seconds of media time.
type Position struct {
	NPT      *float64  `json:"npt"`      // newest media time delivered to the terminal; nil when unknown
	Rendered *float64  `json:"rendered"` // estimate of what is on the screen; nil when unknown
	Error    float64   `json:"error"`    // honest ± of NPT
	Source   Source    `json:"source"`
	At       time.Time `json:"at"`
}

// Terminal is an address that plays, with the name its user gave it.
type Terminal struct {
	Name string     `json:"name"`
	IP   netip.Addr `json:"ip"`
}

// Track is one media stream of a session, as its SDP and its packets show it.
type Track struct {
	ID        int     `json:"id"`
	Media     string  `json:"media"` // audio, video, ...
	Codec     string  `json:"codec"` // encoding name of a=rtpmap
	ClockRate uint32  `json:"clock_rate"`
	Language  *string `json:"language"` // a=lang; nil when not said
	SSRC      *uint32 `json:"ssrc"`     // nil before the first packet and when the Transport header names none
	Packets   uint64  `json:"packets"`
	Lost      int64   `json:"lost"`   // RFC 3550 §6.4.1
	Jitter    float64 `json:"jitter"` // seconds, RFC 3550 A.8
}

// Record is what is known of one session. It is a value: whoever holds one holds a snapshot.
type Record struct {
	ID        string         `json:"id"` // opaque, unique for the life of the gateway
	Gateway   string         `json:"gateway"`
	AoR       *string        `json:"aor"` // nil when the terminal has no user
	Terminal  Terminal       `json:"terminal"`
	Protocol  Protocol       `json:"protocol"`
	Transport Transport      `json:"transport"`
	URL       *string        `json:"url"` // without userinfo; nil when not seen
	Server    netip.AddrPort `json:"server"`
	UserAgent *string        `json:"user_agent"`
	State     State          `json:"state"`
	Opaque    bool           `json:"opaque"` // seen but not readable: cannot be moved
	Live      bool           `json:"live"`
	Seekable  bool           `json:"seekable"`
	Duration  *float64       `json:"duration"` // seconds; nil when live or unknown
	Position  *Position      `json:"position"`
	Lossy     bool           `json:"lossy"` // facts may be missing: a bound or the ring was full
	Tracks    []Track        `json:"tracks"`
	Started   time.Time      `json:"started"`
	Updated   time.Time      `json:"updated"`
	Steered   bool           `json:"steered"` // relayed by this gateway's splicer
}

// Clone returns a copy that shares no memory a writer of r could change.
func (r Record) Clone() Record {
	r.Tracks = append([]Track(nil), r.Tracks...)
	if r.Position != nil {
		p := *r.Position
		r.Position = &p
	}
	return r
}

// Ptr returns a pointer to v: how an optional field of a record is set.
func Ptr[T any](v T) *T { return &v }
