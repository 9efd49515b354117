package splice

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/pion/rtcp"

	"scas/bpf"
)

// TCP flags of a forged segment (RFC 9293 §3.1).
const (
	flagFIN = 0x01
	flagRST = 0x04
	flagPSH = 0x08
	flagACK = 0x10
)

// segment is a TCP segment that we send in the name of one side.
type segment struct {
	from, to netip.AddrPort
	seq, ack uint32
	flags    byte
	window   uint16
	stamped  bool // the connection uses timestamps (RFC 7323)
	tsval    uint32
	tsecr    uint32
	payload  []byte // no more than a segment may hold
}

// marshal returns the IP packet. Both addresses must be of one family.
func (s segment) marshal() []byte {
	tcp := make([]byte, 20, 32+len(s.payload))
	binary.BigEndian.PutUint16(tcp[0:], s.from.Port())
	binary.BigEndian.PutUint16(tcp[2:], s.to.Port())
	binary.BigEndian.PutUint32(tcp[4:], s.seq)
	binary.BigEndian.PutUint32(tcp[8:], s.ack)
	tcp[13] = s.flags
	binary.BigEndian.PutUint16(tcp[14:], s.window)
	if s.stamped {
		tcp = append(tcp, 1, 1, 8, 10) // two NOPs, timestamps of ten bytes
		tcp = binary.BigEndian.AppendUint32(tcp, s.tsval)
		tcp = binary.BigEndian.AppendUint32(tcp, s.tsecr)
	}
	tcp[12] = byte(len(tcp)/4) << 4
	tcp = append(tcp, s.payload...)
	from, to := s.from.Addr().AsSlice(), s.to.Addr().AsSlice()
	pseudo := append(append([]byte{}, from...), to...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(tcp)))
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(bpf.TCP))
	binary.BigEndian.PutUint16(tcp[16:], checksum(pseudo, tcp))
	if s.from.Addr().Is4() {
		ip := make([]byte, 20, 20+len(tcp))
		ip[0] = 0x45
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(tcp)))
		ip[6] = 0x40 // don't fragment
		ip[8], ip[9] = 64, byte(bpf.TCP)
		copy(ip[12:], from)
		copy(ip[16:], to)
		binary.BigEndian.PutUint16(ip[10:], checksum(ip))
		return append(ip, tcp...)
	}
	ip := make([]byte, 40, 40+len(tcp))
	ip[0] = 0x60
	binary.BigEndian.PutUint16(ip[4:], uint16(len(tcp)))
	ip[6], ip[7] = byte(bpf.TCP), 64
	copy(ip[8:], from)
	copy(ip[24:], to)
	return append(ip, tcp...)
}

// checksum is that of RFC 1071 over the parts, each but the last of even length.
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, b := range parts {
		for ; len(b) > 1; b = b[2:] {
			sum += uint32(b[0])<<8 | uint32(b[1])
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// rstToServer is a RST as if from the terminal. Its sequence number is the one the server
// waits for, or it would only challenge it (RFC 5961 §3.2).
func rstToServer(f bpf.Flow, st bpf.TCPStats) segment {
	s := side(f.Terminal, f.Server, st.ToServer, st.ToTerminal)
	s.flags = flagRST | flagACK
	return s
}

// finToTerminal is a FIN as if from the server. It acknowledges what the server itself did,
// nothing of ours.
func finToTerminal(f bpf.Flow, st bpf.TCPStats, now time.Time) segment {
	s := side(f.Server, f.Terminal, st.ToTerminal, st.ToServer)
	s.flags = flagFIN | flagACK
	if s.stamped {
		// Ahead of the newest value it would make the peer drop what the server still sends;
		// behind it, the segment itself (RFC 7323 §5). Milliseconds are the finest common clock.
		s.tsval += uint32(max(now.Sub(st.ToTerminal.TSAt), 0) / time.Millisecond)
	}
	return s
}

// probeToTerminal returns a segment as if from the server that makes the terminal say what it has:
// a byte that it acknowledged already (RFC 9293 §3.10.7.4; one without payload may be passed over).
func probeToTerminal(f bpf.Flow, st bpf.TCPStats) segment {
	s := side(f.Server, f.Terminal, st.ToTerminal, st.ToServer)
	s.seq, s.payload, s.flags = s.seq-1, []byte{0}, flagPSH|flagACK
	return s
}

// mostPayload is what a segment of ours carries: what passes any link that has IPv6.
const mostPayload = 1200

// lastToTerminal returns the last bytes of a connection as if from the server, from sequence
// number seq on, with its FIN behind them.
func lastToTerminal(f bpf.Flow, st bpf.TCPStats, now time.Time, seq uint32, b []byte) (all []segment) {
	for {
		s := finToTerminal(f, st, now)
		n := min(len(b), mostPayload)
		s.seq, s.payload, s.flags = seq, b[:n], flagPSH|flagACK
		seq, b = seq+uint32(n), b[n:]
		if len(b) == 0 {
			s.flags |= flagFIN
			return append(all, s)
		}
		all = append(all, s)
	}
}

// side returns a bare segment in the name of the side that sent mine.
func side(from, to netip.AddrPort, mine, peer bpf.TCPDirStats) segment {
	s := segment{from: from, to: to, seq: mine.HighestSeq, ack: peer.HighestSeq, window: mine.Window}
	if peer.HaveAck {
		s.seq = peer.NewestAck
	}
	if mine.HaveAck {
		s.ack = mine.NewestAck
	}
	if !mine.TSAt.IsZero() && !peer.TSAt.IsZero() {
		s.stamped, s.tsval, s.tsecr = true, mine.TSVal, peer.TSVal
	}
	return s
}

// bye returns a compound RTCP packet that says that a source leaves: empty receiver report,
// name, BYE (RFC 3550 §6.1, §6.6).
func bye(ssrc uint32) []byte {
	b, err := rtcp.Marshal([]rtcp.Packet{
		&rtcp.ReceiverReport{SSRC: ssrc},
		rtcp.NewCNAMESourceDescription(ssrc, "scas"),
		&rtcp.Goodbye{Sources: []uint32{ssrc}},
	})
	if err != nil {
		return nil // cannot be: the parts are constant but for the number
	}
	return b
}

// framed puts an RTCP packet into an interleaved frame (RFC 2326 §10.12).
func framed(channel uint8, b []byte) []byte {
	return append([]byte{'$', channel, byte(len(b) >> 8), byte(len(b))}, b...)
}
