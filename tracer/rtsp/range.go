package rtsp

import (
	"strings"
	"time"
)

// Units of a Range. SMPTE has variants with a suffix, "smpte-30-drop" and "smpte-25".
const (
	UnitNPT   = "npt"
	UnitClock = "clock"
	UnitSMPTE = "smpte"
)

// Range is a Range header or an SDP a=range value (RFC 2326 §3.5-§3.7, §12.29). What it was
// parsed from is kept and written again by String and WithStart.
type Range struct {
	// Unit is the unit in lower case: UnitNPT, UnitClock, UnitSMPTE with its suffix, or one
	// this package does not know, of which nothing else is read.
	Unit string
	// Start and End are the times of an npt or SMPTE range, nil when absent; Media tells where in
	// the presentation that is. smpte and smpte-30-drop count 29.97 frames a second and drop
	// labels, smpte-25 and other numbers so many frames.
	Start, End *time.Duration
	// StartClock and EndClock are the wall times of a clock range, zero when absent.
	StartClock, EndClock time.Time
	// Now says that the range starts at the live edge ("npt=now-").
	Now bool

	raw   string
	start span // of the start text in raw; empty before the '-' when there is none
}

// ParseRange reads the first range of a value. The error is a *HeaderError: no unit, no '-', or
// a time its unit does not allow. Blanks anywhere between the parts are accepted.
func ParseRange(v string) (Range, error) {
	fail := func(reason string) (Range, error) {
		return Range{}, &HeaderError{Header: "Range", Value: v, Reason: reason}
	}
	eq := strings.IndexByte(v, '=')
	if eq < 0 {
		return fail("no unit")
	}
	r := Range{Unit: strings.ToLower(strings.TrimSpace(v[:eq])), raw: v}
	if r.Unit == "" {
		return fail("no unit")
	}
	if !r.known() {
		return r, nil
	}
	stop := len(v)
	if i := strings.IndexAny(v[eq+1:], ";,"); i >= 0 {
		stop = eq + 1 + i
	}
	dash := strings.IndexByte(v[eq+1:stop], '-')
	if dash < 0 {
		return fail("no '-'")
	}
	dash += eq + 1
	r.start = trim(v, span{eq + 1, dash})
	if r.start.from == r.start.to {
		r.start = span{dash, dash}
	}
	if !r.setStart(v[r.start.from:r.start.to]) || !r.setEnd(strings.TrimSpace(v[dash+1:stop])) {
		return fail("bad time")
	}
	return r, nil
}

func (r *Range) known() bool {
	return r.Unit == UnitNPT || r.Unit == UnitClock || r.smpte()
}

func (r *Range) smpte() bool {
	_, ok := smpteRate(r.Unit)
	return ok
}

func (r *Range) setStart(text string) (ok bool) {
	switch {
	case text == "":
		return true
	case r.Unit == UnitNPT && strings.EqualFold(text, "now"):
		r.Now = true
		return true
	case r.Unit == UnitClock:
		r.StartClock, ok = parseClock(text)
		return ok
	}
	r.Start, ok = r.parseTime(text)
	return ok
}

func (r *Range) setEnd(text string) (ok bool) {
	switch {
	case text == "":
		return true
	case r.Unit == UnitClock:
		r.EndClock, ok = parseClock(text)
		return ok
	}
	r.End, ok = r.parseTime(text)
	return ok
}

func (r *Range) parseTime(text string) (*time.Duration, bool) {
	parse := ParseNPT
	if r.smpte() {
		parse = r.parseSMPTE
	}
	d, ok := parse(text)
	if !ok {
		return nil, false
	}
	return &d, true
}

// parseSMPTE reads hours:minutes:seconds[:frames[.subframes]] (RFC 2326 §3.5).
func (r *Range) parseSMPTE(text string) (time.Duration, bool) {
	frames := ""
	if i := nthColon(text, 3); i >= 0 {
		text, frames = text[:i], text[i+1:]
	}
	if nthColon(text, 2) < 0 || strings.IndexByte(text, '.') >= 0 {
		return 0, false
	}
	d, ok := ParseNPT(text)
	if !ok || int64(d/time.Second) > mostLabel {
		return 0, false
	}
	f := time.Duration(0)
	if frames != "" {
		if f, ok = ParseNPT(frames); !ok || strings.IndexByte(frames, ':') >= 0 || f > time.Hour {
			return 0, false
		}
	}
	rate, _ := smpteRate(r.Unit)
	n := rate.frame(int64(d/time.Second), int64(f/time.Second))
	part := time.Duration((rate.at(n+1) - rate.at(n)).Seconds() * float64(f%time.Second))
	return rate.at(n) + part, true
}

// nthColon returns the index of the n-th colon of s, or -1.
func nthColon(s string, n int) int {
	for i := range len(s) {
		if s[i] == ':' {
			if n--; n == 0 {
				return i
			}
		}
	}
	return -1
}

// parseClock reads the UTC form of ISO 8601 that RFC 2326 §3.7 allows.
func parseClock(text string) (time.Time, bool) {
	t, err := time.Parse("20060102T150405Z", strings.ToUpper(text))
	return t, err == nil
}

// StartText returns the start as it was written, "" when there is none.
func (r Range) StartText() string { return r.raw[r.start.from:r.start.to] }

// String returns the text that the range was parsed from. One that was put together from its
// fields is written with three decimals.
func (r Range) String() string {
	if r.raw != "" {
		return r.raw
	}
	start, end := "", ""
	switch {
	case r.Now:
		start = "now"
	case r.Unit == UnitClock && !r.StartClock.IsZero():
		start = r.StartClock.UTC().Format("20060102T150405.999Z")
	case r.Start != nil:
		start = FormatNPT(*r.Start)
	}
	switch {
	case r.Unit == UnitClock && !r.EndClock.IsZero():
		end = r.EndClock.UTC().Format("20060102T150405.999Z")
	case r.End != nil:
		end = FormatNPT(*r.End)
	}
	return r.Unit + "=" + start + "-" + end
}

// Rewritable reports whether WithStart changes anything: a range of a unit that is known and not
// at the live edge.
func (r Range) Rewritable() bool { return r.known() && !r.Now }

// WithStart returns the range with media time at in the place of its start, in its own unit; blanks,
// end and parameters stay as they were. written and ok are as for Scale.Format; the range is
// unchanged when ok is false.
func (r Range) WithStart(s Scale, at time.Duration) (text string, written time.Duration, ok bool) {
	start, written, ok := s.Format(r.Unit, at)
	if !ok || r.Now {
		return r.String(), 0, false
	}
	if r.raw == "" {
		fresh, err := ParseRange(r.String())
		if err != nil {
			return r.String(), 0, false
		}
		r = fresh
	}
	return r.raw[:r.start.from] + start + r.raw[r.start.to:], written, true
}
