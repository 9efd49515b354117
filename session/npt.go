package session

import (
	"math"
	"time"
)

// Seq is an RTP sequence number: 16 bits, wraps (RFC 3550 §5.1).
type Seq uint16

// Add returns s moved by n packets, wrapping.
func (s Seq) Add(n int) Seq { return s + Seq(uint16(n)) }

// Sub returns how many packets s is after o, from -32768 to 32767.
func (s Seq) Sub(o Seq) int { return int(int16(s - o)) }

// Before reports whether s was sent before o (serial number arithmetic, RFC 1982).
func (s Seq) Before(o Seq) bool { return s.Sub(o) < 0 }

// Extend returns the extended sequence number nearest to last whose low 16 bits are s
// (RFC 3550 A.1).
func (s Seq) Extend(last uint64) uint64 {
	d := s.Sub(Seq(last))
	if d < 0 && uint64(-d) > last {
		return uint64(s)
	}
	return last + uint64(d)
}

// RTPTime is an RTP timestamp in ticks of the track's clock: 32 bits, random start, wraps
// (RFC 3550 §5.1). It is neither wall clock nor media time.
type RTPTime uint32

// Add returns t moved by n ticks, wrapping.
func (t RTPTime) Add(n int64) RTPTime { return t + RTPTime(uint32(n)) }

// Sub returns how many ticks t is after o, from -2^31 to 2^31-1.
func (t RTPTime) Sub(o RTPTime) int64 { return int64(int32(t - o)) }

// Extend returns the extended timestamp nearest to last whose low 32 bits are t.
func (t RTPTime) Extend(last int64) int64 { return last + t.Sub(RTPTime(uint32(last))) }

// NPT is normal play time: media time from the start of the film (RFC 2326 §3.6).
type NPT time.Duration

// Add returns p moved by d.
func (p NPT) Add(d time.Duration) NPT { return p + NPT(d) }

// Sub returns how far p is after o.
func (p NPT) Sub(o NPT) time.Duration { return time.Duration(p - o) }

// Seconds returns p in seconds.
func (p NPT) Seconds() float64 { return time.Duration(p).Seconds() }

// NPTSeconds returns the media time of s seconds. NaN and infinities give 0.
func NPTSeconds(s float64) NPT {
	if math.IsNaN(s) || math.IsInf(s, 0) {
		return 0
	}
	return NPT(math.Round(s * 1e9))
}

// Ticks returns the media duration of n ticks of a clock of rate Hz played at scale
// (1 is normal speed, RFC 2326 §12.34). A rate of 0 gives 0.
func Ticks(n int64, rate uint32, scale float64) time.Duration {
	if rate == 0 {
		return 0
	}
	if scale == 1 || scale == 0 {
		whole, rest := n/int64(rate), n%int64(rate)
		return time.Duration(whole)*time.Second + time.Duration(rest)*time.Second/time.Duration(rate)
	}
	return time.Duration(float64(n) / float64(rate) * scale * float64(time.Second))
}

// Anchor ties one RTP timestamp of a track to a media time. With it the npt of any later
// timestamp of the same PLAY follows; that is all a gateway needs that takes over.
type Anchor struct {
	NPT     NPT     `json:"npt"`
	RTPTime RTPTime `json:"rtptime"`
	Rate    uint32  `json:"rate"`
	Scale   float64 `json:"scale"`
}

// At returns the media time of timestamp t. Valid within 2^31 ticks of the anchor.
func (a Anchor) At(t RTPTime) NPT { return a.NPT.Add(Ticks(t.Sub(a.RTPTime), a.Rate, a.Scale)) }

// Moved returns the same mapping anchored at timestamp t, so that it goes on being valid
// beyond a wrap.
func (a Anchor) Moved(t RTPTime) Anchor {
	a.NPT, a.RTPTime = a.At(t), t
	return a
}
