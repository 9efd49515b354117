package lab

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Unit is how a server counts time in Range headers and in its SDP (RFC 2326 §3.5 to §3.7).
type Unit string

// The units.
const (
	UnitNPT   Unit = "npt"
	UnitClock Unit = "clock"    // wall clock; the film starts at 1996-11-08 14:23 UTC
	UnitSMPTE Unit = "smpte-25" // hours:minutes:seconds:frames, 25 frames a second
)

const clockLayout = "20060102T150405.999999999Z"

// clockStart is the absolute time of npt 0 in films of UnitClock.
func clockStart() time.Time { return time.Date(1996, 11, 8, 14, 23, 0, 0, time.UTC) }

// timeRange is one Range header.
type timeRange struct {
	unit       Unit
	start, end time.Duration
	given      bool   // a start was given; "now" is none
	endText    string // the end as it was written, empty when there is none
}

// parseRange reads a Range header, or the a=range of an SDP.
func parseRange(header string) (timeRange, error) {
	bad := fmt.Errorf("range %.60q: %w", header, errGrammar)
	unit, value, ok := strings.Cut(strings.TrimSpace(header), "=")
	if !ok {
		return timeRange{}, bad
	}
	r := timeRange{unit: Unit(unit)}
	parse := map[Unit]func(string) (time.Duration, error){UnitNPT: parseNPT, UnitClock: parseClock, UnitSMPTE: parseSMPTE}[r.unit]
	value, _, _ = strings.Cut(value, ";")
	from, to, ok := strings.Cut(strings.TrimSpace(value), "-")
	if !ok || parse == nil {
		return timeRange{}, bad
	}
	var err error
	if from != "now" && from != "" {
		if r.start, err = parse(from); err != nil {
			return timeRange{}, err
		}
		r.given = true
	}
	if to != "" {
		if r.end, err = parse(to); err != nil {
			return timeRange{}, err
		}
		r.endText = to
	}
	return r, nil
}

// parseNPT reads seconds or hours:minutes:seconds, with a fraction (RFC 2326 §3.6).
func parseNPT(s string) (time.Duration, error) {
	total := 0.0
	parts := strings.Split(strings.TrimSpace(s), ":")
	for _, p := range parts {
		f, err := strconv.ParseFloat(p, 64)
		if err != nil || !(f >= 0 && f < 1e7) || len(parts) > 3 {
			return 0, fmt.Errorf("npt %.20q: %w", s, errGrammar)
		}
		total = total*60 + f
	}
	if total >= 1e9 {
		return 0, fmt.Errorf("npt %.20q: %w", s, errGrammar)
	}
	return time.Duration(total*1e6+0.5) * time.Microsecond, nil
}

// parseClock reads an absolute time as its distance from the start of the film (§3.7).
func parseClock(s string) (time.Duration, error) {
	t, err := time.Parse(clockLayout, s)
	if err != nil || t.Before(clockStart()) {
		return 0, fmt.Errorf("clock %.30q: %w", s, errGrammar)
	}
	return t.Sub(clockStart()), nil
}

// parseSMPTE reads hours:minutes:seconds[:frames] (§3.5).
func parseSMPTE(s string) (time.Duration, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 && len(parts) != 4 {
		return 0, fmt.Errorf("smpte %.30q: %w", s, errGrammar)
	}
	var n [4]float64
	for i, p := range parts {
		f, err := strconv.ParseFloat(p, 64)
		if err != nil || !(f >= 0 && f < 1e5) {
			return 0, fmt.Errorf("smpte %.30q: %w", s, errGrammar)
		}
		n[i] = f
	}
	return time.Duration((n[0]*3600 + n[1]*60 + n[2] + n[3]/25) * float64(time.Second)), nil
}

// formatTime writes a media time in a unit, npt with the given number of decimals.
func formatTime(u Unit, d time.Duration, decimals int) string {
	switch u {
	case UnitClock:
		return clockStart().Add(d).Format(clockLayout)
	case UnitSMPTE:
		s := int(d / time.Second)
		frame := int(d % time.Second * 25 / time.Second)
		return fmt.Sprintf("%d:%02d:%02d:%02d", s/3600, s/60%60, s%60, frame)
	}
	return seconds(d, decimals)
}

// seconds writes a media time as RTSP does, with n decimals.
func seconds(d time.Duration, n int) string { return strconv.FormatFloat(d.Seconds(), 'f', n, 64) }
