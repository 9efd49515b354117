package mms

import "encoding/binary"

const (
	chunkMagic  = '$'
	chunkHeader = 4
)

// Chunk is one packet of the body of an MMSH reply ([MS-WMSP] 2.2.3).
type Chunk struct {
	Raw     []byte // every byte of the chunk; aliases the input
	ID      byte   // 'H' header, 'D' data, 'M' metadata, 'C' change, 'E' end, 'P' packet pair, 'S', 'T'
	More    bool   // another one follows at once
	Data    Data   // of 'H', 'D' and 'M'
	Payload []byte // what follows the chunk's and the data header; aliases the input
}

// NextChunk returns the first chunk of b, the body of a framed reply, and its length n. Errors
// as those of Next. A chunk of an unknown id is one too. It allocates nothing.
func NextChunk(b []byte) (c Chunk, n int, err error) {
	if len(b) > 0 && b[0]&0x7f != chunkMagic {
		return Chunk{}, 0, ErrNotMMS
	}
	if len(b) < chunkHeader {
		return Chunk{}, 0, ErrShort
	}
	n = chunkHeader + int(binary.LittleEndian.Uint16(b[2:]))
	if len(b) < n {
		return Chunk{}, n, ErrShort
	}
	c = Chunk{Raw: b[:n:n], ID: b[1], More: b[0]&0x80 != 0, Payload: b[chunkHeader:n:n]}
	if d, ok := ParseData(c.Payload); ok && (c.ID == 'H' || c.ID == 'D' || c.ID == 'M') {
		c.Data, c.Payload = d, c.Payload[dataHeader:]
	}
	return c, n, nil
}

// Reason returns what a '$E' or '$C' says: 0 the end, 1 more entries, 000D2F09 rewound to the
// start.
func (c Chunk) Reason() uint32 {
	if len(c.Payload) < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(c.Payload)
}

// AppendChunk appends the chunk with an id and a body, which is cut at 65535 bytes.
func AppendChunk(b []byte, id byte, body []byte) []byte {
	body = body[:min(len(body), MaxChunk-chunkHeader)]
	b = append(b, chunkMagic, id)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// AppendDataChunk appends the chunk that carries a data packet: 'H', 'D' or 'M'.
func AppendDataChunk(b []byte, id byte, d Data, payload []byte) []byte {
	return AppendChunk(b, id, d.Append(nil, payload))
}

// AppendReason appends an 'E' or 'C' chunk.
func AppendReason(b []byte, id byte, reason uint32) []byte {
	return AppendChunk(b, id, binary.LittleEndian.AppendUint32(nil, reason))
}
