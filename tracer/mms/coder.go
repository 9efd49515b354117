package mms

import (
	"encoding/binary"
	"math"
	"unicode/utf16"
)

// coder reads or writes the fields of a message in order, so that each layout stands once.
// Reading beyond the end gives zeroes and sets short.
type coder struct {
	b     []byte // reading: all fields; writing: all that was written
	at    int    // reading: the next field; writing: where the fields begin
	write bool
	short bool
}

// take returns the next n bytes to be read, nil when there are not so many.
func (c *coder) take(n int) []byte {
	if len(c.b)-c.at < n {
		c.short, c.at = true, len(c.b)
		return nil
	}
	c.at += n
	return c.b[c.at-n : c.at]
}

// left returns how many bytes are still to be read; writing, all there is room for.
func (c *coder) left() int {
	if c.write {
		return math.MaxInt
	}
	return len(c.b) - c.at
}

func (c *coder) u16(p *uint16) {
	if c.write {
		c.b = binary.LittleEndian.AppendUint16(c.b, *p)
		return
	}
	*p = 0
	if b := c.take(2); b != nil {
		*p = binary.LittleEndian.Uint16(b)
	}
}

func (c *coder) u32(p *uint32) {
	if c.write {
		c.b = binary.LittleEndian.AppendUint32(c.b, *p)
		return
	}
	*p = 0
	if b := c.take(4); b != nil {
		*p = binary.LittleEndian.Uint32(b)
	}
}

func (c *coder) hr(p *HRESULT) { c.u32((*uint32)(p)) }

func (c *coder) u64(p *uint64) {
	if c.write {
		c.b = binary.LittleEndian.AppendUint64(c.b, *p)
		return
	}
	*p = 0
	if b := c.take(8); b != nil {
		*p = binary.LittleEndian.Uint64(b)
	}
}

func (c *coder) f64(p *float64) {
	v := math.Float64bits(*p)
	c.u64(&v)
	*p = math.Float64frombits(v)
}

// skip passes over n bytes, zero when written.
func (c *coder) skip(n int) {
	if c.write {
		c.b = append(c.b, make([]byte, n)...)
		return
	}
	c.take(n)
}

// optional is a u32 at the end that need not be there.
func (c *coder) optional(p *uint32) {
	if c.left() >= 4 {
		c.u32(p)
	}
}

// text is a UTF-16LE string up to its NUL or the end of the message.
func (c *coder) text(p *string) {
	if c.write {
		c.b = appendText(c.b, *p)
		return
	}
	var n int
	*p, n = cutText(c.b[c.at:])
	c.at += n
}

// counted is a UTF-16LE string of n characters, its NUL included.
func (c *coder) counted(p *string, n uint32) {
	if c.write {
		if *p != "" {
			c.b = appendText(c.b, *p)
		}
		return
	}
	if uint64(n)*2 > uint64(c.left()) {
		c.short = true
		n = uint32(c.left() / 2)
	}
	*p, _ = cutText(c.take(int(n) * 2))
}

func appendText(b []byte, s string) []byte {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, 0, 0)
}

// cutText returns the string at the front of b and how many bytes it took, its NUL included.
func cutText(b []byte) (string, int) {
	var units []uint16
	for i := 0; i+2 <= len(b); i += 2 {
		u := binary.LittleEndian.Uint16(b[i:])
		if u == 0 {
			return string(utf16.Decode(units)), i + 2
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units)), len(b) &^ 1
}

// chars returns the count of characters a counted string takes.
func chars(s string) uint32 {
	if s == "" {
		return 0
	}
	return uint32(len(utf16.Encode([]rune(s)))) + 1
}
