package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrASF is returned for what is no streamable file in the Advanced Systems Format.
var ErrASF = errors.New("not a streamable ASF")

// ASF is a film in the Advanced Systems Format (specification revision 01.20), as an MMS server
// sends it. It does not change once made.
type ASF struct {
	Header     []byte // the Header Object and the first 50 bytes of the Data Object
	PacketSize int
	Packets    [][]byte // each of PacketSize, or shorter when its padding is left out already
	Preroll    time.Duration
	Duration   time.Duration // without the preroll
	BitRate    int
	Streams    []ASFStream

	properties int // offset of the File Properties Object in Header
	index      []asfEntry
	coded      bool // a synthetic film of the lab
}

// ASFStream is one stream of a film.
type ASFStream struct {
	Number int
	Video  bool
}

// asfEntry is what the index knows of a packet. Times are content times: without the preroll.
type asfEntry struct {
	send time.Duration
	last time.Duration // the largest presentation time
	keys []time.Duration
}

const (
	dataObjectStart = 50  // bytes of the Data Object before its first packet
	headerObject    = 30  // bytes of the Header Object before its first object
	fileProperties  = 104 // bytes
	maxASFPackets   = 1 << 22
)

// asfGUID returns the 16 bytes of an object's name.
func asfGUID(name string) string {
	return map[string]string{
		"header":     "\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",
		"data":       "\x36\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c",
		"properties": "\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65",
		"stream":     "\x91\x07\xdc\xb7\xb7\xa9\xcf\x11\x8e\xe6\x00\xc0\x0c\x20\x53\x65",
		"extension":  "\xb5\x03\xbf\x5f\x2e\xa9\xcf\x11\x8e\xe3\x00\xc0\x0c\x20\x53\x65",
		"extended":   "\x11\xd2\xd3\xab\xba\xa9\xcf\x11\x8e\xe6\x00\xc0\x0c\x20\x53\x65",
		"audio":      "\x40\x9e\x69\xf8\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b",
		"video":      "\xc0\xef\x19\xbc\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b",
		"no errors":  "\x00\x57\xfb\x20\x55\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b",
	}[name]
}

// ParseASF reads a whole file. The error is ErrASF when it cannot be streamed.
func ParseASF(file []byte) (*ASF, error) {
	a, err := parseASFHeader(file)
	if err != nil {
		return nil, err
	}
	for rest := file[len(a.Header):]; len(rest) >= a.PacketSize && uint64(len(a.Packets)) < min(a.count(), maxASFPackets); rest = rest[a.PacketSize:] {
		a.Packets = append(a.Packets, rest[:a.PacketSize])
	}
	return a, a.makeIndex()
}

// parseASFHeader reads the objects at the start of b.
func parseASFHeader(b []byte) (*ASF, error) {
	le := binary.LittleEndian
	if len(b) < headerObject+fileProperties || string(b[:16]) != asfGUID("header") {
		return nil, fmt.Errorf("no Header Object: %w", ErrASF)
	}
	size := le.Uint64(b[16:])
	if size < headerObject || size > uint64(len(b)) || uint64(len(b))-size < dataObjectStart {
		return nil, fmt.Errorf("header of %d bytes: %w", size, ErrASF)
	}
	a := &ASF{Header: b[:int(size)+dataObjectStart], properties: -1}
	for at := uint64(headerObject); at+24 <= size; {
		o := b[at:size]
		n := le.Uint64(o[16:])
		if n < 24 || n > uint64(len(o)) {
			return nil, fmt.Errorf("object of %d bytes: %w", n, ErrASF)
		}
		switch id := string(o[:16]); {
		case id == asfGUID("properties") && n >= fileProperties:
			a.properties = int(at)
			a.Preroll = time.Duration(le.Uint64(o[80:])) * time.Millisecond
			a.Duration = time.Duration(le.Uint64(o[64:])*100) - a.Preroll
			a.PacketSize, a.BitRate = int(le.Uint32(o[96:])), int(le.Uint32(o[100:]))
		case id == asfGUID("stream") && n >= 78:
			a.Streams = append(a.Streams, ASFStream{
				Number: int(le.Uint16(o[72:]) & 0x7f), Video: string(o[24:40]) == asfGUID("video"),
			})
		}
		at += n
	}
	a.coded = bytes.Contains(a.Header, []byte(filmFourCC))
	if a.properties < 0 || a.PacketSize < 32 || a.PacketSize > 64000 {
		return nil, fmt.Errorf("no File Properties, or packets of %d bytes: %w", a.PacketSize, ErrASF)
	}
	return a, nil
}

// count returns the number of packets the header announces.
func (a *ASF) count() uint64 {
	return binary.LittleEndian.Uint64(a.Header[len(a.Header)-10:])
}

// video returns the number of the first video stream; of any stream when there is none.
func (a *ASF) video() int {
	if i := slices.IndexFunc(a.Streams, func(s ASFStream) bool { return s.Video }); i >= 0 {
		return a.Streams[i].Number
	}
	return -1
}

// makeIndex scans the packets for what a server has to know of them.
func (a *ASF) makeIndex() error {
	if len(a.Packets) == 0 {
		return fmt.Errorf("no packets: %w", ErrASF)
	}
	video := a.video()
	a.index = make([]asfEntry, len(a.Packets))
	for i, b := range a.Packets {
		p, err := parseASFPacket(b)
		if err != nil {
			return fmt.Errorf("packet %d: %w", i, err)
		}
		e := &a.index[i]
		e.send = time.Duration(p.send) * time.Millisecond
		for _, x := range p.payloads {
			if !x.timed {
				continue
			}
			at := time.Duration(x.pts)*time.Millisecond - a.Preroll
			e.last = max(e.last, at)
			if x.key && x.offset == 0 && (x.stream == video || video < 0) {
				e.keys = append(e.keys, at)
			}
		}
		if i > 0 {
			e.last = max(e.last, a.index[i-1].last) // a packet may hold sound only, from before the pictures
		}
	}
	return nil
}

// At returns the packet where playing from a content time starts: the last with the beginning
// of a key picture that is not after it; and the time of that picture.
func (a *ASF) At(npt time.Duration) (packet int, key time.Duration) {
	for i, e := range a.index {
		for _, k := range e.keys {
			if k > npt {
				return packet, key
			}
			packet, key = i, k
		}
	}
	return packet, key
}

// Key returns the time of the first key picture that begins in packet n or after it; the
// duration when there is none.
func (a *ASF) Key(n int) time.Duration {
	for ; n >= 0 && n < len(a.index); n++ {
		if len(a.index[n].keys) > 0 {
			return a.index[n].keys[0]
		}
	}
	return a.Duration
}

// Delivered returns the content time that has been sent once packet n was.
func (a *ASF) Delivered(n int) time.Duration {
	if n < 0 || n >= len(a.index) {
		return a.Duration
	}
	return a.index[n].last
}

// Send returns the send time of packet n, which is when a server that paces sends it.
func (a *ASF) Send(n int) time.Duration {
	if n < 0 || n >= len(a.index) {
		return a.Duration
	}
	return a.index[n].send
}

// packetOf returns the packet a request starts with; may be past the last one.
func (a *ASF) packetOf(s mmsStart) int {
	switch {
	case s.packet >= 0:
		return int(min(s.packet, int64(len(a.Packets))))
	case s.byteOff >= 0:
		return int(min(max(0, s.byteOff-int64(len(a.Header)))/int64(a.PacketSize), int64(len(a.Packets))))
	case s.seconds > 0:
		n, _ := a.At(time.Duration(min(s.seconds, 1e9) * float64(time.Second)))
		return n
	}
	return 0
}

// broadcast returns the header as a live stream has it: sizes and durations say nothing.
func (a *ASF) broadcast() []byte {
	h := slices.Clone(a.Header)
	p := h[a.properties:]
	clear(p[40:48]) // file size
	clear(p[56:80]) // packets, play duration, send duration
	binary.LittleEndian.PutUint32(p[88:], 1)
	data := h[len(h)-dataObjectStart:]
	binary.LittleEndian.PutUint64(data[16:], dataObjectStart) // with 0, libmms and MPlayer walk the objects for ever
	clear(data[40:48])
	return h
}
