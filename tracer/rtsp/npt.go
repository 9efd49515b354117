package rtsp

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// FormatNPT returns a media time in seconds with three decimals, rounded to the nearest
// millisecond: "45.000". A negative one gives "0.000".
func FormatNPT(d time.Duration) string {
	ms := max(d.Round(time.Millisecond), 0) / time.Millisecond
	return fmt.Sprintf("%d.%03d", ms/1000, ms%1000)
}

// ParseNPT reads one npt-time: "45", "45.", "45.064", "0:01:02.5" (RFC 2326 §3.6). Digits after
// the ninth decimal are dropped. "now" is not one.
func ParseNPT(v string) (time.Duration, bool) {
	parts := strings.Split(v, ":")
	if len(parts) != 1 && len(parts) != 3 {
		return 0, false
	}
	whole, frac, _ := strings.Cut(parts[len(parts)-1], ".")
	if whole == "" && frac == "" {
		return 0, false
	}
	nanos, ok := parseFraction(frac)
	if !ok {
		return 0, false
	}
	parts[len(parts)-1] = whole
	seconds := int64(0)
	for i, p := range parts {
		if p == "" && i == len(parts)-1 {
			p = "0"
		}
		if !isNumber(p) {
			return 0, false
		}
		n, _ := strconv.ParseInt(p, 10, 64)
		seconds = seconds*60 + n
	}
	const most = int64(1<<63-1) / int64(time.Second)
	if seconds >= most {
		return 0, false
	}
	return time.Duration(seconds)*time.Second + nanos, true
}

// parseFraction reads the digits after a decimal point.
func parseFraction(v string) (time.Duration, bool) {
	n, unit := time.Duration(0), time.Second
	for i := range len(v) {
		if !isDigit(v[i]) {
			return 0, false
		}
		unit /= 10
		n += time.Duration(v[i]-'0') * unit
	}
	return n, true
}
