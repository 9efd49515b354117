package rtsp

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// ErrSDP says that a body has no m= line, so that it describes nothing to play.
var ErrSDP = errors.New("rtsp: sdp has no media")

// Description is what an SDP says about a presentation (RFC 2326 appendix C).
type Description struct {
	Range   *Range // a=range of the session, else of its first media; nil when absent
	Control string // a=control of the session; "" when absent
	Title   string // s=
	// Live: the range is at the live edge ("npt=now-") or there is none. An open "npt=0-" is
	// neither live nor seekable.
	Live bool
	// Seekable: a range with an end.
	Seekable bool
	// Duration is the length of a seekable presentation, else 0.
	Duration time.Duration
	// End is the media time at its end: Duration, if the range starts at 0.
	End   time.Duration
	Media []MediaDescription
}

// MediaDescription is one m= section.
type MediaDescription struct {
	Media    string // "audio", "video", ...
	Proto    string // "RTP/AVP", ...
	Control  string // a=control, relative or absolute; "" when absent
	PTs      []PT   // in order of preference
	Language string // a=lang; "" when absent
	Port     int    // of the m= line, 0 when left to SETUP
	// Addr is the c= address of the section or the session; zero when absent or unspecified.
	Addr netip.Addr
	TTL  int // of a multicast Addr, 0 when absent
}

// Multicast reports whether the section is sent to a group.
func (m MediaDescription) Multicast() bool { return m.Addr.IsMulticast() }

// PT is one payload type of a section.
type PT struct {
	PT        uint8
	Codec     string // encoding name as written, "" when unknown
	ClockRate uint32 // Hz, 0 when unknown
	Channels  int    // of audio, 0 when not said
}

// ParseSDP reads a description. Lines that break the grammar of RFC 8866 are passed over. The
// error is ErrSDP.
func ParseSDP(b []byte) (Description, error) {
	raw, err := strictSDP(b)
	if err != nil {
		raw = tolerantSDP(b)
	}
	if len(raw.media) == 0 {
		return Description{}, ErrSDP
	}
	d := Description{Title: raw.title, Control: attr(raw.attrs, "control"), Range: rangeOf(raw.attrs)}
	for _, s := range raw.media {
		if s.addr == "" {
			s.addr = raw.addr
		}
		d.Media = append(d.Media, s.describe())
		if d.Range == nil {
			d.Range = rangeOf(s.attrs)
		}
	}
	d.Live = d.Range == nil || d.Range.Now
	if d.Range == nil || d.Range.Now {
		return d, nil
	}
	if start, end := d.Range.Media(d.Range.Scale()); end != nil {
		d.End = *end
		d.Duration = d.End
		if start != nil {
			d.Duration -= *start
		}
		d.Seekable = d.Duration > 0
		d.Duration = max(d.Duration, 0)
	}
	return d, nil
}

// rawSDP is a description cut into lines, whichever parser did it.
type rawSDP struct {
	title, addr string // addr as in c=, with its TTL
	attrs       []Field
	media       []rawMedia
}

type rawMedia struct {
	media, proto string
	port         int
	formats      []string
	addr         string
	attrs        []Field
}

// attr returns the first value of an attribute, "" when absent.
func attr(attrs []Field, name string) string {
	for _, a := range attrs {
		if strings.EqualFold(a.Name, name) {
			return strings.TrimSpace(a.Value)
		}
	}
	return ""
}

func rangeOf(attrs []Field) *Range {
	r, err := ParseRange(attr(attrs, "range"))
	if err != nil {
		return nil
	}
	return &r
}

func (s rawMedia) describe() MediaDescription {
	m := MediaDescription{
		Media: s.media, Proto: s.proto, Port: s.port,
		Control: attr(s.attrs, "control"), Language: attr(s.attrs, "lang"),
	}
	addr, ttl, _ := strings.Cut(s.addr, "/")
	if a, err := netip.ParseAddr(addr); err == nil && !a.IsUnspecified() {
		m.Addr = a.Unmap()
		ttl, _, _ = strings.Cut(ttl, "/")
		if a.Is4() {
			m.TTL, _ = parseSmall(ttl, 255)
		}
	}
	var known [128]bool
	for _, f := range s.formats {
		if n, ok := parseSmall(f, 127); ok && !known[n] { // each is looked for in all attributes
			known[n] = true
			m.PTs = append(m.PTs, s.payloadType(uint8(n)))
		}
	}
	return m
}

// payloadType describes one format: the rtpmap of the same section, else the static table
// (RFC 3551 §6).
func (s rawMedia) payloadType(n uint8) PT {
	pt := staticPT(n)
	for _, a := range s.attrs {
		if !strings.EqualFold(a.Name, "rtpmap") {
			continue
		}
		number, rest, _ := strings.Cut(strings.TrimSpace(a.Value), " ")
		if number != strconv.Itoa(int(n)) {
			continue
		}
		fields := strings.Split(strings.TrimSpace(rest), "/")
		pt.Codec, pt.Channels = fields[0], 0
		if len(fields) > 1 && isNumber(fields[1]) {
			rate, _ := strconv.ParseUint(fields[1], 10, 32)
			pt.ClockRate = uint32(rate)
		}
		if len(fields) > 2 {
			pt.Channels, _ = parseSmall(fields[2], 255)
		}
		break
	}
	if strings.EqualFold(pt.Codec, "opus") {
		pt.ClockRate = 48000 // RFC 7587 §4.1, whatever the rtpmap says
	}
	return pt
}
