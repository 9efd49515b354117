package mms

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// GUIDs of ASF objects as they stand in a file.
const (
	guidHeader     = "\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
	guidProperties = "\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65"
	guidStream     = "\x91\x07\xdc\xb7\xb7\xa9\xcf\x11\x8e\xe6\x00\xc0\x0c\x20\x53\x65"
	guidAudio      = "\x40\x9e\x69\xf8\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b"
	guidVideo      = "\xc0\xef\x19\xbc\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b"
)

const (
	objectHeader     = 24  // GUID and size
	headerObject     = 30  // and the count of objects, and two bytes
	propertiesObject = 104 // File Properties
	streamObject     = 78  // Stream Properties, without its data
	dataObject       = 50  // the start of the Data Object: the end of a file header
	maxStreams       = 127
	maxObjects       = 4096
)

// Header is what an ASF file header says.
type Header struct {
	Size         int    // of the Header Object in bytes; the file header has 50 more
	FileSize     uint64 // like the counts and durations, invalid with Broadcast
	PacketCount  uint64
	PlayDuration time.Duration // preroll included
	SendDuration time.Duration
	Preroll      time.Duration
	Broadcast    bool
	Seekable     bool
	PacketSize   uint32 // largest
	BitRate      uint32 // largest, bit/s
	Streams      []Stream
}

// Stream is one stream of an ASF file.
type Stream struct {
	Number    uint8  // 1 to 127
	Media     string // "audio", "video" or "other"
	Codec     string // "WMV2", "WMA2", a number in hex for tags without a name
	Encrypted bool
}

// FileHeaderSize returns where the first data packet begins in the file.
func (h *Header) FileHeaderSize() int { return h.Size + dataObject }

// Duration returns the length of the content, 0 when it is a broadcast or says none.
func (h *Header) Duration() time.Duration {
	if h.Broadcast {
		return 0
	}
	return max(h.PlayDuration-h.Preroll, 0)
}

// HeaderSize returns how long the ASF file header that b begins will be as it travels (Header
// Object and 50 bytes), ErrShort when b is too short to tell, ErrNotASF when it is none or
// exceeds MaxHeader.
func HeaderSize(b []byte) (int, error) {
	if have := b[:min(len(b), len(guidHeader))]; string(have) != guidHeader[:len(have)] {
		return 0, ErrNotASF
	}
	if len(b) < objectHeader {
		return 0, ErrShort
	}
	size := binary.LittleEndian.Uint64(b[16:])
	if size < headerObject || size > MaxHeader-dataObject {
		return 0, fmt.Errorf("header of %d bytes: %w", size, ErrNotASF)
	}
	return int(size) + dataObject, nil
}

// ParseHeader reads an ASF file header. The Data Object's start may be missing. ErrShort: the
// Header Object goes on after b. ErrNotASF: it is none, or has no File Properties.
func ParseHeader(b []byte) (Header, error) {
	size, err := HeaderSize(b)
	if err != nil {
		return Header{}, err
	}
	size -= dataObject
	if len(b) < size {
		return Header{}, ErrShort
	}
	h := Header{Size: size}
	found := false
	rest := b[headerObject:size]
	for range maxObjects {
		if len(rest) < objectHeader {
			break
		}
		n := binary.LittleEndian.Uint64(rest[16:])
		if n < objectHeader || n > uint64(len(rest)) {
			break // what was read so far counts
		}
		switch o := rest[:n]; string(o[:16]) {
		case guidProperties:
			found = h.properties(o) || found
		case guidStream:
			h.stream(o)
		}
		rest = rest[n:]
	}
	if !found {
		return Header{}, fmt.Errorf("no file properties: %w", ErrNotASF)
	}
	return h, nil
}

func (h *Header) properties(o []byte) bool {
	if len(o) < propertiesObject {
		return false
	}
	le := binary.LittleEndian
	h.FileSize, h.PacketCount = le.Uint64(o[40:]), le.Uint64(o[56:])
	h.PlayDuration, h.SendDuration = units(le.Uint64(o[64:]), 100), units(le.Uint64(o[72:]), 100)
	h.Preroll = units(le.Uint64(o[80:]), time.Millisecond)
	flags := le.Uint32(o[88:])
	h.Broadcast, h.Seekable = flags&1 != 0, flags&2 != 0
	h.PacketSize, h.BitRate = le.Uint32(o[96:]), le.Uint32(o[100:])
	return true
}

// units returns n units of time, the longest time there is when they do not fit.
func units(n uint64, unit time.Duration) time.Duration {
	if n > uint64(math.MaxInt64/unit) {
		return math.MaxInt64
	}
	return time.Duration(n) * unit
}

func (h *Header) stream(o []byte) {
	if len(o) < streamObject || len(h.Streams) >= maxStreams {
		return
	}
	flags := binary.LittleEndian.Uint16(o[72:])
	s := Stream{Number: uint8(flags & 0x7f), Media: "other", Encrypted: flags&0x8000 != 0}
	data := o[streamObject:]
	switch string(o[24:40]) {
	case guidAudio:
		s.Media = "audio"
		if len(data) >= 2 {
			s.Codec = audioCodec(binary.LittleEndian.Uint16(data))
		}
	case guidVideo:
		s.Media = "video"
		const fourCC = 11 + 16 // sizes and flags, then biCompression of a BITMAPINFOHEADER
		if len(data) >= fourCC+4 {
			s.Codec = printable(data[fourCC : fourCC+4])
		}
	}
	h.Streams = append(h.Streams, s)
}

// audioCodec names a wFormatTag.
func audioCodec(tag uint16) string {
	switch tag {
	case 0x0001:
		return "PCM"
	case 0x0055:
		return "MP3"
	case 0x000A:
		return "WMAVOICE"
	case 0x0160:
		return "WMA1"
	case 0x0161:
		return "WMA2"
	case 0x0162:
		return "WMAPRO"
	case 0x0163:
		return "WMALOSSLESS"
	}
	return fmt.Sprintf("0x%04X", tag)
}

// printable returns four bytes as text, in hex when they are none.
func printable(b []byte) string {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return fmt.Sprintf("0x%X", b)
		}
	}
	return string(b)
}
