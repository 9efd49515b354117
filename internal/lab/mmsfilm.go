package lab

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Streams of a synthetic film in ASF are its tracks, counted from 1.
const (
	asfPacketRoom    = 200     // an ASF packet is so much larger than the payload of the film
	asfPacketHead    = 13      // error correction, types, WORD padding length, send time, duration
	asfPayloadHead   = 17      // with an offset DWORD, 8 bytes of replicated data, a WORD length
	maxFilmBytes     = 1 << 30 // of a synthetic film, which is in memory
	asfPayloadsMost  = 63
	filmFourCC       = "SLAB"      // the kind of video
	asfSpan          = time.Second // no packet holds more than this
	asfPayloadMarker = 0x5d        // BYTE stream number, BYTE object number, DWORD offset, BYTE replicated length
)

// ASF returns the film as a file in the Advanced Systems Format. Each payload is one packet of
// the film as it also goes over RTP, so ReadStamp reads it. Nothing can decode it. A preroll of
// 0 is 3 s. The whole film is in memory.
func (f Film) ASF(preroll time.Duration) (*ASF, error) {
	f = f.withDefaults()
	if preroll <= 0 {
		preroll = 3 * time.Second
	}
	w := asfWriter{film: f, size: f.PacketSize + asfPacketRoom, preroll: preroll.Truncate(time.Millisecond)}
	if w.size > 64000 {
		return nil, fmt.Errorf("lab: payloads of %d bytes: %w", f.PacketSize, ErrASF)
	}
	var next [trackCount]uint32
	for {
		track, at := -1, time.Duration(0)
		for t := range f.tracks() {
			if n := f.npt(t, next[t]); n < f.Duration && (track < 0 || n < at) {
				track, at = t, n
			}
		}
		if track < 0 {
			break
		}
		if !w.unit(track, next[track]) {
			return nil, fmt.Errorf("lab: the film is larger than %d bytes: %w", maxFilmBytes, ErrASF)
		}
		next[track]++
	}
	w.flush()
	a, err := parseASFHeader(w.header())
	if err != nil {
		return nil, err
	}
	a.Packets = w.packets
	return a, a.makeIndex()
}

// asfWriter packs units into packets.
type asfWriter struct {
	film    Film
	size    int
	preroll time.Duration
	packets [][]byte

	body  []byte // payloads of the packet being filled
	count int
	first time.Duration // content time of its first payload
	last  time.Duration
	buf   []byte
}

// unit adds a picture or a sound frame; false when the film has become too large.
func (w *asfWriter) unit(track int, n uint32) bool {
	at := w.film.npt(track, n)
	frags := w.film.fragments(track, n)
	w.buf = w.buf[:0]
	var ends []int
	for i := range frags {
		w.buf = w.film.appendPayload(w.buf, track, n, i)
		ends = append(ends, len(w.buf))
	}
	from := 0
	for _, end := range ends {
		full := asfPacketHead + 1 + len(w.body) + asfPayloadHead + end - from
		if full > w.size || w.count == asfPayloadsMost || w.count > 0 && at-w.first >= asfSpan {
			w.flush()
		}
		if w.count == 0 {
			w.first = at
		}
		w.last = at
		w.count++
		stream := byte(track + 1)
		if track == AudioTrack || n%uint32(w.film.GOP) == 0 {
			stream |= 0x80
		}
		le := binary.LittleEndian
		w.body = append(w.body, stream, byte(n))
		w.body = le.AppendUint32(w.body, uint32(from))
		w.body = append(w.body, 8)
		w.body = le.AppendUint32(w.body, uint32(len(w.buf)))
		w.body = le.AppendUint32(w.body, uint32((at+w.preroll)/time.Millisecond))
		w.body = le.AppendUint16(w.body, uint16(end-from))
		w.body = append(w.body, w.buf[from:end]...)
		from = end
	}
	return len(w.packets)*w.size < maxFilmBytes
}

// flush ends the packet being filled.
func (w *asfWriter) flush() {
	if w.count == 0 {
		return
	}
	le := binary.LittleEndian
	b := make([]byte, 0, w.size)
	b = append(b, 0x82, 0, 0, 0x11, asfPayloadMarker) // several payloads, WORD padding length
	b = le.AppendUint16(b, uint16(w.size-asfPacketHead-1-len(w.body)))
	b = le.AppendUint32(b, uint32(w.first/time.Millisecond))
	b = le.AppendUint16(b, uint16((w.last-w.first)/time.Millisecond))
	b = append(b, 0x80|byte(w.count)) // WORD payload lengths
	b = append(b, w.body...)
	w.packets = append(w.packets, b[:w.size])
	w.body, w.count = w.body[:0], 0
}

// header returns the Header Object and the start of the Data Object.
func (w *asfWriter) header() []byte {
	le := binary.LittleEndian
	const fileID = "a film of the lab"
	object := func(name string, body []byte) []byte {
		b := append([]byte(asfGUID(name)), make([]byte, 8)...)
		le.PutUint64(b[16:], uint64(len(b)+len(body)))
		return append(b, body...)
	}
	objects := [][]byte{
		object("properties", w.properties(fileID[:16])),
		object("extension", append([]byte(asfGUID("extended")), 6, 0, 0, 0, 0, 0)),
	}
	for t := range w.film.tracks() {
		objects = append(objects, object("stream", streamProperties(t)))
	}
	body := le.AppendUint32(nil, uint32(len(objects)))
	body = append(body, 1, 2)
	for _, o := range objects {
		body = append(body, o...)
	}
	data := object("data", append([]byte(fileID[:16]), make([]byte, 10)...))
	le.PutUint64(data[16:], uint64(len(data)+len(w.packets)*w.size))
	le.PutUint64(data[40:], uint64(len(w.packets)))
	data[48], data[49] = 1, 1
	return append(object("header", body), data...)
}

// properties returns the body of the File Properties Object.
func (w *asfWriter) properties(fileID string) []byte {
	le := binary.LittleEndian
	d := w.film.Duration
	packets := uint64(len(w.packets))
	b := append([]byte(fileID), make([]byte, fileProperties-24-16)...)
	put := func(off int, v uint64) { le.PutUint64(b[off-24:], v) } // offsets as in mms.md 3.1
	put(40, packets*uint64(w.size))
	put(56, packets)
	put(64, uint64((d+w.preroll)/100))
	put(72, uint64(d/100))
	put(80, uint64(w.preroll/time.Millisecond))
	put(88, 2) // seekable
	le.PutUint32(b[92-24:], uint32(w.size))
	le.PutUint32(b[96-24:], uint32(w.size))
	le.PutUint32(b[100-24:], uint32(max(1, float64(packets)*float64(w.size)*8/max(d.Seconds(), 1))))
	return b
}

// streamProperties returns the body of a Stream Properties Object: a kind of video nobody knows,
// and PCM of 16 kHz, because players look at the kind before they ask for the stream.
func streamProperties(track int) []byte {
	le := binary.LittleEndian
	kind, data := "video", make([]byte, 11+40)
	if track == AudioTrack {
		kind, data = "audio", make([]byte, 18)
		le.PutUint16(data, 1) // PCM
		le.PutUint16(data[2:], 1)
		le.PutUint32(data[4:], audioClock)
		le.PutUint32(data[8:], 2*audioClock)
		le.PutUint16(data[12:], 2)
		le.PutUint16(data[14:], 16)
	} else {
		le.PutUint32(data, 320)
		le.PutUint32(data[4:], 180)
		data[8] = 2
		le.PutUint16(data[9:], 40)
		le.PutUint32(data[11:], 40) // BITMAPINFOHEADER
		le.PutUint32(data[15:], 320)
		le.PutUint32(data[19:], 180)
		le.PutUint16(data[23:], 1)
		le.PutUint16(data[25:], 24)
		copy(data[27:], filmFourCC)
	}
	b := []byte(asfGUID(kind) + asfGUID("no errors"))
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, uint32(len(data)))
	b = le.AppendUint32(b, 0)
	b = le.AppendUint16(b, uint16(track+1))
	b = le.AppendUint32(b, 0)
	return append(b, data...)
}
