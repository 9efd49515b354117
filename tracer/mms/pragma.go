package mms

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// Pragma is what the Pragma lines of a request or reply say, all of them together
// ([MS-WMSP] 2.2.1.4).
type Pragma struct {
	Play           bool   // xPlayStrm=1
	Stop           bool   // xStopStrm=1
	Pipeline       bool   // pipeline-request=1
	StreamTime     uint32 // ms
	HaveTime       bool
	PacketNum      uint32 // Unused: not given
	OffsetHigh     uint32
	OffsetLow      uint32
	Rate           float64 // 1 when not given
	RequestContext uint32
	ClientGUID     string   // with its braces; not every one is a GUID
	ClientID       uint32   // of the server's reply
	Features       []string // of the reply: seekable, stridable, broadcast, live, playlist
}

// Pragma reads the Pragma lines.
func (h Head) Pragma() Pragma {
	p := Pragma{PacketNum: Unused, Rate: 1}
	h.each(func(name string, value []byte, _ int) bool {
		if strings.EqualFold(name, "Pragma") {
			tokens(value, func(name string, value []byte, _ int) { p.token(name, string(value)) })
		}
		return true
	})
	return p
}

// tokens calls fn with every token of a Pragma value and where its own value begins. Commas in
// quotes separate nothing.
func tokens(v []byte, fn func(name string, value []byte, at int)) {
	for at := 0; at < len(v); {
		end, quoted := at, false
		for ; end < len(v) && (quoted || v[end] != ','); end++ {
			quoted = quoted != (v[end] == '"')
		}
		t := v[at:end]
		if i := bytes.IndexByte(t, '='); i > 0 {
			fn(string(bytes.TrimSpace(t[:i])), t[i+1:], at+i+1)
		}
		at = end + 1
	}
}

func (p *Pragma) token(name, v string) {
	switch strings.ToLower(name) {
	case "xplaystrm":
		p.Play = number(v) == 1
	case "xstopstrm":
		p.Stop = number(v) == 1
	case "pipeline-request":
		p.Pipeline = number(v) == 1
	case "stream-time":
		p.StreamTime, p.HaveTime = number(v), true
	case "packet-num":
		p.PacketNum = number(v)
	case "stream-offset":
		hi, lo, _ := strings.Cut(v, ":")
		p.OffsetHigh, p.OffsetLow = number(hi), number(lo)
	case "rate":
		if r, err := strconv.ParseFloat(v[:leading(v, "0123456789.-")], 64); err == nil {
			p.Rate = r
		}
	case "request-context":
		p.RequestContext = number(v)
	case "xclientguid":
		p.ClientGUID = strings.TrimSpace(v)
	case "client-id":
		p.ClientID = number(v)
	case "features":
		for f := range strings.SplitSeq(strings.Trim(v, "\" "), ",") {
			p.Features = append(p.Features, strings.ToLower(strings.TrimSpace(f)))
		}
	}
}

// leading returns how many bytes at the front of s are of set.
func leading(s, set string) int {
	return len(s) - len(strings.TrimLeft(s, set))
}

const digits = "0123456789"

// number returns the digits at the front of a value: ffmpeg 5.1 forgets the line end after
// stream-time and the next header follows at once. What exceeds 32 bits is held to them.
func number(v string) uint32 {
	v = strings.TrimLeft(v, " ")
	n, err := strconv.ParseUint(v[:leading(v, digits)], 10, 64)
	if n > Unused || err != nil && n > 0 {
		return Unused
	}
	return uint32(n)
}

// Feature reports whether the reply names a feature.
func (p *Pragma) Feature(name string) bool { return slices.Contains(p.Features, name) }

// By returns which token decides where to start.
func (p *Pragma) By() By {
	switch {
	case p.PacketNum != Unused && p.PacketNum != 0:
		return ByPacket
	case p.OffsetHigh|p.OffsetLow != 0 && (p.OffsetHigh != Unused || p.OffsetLow != Unused):
		return ByOffset
	case p.StreamTime != 0:
		return ByPosition
	}
	return ByNothing
}

// AsksForBeginning reports whether h is a Play request that names no place: the one to rewrite.
func (h Head) AsksForBeginning() bool {
	p := h.Pragma()
	return h.IsRequest() && p.Play && p.By() == ByNothing
}

// WithStreamTime returns the Play request h with its start at ms milliseconds: the digits of
// stream-time replaced, stream-offset and packet-num, if there, unused. A request without
// stream-time (libmms on a live stream) gets a Pragma line of its own. All other bytes stay.
func (h Head) WithStreamTime(ms uint32) []byte {
	out := make([]byte, 0, len(h.raw)+40)
	done, last := 0, 0 // copied up to; where the Pragma lines end
	timed := false
	put := func(from, to int, text string) {
		out = append(append(out, h.raw[done:from]...), text...)
		done = to
	}
	_, last = line(h.raw, 0)
	h.each(func(name string, value []byte, at int) bool {
		if !strings.EqualFold(name, "Pragma") {
			return true
		}
		_, last = line(h.raw, at)
		tokens(value, func(name string, v []byte, i int) {
			from := at + i
			switch strings.ToLower(name) {
			case "stream-time":
				put(from, from+leading(string(v), digits), strconv.FormatUint(uint64(ms), 10))
				timed = true
			case "stream-offset":
				put(from, from+leading(string(v), digits+":"), "0:0")
			case "packet-num":
				put(from, from+leading(string(v), digits), "4294967295")
			}
		})
		return true
	})
	if !timed {
		put(last, last, "Pragma: stream-time="+strconv.FormatUint(uint64(ms), 10)+"\r\n")
	}
	return append(out, h.raw[done:]...)
}
