package mms

import (
	"encoding/binary"
	"math"
)

// Unused is the value of a position field that is not used; 0 is taken for unused as well.
const Unused = 0xFFFFFFFF

// StartPlaying starts the media, or seeks (2.2.4.25).
type StartPlaying struct {
	OpenFileID      uint32
	Padding         uint32
	Position        float64 // seconds, without the preroll
	ASFOffset       uint32  // byte offset in the file
	LocationID      uint32  // number of an ASF data packet
	FrameOffset     uint32  // where to stop; 0: at the end
	PlayIncarnation uint32  // becomes that of the media packets
	Optional        int     // how many of the following are there: 0, 2 or 3
	AccelBandwidth  uint32  // bit/s
	AccelDuration   uint32  // ms
	LinkBandwidth   uint32  // bit/s
}

// MID returns MIDStartPlaying.
func (*StartPlaying) MID() MID { return MIDStartPlaying }

func (x *StartPlaying) code(c *coder) {
	x.position(c)
	if !c.write {
		x.Optional = 0
		switch left := c.left(); {
		case left >= 12:
			x.Optional = 3
		case left >= 8:
			x.Optional = 2
		}
	}
	for i, p := range []*uint32{&x.AccelBandwidth, &x.AccelDuration, &x.LinkBandwidth} {
		if i < x.Optional {
			c.u32(p)
		}
	}
}

func (x *StartPlaying) position(c *coder) {
	c.u32(&x.OpenFileID)
	c.u32(&x.Padding)
	c.f64(&x.Position)
	c.u32(&x.ASFOffset)
	c.u32(&x.LocationID)
	c.u32(&x.FrameOffset)
	c.u32(&x.PlayIncarnation)
}

// StartStriding starts fast forward or rewind (2.2.4.26).
type StartStriding struct {
	StartPlaying
	Rate float64 // -5 to 5
}

// MID returns MIDStartStriding.
func (*StartStriding) MID() MID { return MIDStartStriding }

func (x *StartStriding) code(c *coder) {
	x.position(c)
	c.f64(&x.Rate)
}

// By says which field of a StartPlaying, or which token of a Play request, tells where to start.
type By uint8

// The ways to name a start.
const (
	ByNothing  By = iota // the beginning
	ByPacket             // packet number
	ByOffset             // byte offset
	ByPosition           // time
)

// String returns the name of the field.
func (b By) String() string {
	switch b {
	case ByPacket:
		return "packet"
	case ByOffset:
		return "offset"
	case ByPosition:
		return "position"
	}
	return "beginning"
}

// By returns which field decides, in the order that satisfies the specification and the clients,
// which leave Position at 0 always.
func (x *StartPlaying) By() By {
	switch {
	case x.LocationID != 0 && x.LocationID != Unused:
		return ByPacket
	case x.ASFOffset != 0 && x.ASFOffset != Unused:
		return ByOffset
	case x.Position > 0 && x.Position < 1e300: // not NaN, not DBL_MAX
		return ByPosition
	}
	return ByNothing
}

// AsksForBeginning reports whether m is a StartPlaying that names no place: the one to rewrite.
func (m Message) AsksForBeginning() bool {
	var x StartPlaying
	return m.MID == MIDStartPlaying && m.Decode(&x) == nil && x.By() == ByNothing
}

// SetStart makes m, a StartPlaying, start at seconds of the film (without preroll): it patches
// the 16 bytes of position, asfOffset and locationId in place. It reports whether it could.
func (m Message) SetStart(seconds float64) bool {
	if math.IsNaN(seconds) || seconds < 0 || math.IsInf(seconds, 0) {
		return false
	}
	return m.setStart(math.Float64bits(seconds), Unused)
}

// SetStartPacket makes m start at ASF data packet n, for servers that ignore times.
func (m Message) SetStartPacket(n uint32) bool {
	f := m.fields()
	return len(f) >= 32 && m.setStart(binary.LittleEndian.Uint64(f[8:]), n)
}

func (m Message) setStart(position uint64, location uint32) bool {
	f := m.fields()
	if m.MID != MIDStartPlaying || len(f) < 32 {
		return false
	}
	binary.LittleEndian.PutUint64(f[8:], position)
	binary.LittleEndian.PutUint32(f[16:], Unused)
	binary.LittleEndian.PutUint32(f[20:], location)
	return true
}
