package tracer

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// maxFrame bounds a frame of a capture in bytes; what a recorder writes has at most 64 KiB, or 512 KiB
// where segments are that large (BIG TCP).
const maxFrame = 1 << 20

// recording reads the frames of a pcap or pcapng file, of either byte order and any resolution of time,
// packed by gzip or not. Not safe for concurrent use.
type recording struct {
	src  packets
	link layers.LinkType // of the newest frame; of pcap: of all
	last time.Time
}

// packets is what both formats offer.
type packets interface {
	ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
}

// openCapture begins to read a capture. What is none, or has a link type that nothing is read of, is an
// error.
func openCapture(in io.Reader) (*recording, error) {
	b := bufio.NewReaderSize(in, 1<<16)
	if magic, _ := b.Peek(2); string(magic) == "\x1f\x8b" {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, err
		}
		b = bufio.NewReaderSize(z, 1<<16)
	}
	magic, err := b.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("not a capture: %w", err)
	}
	if string(magic) == sectionHeader {
		mixed := pcapgo.DefaultNgReaderOptions
		mixed.WantMixedLinkType, mixed.SkipUnknownVersion = true, true
		r, err := pcapgo.NewNgReader(bufio.NewReaderSize(&blocks{r: b}, 1<<16), mixed)
		if err != nil {
			return nil, err
		}
		return &recording{src: r}, nil
	}
	r, err := pcapgo.NewReader(b)
	if err != nil {
		return nil, fmt.Errorf("neither pcap nor pcapng: %w", err)
	}
	r.SetSnaplen(maxFrame) // recorders exceed what they announce
	if !readable(r.LinkType()) {
		return nil, unreadable(r.LinkType())
	}
	return &recording{src: r, link: r.LinkType()}, nil
}

func unreadable(l layers.LinkType) error { return fmt.Errorf("link type %v is not supported", l) }

// next returns the next frame and when it was recorded; a frame without time has that of the one before.
// io.ErrUnexpectedEOF: the file ends in the middle of a frame.
func (r *recording) next() (b []byte, at time.Time, err error) {
	defer func() {
		if p := recover(); p != nil { // pcapgo, at damaged options
			err = fmt.Errorf("damaged: %v", p)
		}
	}()
	b, info, err := r.src.ReadPacketData()
	if err != nil {
		return nil, time.Time{}, err
	}
	if len(info.AncillaryData) > 0 {
		if l, ok := info.AncillaryData[0].(layers.LinkType); ok {
			r.link = l
		}
	}
	if !info.Timestamp.IsZero() {
		r.last = info.Timestamp
	}
	return b, r.last, nil
}

// Of pcapng (draft-ietf-opsawg-pcapng §3.1, §4.1).
const (
	sectionHeader = "\x0a\x0d\x0d\x0a"
	byteOrder     = 0x1a2b3c4d
	blockPacket   = 2
	blockSimple   = 3
	blockEnhanced = 6
	blockLeast    = 12
	packetHead    = 24 // of the first and the last of them, up to the length of what was captured
	blockMost     = 16 << 20
)

var errBlock = errors.New("a block of impossible length")

// blocks passes a pcapng file on, and tells an end in the middle of a block, which pcapgo does not.
type blocks struct {
	r    io.Reader
	big  bool
	head []byte // of the next block, until its lengths are known
	left uint32 // of this block
}

func (x *blocks) Read(p []byte) (int, error) {
	n, err := x.r.Read(p)
	if e := x.walk(p[:n]); e != nil {
		return 0, e
	}
	if errors.Is(err, io.EOF) && (x.left > 0 || len(x.head) > 0) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// walk follows the lengths of blocks through b.
func (x *blocks) walk(b []byte) error {
	for len(b) > 0 {
		if x.left > 0 {
			n := min(x.left, uint32(len(b)))
			x.left, b = x.left-n, b[n:]
			continue
		}
		n := min(packetHead-len(x.head), len(b))
		if len(x.head) < blockLeast {
			n = min(blockLeast-len(x.head), len(b))
		}
		x.head, b = append(x.head, b[:n]...), b[n:]
		if len(x.head) < blockLeast {
			return nil
		}
		if string(x.head[:4]) == sectionHeader {
			x.big = binary.BigEndian.Uint32(x.head[8:]) == byteOrder
		}
		kind, size := x.field(0), x.field(4)
		packet := kind == blockPacket || kind == blockEnhanced
		switch {
		case size < blockLeast || size > blockMost || kind == blockSimple && x.field(8) > blockMost:
			return errBlock
		case packet && size < packetHead+8:
			return errBlock
		case packet && len(x.head) < packetHead:
			continue
		case packet && x.field(20) > size:
			return errBlock
		}
		x.left, x.head = size-min(size, uint32(len(x.head))), x.head[:0]
	}
	return nil
}

// field returns the number at an offset of the block.
func (x *blocks) field(at int) uint32 {
	if x.big {
		return binary.BigEndian.Uint32(x.head[at:])
	}
	return binary.LittleEndian.Uint32(x.head[at:])
}
