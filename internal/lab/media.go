package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// Tracks of the film, in the order of its SDP.
const (
	VideoTrack = 0
	AudioTrack = 1
	trackCount = 2
)

const (
	videoClock  = 90000
	audioClock  = 16000
	audioUnit   = 1024 // samples of one AAC frame
	audioBytes  = 96   // payload of one audio packet
	stampLen    = 28
	minPayload  = stampLen + 4
	videoPT     = 96
	audioPT     = 97
	stampMagic  = 0x734c4142 // "sLAB"
	crcOffset   = 24         // of the checksum within the stamp
	keyWeight   = 5          // a key picture is this many times the size of another
	maxFragment = 4096       // packets of one picture
)

// Film is what a server sends: video of one closed group of pictures per second, and sound.
// The zero value is 180 s of 25 pictures/s at about 0.1 Mbit/s.
type Film struct {
	Duration   time.Duration // default 180 s
	FPS        int           // pictures per second, default 25
	GOP        int           // pictures from key picture to key picture, default FPS: one second
	Bitrate    int           // of the video, bit/s; default: key pictures of 4 packets, others of 300 bytes
	PacketSize int           // largest RTP payload, default 1200 bytes
	NoAudio    bool
}

// withDefaults returns the film with what was left out filled in and what makes no sense bounded.
func (f Film) withDefaults() Film {
	if f.Duration <= 0 {
		f.Duration = 180 * time.Second
	}
	if f.FPS <= 0 || f.FPS > 1000 {
		f.FPS = 25
	}
	if f.GOP <= 0 {
		f.GOP = f.FPS
	}
	if f.PacketSize <= 0 || f.PacketSize > 60000 {
		f.PacketSize = 1200
	}
	f.PacketSize = max(f.PacketSize, minPayload)
	return f
}

func (f Film) tracks() int {
	if f.NoAudio {
		return 1
	}
	return trackCount
}

// npt returns the media time of unit n of a track.
func (f Film) npt(track int, n uint32) time.Duration {
	if track == AudioTrack {
		return time.Duration(n) * audioUnit * time.Second / audioClock
	}
	return time.Duration(n) * time.Second / time.Duration(f.FPS)
}

// firstAt returns the first unit of a track that is not before npt.
func (f Film) firstAt(track int, npt time.Duration) uint32 {
	per := time.Second / time.Duration(f.FPS)
	if track == AudioTrack {
		per = audioUnit * time.Second / audioClock
	}
	n := uint32(npt / per)
	for f.npt(track, n) < npt {
		n++
	}
	return n
}

// keyBefore returns the time of the last key picture that is not after npt.
func (f Film) keyBefore(npt time.Duration) time.Duration {
	n := f.firstAt(VideoTrack, npt)
	if f.npt(VideoTrack, n) > npt {
		n--
	}
	return f.npt(VideoTrack, n/uint32(f.GOP)*uint32(f.GOP))
}

func clockRate(track int) int64 {
	if track == AudioTrack {
		return audioClock
	}
	return videoClock
}

// ticks returns a media duration in the clock of a track.
func ticks(track int, d time.Duration) uint32 {
	rate := time.Duration(clockRate(track))
	return uint32(int64(d/time.Second*rate + d%time.Second*rate/time.Second))
}

// size returns how many bytes of payload unit n of a track has.
func (f Film) size(track int, n uint32) int {
	switch {
	case track == AudioTrack:
		return audioBytes
	case f.Bitrate <= 0 && n%uint32(f.GOP) == 0:
		return 4 * f.PacketSize
	case f.Bitrate <= 0:
		return min(300, f.PacketSize)
	}
	group := f.Bitrate / 8 * f.GOP / f.FPS
	size := group / (f.GOP - 1 + keyWeight)
	if n%uint32(f.GOP) == 0 {
		size *= keyWeight
	}
	return min(max(size, minPayload), maxFragment*f.PacketSize)
}

// fragments returns how many packets unit n of a track takes.
func (f Film) fragments(track int, n uint32) int {
	return (f.size(track, n) + f.PacketSize - 1) / f.PacketSize
}

// Stamp is what the payload of each packet says about itself.
type Stamp struct {
	Track     int
	Key       bool          // belongs to a key picture
	Number    uint32        // picture, or sound frame
	Fragment  int           // from 0
	Fragments int           // packets of this picture
	NPT       time.Duration // media time, exact to 1 µs
}

// ErrCorrupt is returned for a payload that is not what the server made.
var ErrCorrupt = errors.New("corrupt media payload")

// appendPayload appends the payload of fragment i of unit n: the head a depayloader expects, the
// stamp, filling, and a checksum over all of it.
func (f Film) appendPayload(b []byte, track int, n uint32, i int) []byte {
	frags := f.fragments(track, n)
	size := f.size(track, n)/frags + 1
	size = min(max(size, minPayload), f.PacketSize)
	from := len(b)
	key := track == VideoTrack && n%uint32(f.GOP) == 0
	if track == AudioTrack {
		b = append(b, 0, 16, byte((size-4)>>5), byte((size-4)<<3)) // RFC 3640 §3.2: one AU header of 13+3 bits
	} else {
		b = appendNAL(b, key, i, frags)
	}
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, stampMagic)
	flags := byte(0)
	if key {
		flags = 1
	}
	b = append(b, byte(track), flags)
	b = binary.BigEndian.AppendUint16(b, uint16(i))
	b = binary.BigEndian.AppendUint16(b, uint16(frags))
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	b = binary.BigEndian.AppendUint32(b, n)
	b = binary.BigEndian.AppendUint64(b, uint64(f.npt(track, n)/time.Microsecond))
	b = append(b, 0, 0, 0, 0)
	for len(b)-from < size {
		b = append(b, filling[:min(size-(len(b)-from), len(filling))]...)
	}
	binary.BigEndian.PutUint32(b[at+crcOffset:], checksum(b[from:], at-from+crcOffset))
	return b
}

// filling has no start code in it.
const filling = "the pictures of this film are all alike, only their numbers differ; " +
	"what you read here fills the packet so that it weighs what a picture weighs. "

// appendNAL appends the head of a single NAL unit or of a FU-A fragment (RFC 6184 §5.6, §5.8).
func appendNAL(b []byte, key bool, i, frags int) []byte {
	nal := byte(0x41) // slice of a non-IDR picture
	if key {
		nal = 0x65 // slice of an IDR picture
	}
	if frags == 1 {
		return append(b, nal)
	}
	fu := nal & 0x1f
	if i == 0 {
		fu |= 0x80
	}
	if i == frags-1 {
		fu |= 0x40
	}
	return append(b, nal&0x60|28, fu)
}

// checksum covers p without its 4 bytes at off.
func checksum(p []byte, off int) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(p[:off]), crc32.IEEETable, p[off+4:])
}

// ReadStamp returns what the RTP payload p says about itself. The error is ErrCorrupt when p is
// not as the server made it, in any byte.
func ReadStamp(p []byte) (Stamp, error) {
	var off int
	switch {
	case len(p) < minPayload:
		return Stamp{}, fmt.Errorf("%d bytes: %w", len(p), ErrCorrupt)
	case p[0] == 0 && p[1] == 16:
		off = 4
	case p[0]&0x1f == 28:
		off = 2
	default:
		off = 1
	}
	if len(p) < off+stampLen {
		return Stamp{}, fmt.Errorf("%d bytes: %w", len(p), ErrCorrupt)
	}
	s := p[off:]
	if binary.BigEndian.Uint32(s) != stampMagic {
		return Stamp{}, fmt.Errorf("no stamp: %w", ErrCorrupt)
	}
	if binary.BigEndian.Uint32(s[crcOffset:]) != checksum(p, off+crcOffset) {
		return Stamp{}, fmt.Errorf("checksum: %w", ErrCorrupt)
	}
	st := Stamp{
		Track:     int(s[4]),
		Key:       s[5]&1 != 0,
		Fragment:  int(binary.BigEndian.Uint16(s[6:])),
		Fragments: int(binary.BigEndian.Uint16(s[8:])),
		Number:    binary.BigEndian.Uint32(s[12:]),
		NPT:       time.Duration(binary.BigEndian.Uint64(s[16:])) * time.Microsecond,
	}
	length := int(binary.BigEndian.Uint16(s[10:]))
	if length != len(p) || st.Track >= trackCount || st.Fragment >= st.Fragments || st.Fragments > maxFragment {
		return Stamp{}, fmt.Errorf("%+v of %d bytes: %w", st, len(p), ErrCorrupt)
	}
	return st, nil
}
