package splice

import (
	"strconv"
	"strings"
	"time"

	"scas/session"
	"scas/tracer"
	"scas/tracer/rtsp"
)

// rewriteStart puts media time at in the place of the start of the Range of a PLAY request, in the
// unit that stands there, and adds a Range in the server's where there is none. It returns what it
// wrote, which scale may have rounded down. It is false, and m is untouched, when the range starts
// at the live edge, ends before at, or cannot be read.
func rewriteStart(m *rtsp.Message, scale rtsp.Scale, at time.Duration) (written time.Duration, ok bool) {
	v, ok := m.Lookup("Range")
	if !ok || v == "" {
		header, written, ok := scale.Start(at)
		if ok {
			m.Set("Range", header)
		}
		return written, ok
	}
	r, err := rtsp.ParseRange(v)
	if err != nil {
		return 0, false
	}
	if _, end := r.Media(scale); end != nil && *end <= at {
		return 0, false
	}
	header, written, ok := r.WithStart(scale, at)
	if ok {
		m.Set("Range", header)
	}
	return written, ok
}

// repairReply writes seq and rtptime of the first packet into the RTP-Info of a reply to PLAY,
// for each track whose rtptime is off by more than lieAbove. All else stays, the Range
// included: changing that makes players show a wrong clock (rtsp-in-the-wild §1.2). It
// reports whether it changed anything.
func repairReply(m *rtsp.Message, tracks []heldTrack) bool {
	v := m.Get("RTP-Info")
	repaired := v
	for _, t := range tracks {
		if !t.seen {
			continue
		}
		off := session.Ticks(t.first.rtptime.Sub(t.rtptime), t.rate, 1)
		if off > lieAbove || off < -lieAbove {
			repaired = rtsp.ReplaceRTPInfo(repaired, t.entry, uint16(t.first.seq), uint32(t.first.rtptime))
		}
	}
	if repaired == v {
		return false
	}
	m.Set("RTP-Info", repaired)
	return true
}

// startPosition returns the media time a transfer starts at: what is on the origin's screen,
// less overlap. It is false when the session cannot be continued at a position.
func startPosition(r session.Record, rendered *float64, overlap time.Duration) (time.Duration, bool) {
	if r.Live || !r.Seekable || rendered == nil {
		return 0, false
	}
	return max(time.Duration(session.NPTSeconds(*rendered))-overlap, 0).Round(time.Millisecond), true
}

// sameContent reports whether two sessions may be of the same film, going by what their
// descriptions say: the range, and the tracks, of which one player may have set up fewer.
// What is not known of both is no difference.
func sameContent(a, b tracer.Detail) bool {
	if a.SDPRange != "" && b.SDPRange != "" && !sameRange(a.SDPRange, b.SDPRange) {
		return false
	}
	return subset(a.Record.Tracks, b.Record.Tracks) || subset(b.Record.Tracks, a.Record.Tracks)
}

// sameRange compares a=range values; times are compared as times.
func sameRange(a, b string) bool {
	ra, erra := rtsp.ParseRange(a)
	rb, errb := rtsp.ParseRange(b)
	if erra != nil || errb != nil {
		return strings.TrimSpace(a) == strings.TrimSpace(b)
	}
	if ra.Unit != rb.Unit || ra.Now != rb.Now {
		return false
	}
	if ra.Unit == rtsp.UnitClock {
		return true // the window of a recording of something live moves
	}
	if !ra.Rewritable() && !ra.Now { // of a unit that nobody knows
		return strings.TrimSpace(a) == strings.TrimSpace(b)
	}
	return sameTime(ra.Start, rb.Start) && sameTime(ra.End, rb.End)
}

func sameTime(a, b *time.Duration) bool {
	if a == nil || b == nil {
		return a == b
	}
	d := *a - *b
	return d < 10*time.Millisecond && d > -10*time.Millisecond
}

// subset reports whether every track of a has one of its kind in b.
func subset(a, b []session.Track) bool {
	have := map[string]int{}
	for _, t := range b {
		have[kind(t)]++
	}
	for _, t := range a {
		if have[kind(t)]--; have[kind(t)] < 0 {
			return false
		}
	}
	return true
}

func kind(t session.Track) string {
	return strings.ToLower(t.Media+"/"+t.Codec+"/") + strconv.FormatUint(uint64(t.ClockRate), 10)
}

// text writes a number as it stands in a header.
func text(n int) string { return strconv.Itoa(n) }
