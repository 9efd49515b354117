package mms

import (
	"bytes"
	"encoding/binary"
)

// PlayerHead is how many bytes of a connection on an HTTP port may be searched for a player:
// what shows none in them is somebody's web traffic, and is not read.
const PlayerHead = 512

// LooksLikePlayer reports whether b, the beginning of what a terminal sends on an HTTP port,
// holds the signature of a player within its first PlayerHead bytes.
func LooksLikePlayer(b []byte) bool {
	b = b[:min(len(b), PlayerHead)]
	return bytes.Contains(b, []byte("NSPlayer")) || bytes.Contains(b, []byte("xClientGUID"))
}

// IsMessage reports whether a message begins at the front of b, of which 16 bytes are looked at.
func IsMessage(b []byte) bool {
	return len(b) >= messageFrame && string(b[4:8]) == signature && string(b[12:16]) == seal
}

// MessageDir returns the direction of the message at the front of b; ok is false when b is too
// short to tell or none begins there.
func MessageDir(b []byte) (d Dir, ok bool) {
	if len(b) < messageLeast || !IsMessage(b) {
		return 0, false
	}
	switch binary.LittleEndian.Uint32(b[36:]) >> 16 {
	case 3:
		return ToServer, true
	case 4:
		return ToViewer, true
	}
	return 0, false
}

// MediaSignature tells a media packet from arbitrary bytes in the middle of a stream.
type MediaSignature struct {
	Incarnation uint8
	MaxSize     int    // of the data packet: its 8 bytes and the largest ASF packet
	From, To    uint32 // bounds of LocationID
	Framed      bool   // MMSH: the data packet stands in a '$D'
}

// Least is how many bytes of a media packet have to be there for Match to be sure.
const Least = 48

// Match returns the data packet header and the ASF packet, whole or cut by the end of b, that
// begin at the front of b. ok is false when no media packet of this signature begins there, or
// too little of it is left to be sure.
func (s MediaSignature) Match(b []byte) (d Data, asf []byte, ok bool) {
	if s.Framed {
		if len(b) < chunkHeader || b[0]&0x7f != chunkMagic || b[1] != 'D' {
			return Data{}, nil, false
		}
		size := binary.LittleEndian.Uint16(b[2:])
		if b = b[chunkHeader:]; len(b) < dataHeader || size != binary.LittleEndian.Uint16(b[6:]) {
			return Data{}, nil, false
		}
	}
	if len(b) < dataHeader || b[4] != s.Incarnation {
		return Data{}, nil, false
	}
	d = parseData(b)
	size := int(d.Size)
	if size <= dataHeader || size > s.MaxSize || d.LocationID < s.From || d.LocationID > s.To {
		return Data{}, nil, false
	}
	if len(b) < min(size, Least) {
		return Data{}, nil, false
	}
	asf = b[dataHeader:min(size, len(b))]
	if asf[0] != errorCorrection|2 || len(asf) < 5 || asf[4] != 0x5d { // the flags of every muxer
		return Data{}, nil, false
	}
	_, err := ParsePacket(asf[:min(len(asf), Least)]) // no more: it is tried at every byte
	return d, asf, err == nil
}

// Size returns how long a media packet with header d is in the stream.
func (s MediaSignature) Size(d Data) int {
	if s.Framed {
		return chunkHeader + int(d.Size)
	}
	return int(d.Size)
}
