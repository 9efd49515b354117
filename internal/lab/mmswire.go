package lab

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf16"
)

// The messages of MMS over TCP that the lab speaks (MS-MMSP 2.2.4). The high half of a MID tells
// who sends it.
const (
	midConnect       = 0x00030001
	midConnectFunnel = 0x00030002
	midOpenFile      = 0x00030005
	midStartPlaying  = 0x00030007
	midStopPlaying   = 0x00030009
	midCloseFile     = 0x0003000d
	midReadBlock     = 0x00030015
	midFunnelInfo    = 0x00030018
	midPong          = 0x0003001b
	midStriding      = 0x00030028
	midLogging       = 0x00030032
	midStreamSwitch  = 0x00030033

	midReportConnected   = 0x00040001
	midReportFunnel      = 0x00040002
	midReportNoFunnel    = 0x00040003
	midReportStarted     = 0x00040005
	midReportOpenFile    = 0x00040006
	midReportStriding    = 0x0004000a
	midReportReadBlock   = 0x00040011
	midReportFunnelInfo  = 0x00040015
	midPing              = 0x0004001b
	midEndOfStream       = 0x0004001e
	midReportSwitch      = 0x00040021
	mmsSignature         = 0xb00bface
	mmsSeal              = 0x20534d4d // "MMS "
	mmsHeader            = 32         // bytes of the TcpMessageHeader
	mmsBody              = 40         // where the fields of a message begin
	mmsDataHeader        = 8          // LocationId, playIncarnation, AFFlags, PacketSize
	maxMMSMessage        = 64 << 10
	notUsed              = 0xffffffff // a LocationId or asfOffset that says nothing
	noPacketPair         = 0xf0f0f0ef
	mmsHeaderMore        = 0x04 // AFFlags of a piece of the ASF header
	mmsHeaderLast        = 0x0c // of its last piece
	mmsDefaultPort       = "1755"
	mmshDefaultPort      = "80"
	fileNotFound         = 0x80070002 // HRESULT
	accessDenied         = 0x80070005
	macToViewerRevision  = 0x0004000b
	viewerToMacRevision  = 0x0003001c
	attrSeek, attrStride = 0x01000000, 0x00800000
	attrBroadcast        = 0x02000000
)

// requestNames are what the log calls the messages of a viewer.
func requestName(mid uint32) string {
	names := map[uint32]string{
		midConnect: "Connect", midConnectFunnel: "ConnectFunnel", midOpenFile: "OpenFile",
		midStartPlaying: "StartPlaying", midStopPlaying: "StopPlaying", midCloseFile: "CloseFile",
		midReadBlock: "ReadBlock", midFunnelInfo: "FunnelInfo", midPong: "Pong", midStriding: "StartStriding",
		midLogging: "Logging", midStreamSwitch: "StreamSwitch",
	}
	if n := names[mid]; n != "" {
		return n
	}
	return fmt.Sprintf("%08x", mid)
}

var errMMS = errors.New("not MMS")

// mmsMessage is one message of either side. Offsets of its fields count from the header's first
// byte, as in MS-MMSP.
type mmsMessage struct {
	mid uint32
	raw []byte
}

// u32 returns the field at an absolute offset; 0 when the message is shorter.
func (m mmsMessage) u32(off int) uint32 {
	if off+4 > len(m.raw) {
		return 0
	}
	return binary.LittleEndian.Uint32(m.raw[off:])
}

func (m mmsMessage) f64(off int) float64 {
	if off+8 > len(m.raw) {
		return 0
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(m.raw[off:]))
}

// text returns the UTF-16 string at an absolute offset, up to its NUL.
func (m mmsMessage) text(off int) string {
	var units []uint16
	for ; off+2 <= len(m.raw); off += 2 {
		u := binary.LittleEndian.Uint16(m.raw[off:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// buildMMS returns one message: header, fields in the order given, padding. Fields are fixed-size
// integers, float64, []byte, and string: UTF-16 with its NUL. ChunkCount is (total-16)/8 as all
// clients send it, or total/8 as the specification says.
func buildMMS(mid uint32, seq uint16, ms uint64, specCount bool, fields ...any) []byte {
	le := binary.LittleEndian
	b := make([]byte, mmsHeader, 160)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, mid)
	for _, f := range fields {
		if s, ok := f.(string); ok {
			for _, u := range utf16.Encode([]rune(s + "\x00")) {
				b = le.AppendUint16(b, u)
			}
			continue
		}
		b, _ = binary.Append(b, le, f) // cannot fail: every kind named above has a size
	}
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	total := len(b)
	count := (total - 16) / 8
	if specCount {
		count = total / 8
	}
	b[0] = 1
	le.PutUint32(b[4:], mmsSignature)
	le.PutUint32(b[8:], uint32(total-16))
	le.PutUint32(b[12:], mmsSeal)
	le.PutUint32(b[16:], uint32(count))
	le.PutUint16(b[20:], seq)
	le.PutUint64(b[24:], ms)
	le.PutUint32(b[32:], uint32(total-mmsHeader)/8)
	return b
}

// mmsUnit is what a server sends: a message, or a data packet.
type mmsUnit struct {
	message  *mmsMessage
	location uint32
	inc      uint8
	flags    uint8
	payload  []byte
}

// readMMS reads a message; a viewer sends nothing else. What stands behind the first message
// under one header is ignored: no client sends that.
func readMMS(r *bufio.Reader) (mmsMessage, error) {
	head, err := r.Peek(12)
	if err != nil {
		return mmsMessage{}, err
	}
	if binary.LittleEndian.Uint32(head[4:]) != mmsSignature {
		return mmsMessage{}, fmt.Errorf("%x: %w", head, errMMS)
	}
	n := int64(binary.LittleEndian.Uint32(head[8:])) + 16
	if n < mmsBody || n > maxMMSMessage {
		return mmsMessage{}, fmt.Errorf("message of %d bytes: %w", n, errMMS)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return mmsMessage{}, err
	}
	return mmsMessage{binary.LittleEndian.Uint32(raw[36:]), raw}, nil
}

// readMMSUnit reads what comes next from a server (mms.md 1.1).
func readMMSUnit(r *bufio.Reader) (mmsUnit, error) {
	head, err := r.Peek(mmsDataHeader)
	if err != nil {
		return mmsUnit{}, err
	}
	if binary.LittleEndian.Uint32(head[4:]) == mmsSignature {
		m, err := readMMS(r)
		return mmsUnit{message: &m}, err
	}
	return readMMSData(r)
}

// readMMSData reads a data packet.
func readMMSData(r io.Reader) (mmsUnit, error) {
	var head [mmsDataHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return mmsUnit{}, err
	}
	n := int(binary.LittleEndian.Uint16(head[6:]))
	if n < mmsDataHeader {
		return mmsUnit{}, fmt.Errorf("data packet of %d bytes: %w", n, errMMS)
	}
	u := mmsUnit{
		location: binary.LittleEndian.Uint32(head[:]), inc: head[4], flags: head[5],
		payload: make([]byte, n-mmsDataHeader),
	}
	_, err := io.ReadFull(r, u.payload)
	return u, err
}

// appendMMSData appends a data packet.
func appendMMSData(b []byte, location uint32, inc, flags uint8, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, location)
	b = append(b, inc, flags)
	b = binary.LittleEndian.AppendUint16(b, uint16(mmsDataHeader+len(payload)))
	return append(b, payload...)
}

// mmsStart is where a request asks to start: by packet, by byte, by time, or at the beginning,
// in this order (mms.md 1.6).
type mmsStart struct {
	packet  int64 // -1: not used
	byteOff int64 // in the ASF file; -1: not used
	seconds float64
}

// startOf reads the start of a StartPlaying.
func startOf(m mmsMessage) mmsStart {
	s := mmsStart{packet: -1, byteOff: -1}
	pos, off, loc := m.f64(48), m.u32(56), m.u32(60)
	switch {
	case loc != 0 && loc != notUsed:
		s.packet = int64(loc)
	case off != 0 && off != notUsed:
		s.byteOff = int64(off)
	case pos > 0 && pos < 1e300:
		s.seconds = pos
	}
	return s
}

// funnelUDP reports whether the name of a funnel asks for UDP (mms.md 1.3).
func funnelUDP(name string) bool {
	parts := strings.Split(name, `\`)
	return len(parts) >= 2 && strings.EqualFold(parts[len(parts)-2], "UDP")
}
