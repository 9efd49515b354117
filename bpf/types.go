package bpf

import (
	"net/netip"
	"time"
)

// Proto is a transport protocol by its IP protocol number.
type Proto uint8

// The two protocols the gateway looks at.
const (
	TCP Proto = 6
	UDP Proto = 17
)

// String returns "tcp", "udp" or "proto(N)".
func (p Proto) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return "proto(" + itoa(int(p)) + ")"
}

// Flow names one conversation by its two ends, always in this order: the terminal's side and the
// server's side, whichever of them sent the packet. Addresses are unmapped. Flow is comparable and
// can be a map key. Which transport protocol it is of follows from where it is used.
type Flow struct {
	Terminal netip.AddrPort
	Server   netip.AddrPort
}

// String returns "terminal>server".
func (f Flow) String() string { return f.Terminal.String() + ">" + f.Server.String() }

// Dir is the direction of a packet.
type Dir uint8

// The two directions.
const (
	ToServer   Dir = 0 // terminal -> server
	ToTerminal Dir = 1 // server -> terminal
)

// String returns "to-server" or "to-terminal".
func (d Dir) String() string {
	if d == ToServer {
		return "to-server"
	}
	return "to-terminal"
}

// CutDir says which directions of a flow are dropped.
type CutDir uint8

// What CutFlow drops.
const (
	CutToServer   CutDir = 1
	CutToTerminal CutDir = 2
	CutBoth       CutDir = CutToServer | CutToTerminal
)

// Service is what is spoken on a service port.
type Service uint8

// The services. The zero value is no service.
const (
	ServiceRTSP Service = 1
	ServiceMMS  Service = 2
	ServiceMMSH Service = 3
)

// String returns the name of the service as in the configuration file.
func (s Service) String() string {
	switch s {
	case ServiceRTSP:
		return "rtsp"
	case ServiceMMS:
		return "mms"
	case ServiceMMSH:
		return "mmsh"
	}
	return "service(" + itoa(int(s)) + ")"
}

// MediaFlow is a UDP flow announced in a SETUP reply.
type MediaFlow struct {
	Flow             // Server port 0: not announced, learned from the first packet with version 2 and a PT of the list
	PT        []byte // payload types of the SDP, 0 to 127; none: every one is taken
	RTCP      bool   // the flow carries RTCP; false: RTP, RTCP mixed into it is recognised (RFC 5761)
	ClockRate uint32 // Hz; 0: 90000. Used for jitter and jump detection only
}

// MediaStats is what the kernel knows about one UDP media flow, exact to the packet. All of it but
// Packets, Bytes, Lost and Jitter is about the time since the newest SSRC; First* and MaxRTPTime
// are about the time since the newest Reset or jump.
type MediaStats struct {
	Server       uint16    // the server's port, learned or announced; 0: not learned yet
	HaveMedia    bool      // at least one RTP packet was seen; SSRC, ExtSeq and RTPTime are valid
	HaveFirst    bool      // at least one RTP packet was seen since the newest Reset; First* and MaxRTPTime are valid
	SSRC         uint32    // of the newest packet
	PT           uint8     // of the newest packet
	ExtSeq       uint64    // highest sequence number, extended by wraps (RFC 3550 A.1)
	RTPTime      uint32    // of the packet with the highest sequence number
	MaxRTPTime   uint32    // highest since the newest Reset or jump
	FirstSeq     uint16    // of the first packet after the newest Reset
	FirstRTPTime uint32    // likewise
	Packets      uint64    // RTP packets to the terminal
	Bytes        uint64    // UDP payload of them
	Lost         int64     // expected - received (RFC 3550 A.3); negative with duplicates
	Jitter       uint32    // interarrival jitter, clock ticks (RFC 3550 A.8)
	SSRCChanges  uint32    // how often the SSRC changed
	RTCPToServer uint64    // RTCP packets from the terminal
	RTCPToTerm   uint64    // RTCP packets from the server
	First        time.Time // arrival of the first packet after the newest Reset, wall clock; zero: none
	Last         time.Time // arrival of the newest packet in either direction, wall clock; zero: none
	Unreachable  time.Time // newest word of the terminal, by ICMP, that RTP does not reach it; zero: none
	Lossy        bool      // an event of this flow was lost: the ring buffer was full, or a limit was hit
}

// SYNOptions are the TCP options one side offered in its SYN or SYN-ACK.
type SYNOptions struct {
	Seen       bool   // the segment was seen; else all other fields are zero
	ISN        uint32 // initial sequence number
	MSS        uint16 // 0: not offered
	WScale     uint8  // shift, valid with HaveWScale
	HaveWScale bool
	SACK       bool // SACK permitted
	Timestamps bool
	MPTCP      bool // multipath TCP was offered (option kind 30)
}

// TCPDirStats is one direction of a watched TCP connection: what its sender sent.
type TCPDirStats struct {
	HighestSeq uint32     // sequence number after the newest byte, SYN and FIN count one
	NewestAck  uint32     // newest acknowledgement number the sender gave
	HaveAck    bool       // NewestAck and Window are valid
	Window     uint16     // raw window field that came with NewestAck, not scaled
	TSVal      uint32     // newest timestamp value of the sender, valid when TSAt is not zero
	TSAt       time.Time  // when TSVal arrived, wall clock
	Packets    uint64     // segments (a GRO frame counts as one)
	Bytes      uint64     // payload, retransmissions included
	Last       time.Time  // arrival of the newest segment, wall clock; zero: none
	FIN        bool       // a FIN was seen
	RST        bool       // an RST was seen
	SYN        SYNOptions // what the sender offered
}

// Channel is an interleaved RTP channel announced in a SETUP reply.
type Channel struct {
	Number    uint8  // of RTP, the even one of the pair as a rule; RTCP is Number+1
	PT        uint8  // payload type of the track's SDP
	SSRC      uint32 // of the Transport header; 0: unknown, learned
	ClockRate uint32 // Hz; 0: 90000. Used for jump detection only
}

// ChannelStats is what the `$`-header walk knows about one interleaved RTP channel.
type ChannelStats struct {
	Channel      uint8
	HaveMedia    bool // at least one frame was seen
	HaveFirst    bool // at least one frame was seen since the newest Reset
	SSRC         uint32
	Seq          uint16    // of the newest frame
	RTPTime      uint32    // of the newest frame
	MaxRTPTime   uint32    // highest since the newest Reset or jump
	FirstSeq     uint16    // of the first frame after the newest Reset
	FirstRTPTime uint32    // likewise
	FrameSeq     uint32    // TCP sequence number of the newest frame's '$'
	FrameLen     uint16    // length field of the newest frame: the frame ends at FrameSeq+4+FrameLen
	FirstSeqTCP  uint32    // TCP sequence number of the first frame's '$' after the newest Reset
	Packets      uint64    // RTP frames seen
	Bytes        uint64    // their length fields summed
	First        time.Time // arrival of the first frame after the newest Reset, wall clock
	Last         time.Time // arrival of the newest frame, wall clock
}

// TCPStats is what the kernel knows about one watched TCP connection.
type TCPStats struct {
	ToServer   TCPDirStats // what the terminal sent
	ToTerminal TCPDirStats // what the server sent
	SynSeen    bool        // the connection was followed from its SYN
	Service    Service
	Steered    bool           // its packets are handed to a socket of ours; nothing else of this record is kept then
	Ignored    bool           // set by Ignore, or not a player on a mmsh port
	Lossy      bool           // an event of this flow was lost: the ring buffer was full, or a limit was hit
	Copying    bool           // server -> terminal payload is being copied
	Requests   uint32         // terminal segments with payload that was not interleaved media alone
	Walking    bool           // Channels was called
	InStep     bool           // the walk knows where the next '$' is
	NextFrame  uint32         // TCP sequence number of the next '$', valid with InStep
	Gaps       uint32         // how often the walk lost its step
	Channels   []ChannelStats // in the order given to Channels
}

// EventKind says which fields of an Event are set.
type EventKind uint8

// The kinds of events. Seq, Ack and TCPFlags of an Event are those of the segment; see Event for the rest.
const (
	EventTCP   EventKind = 1 // TCP signalling: payload of at most 4 KiB, or none (SYN, SYN-ACK, FIN, RST, a flow joined in its middle)
	EventRTP   EventKind = 2 // head of a UDP RTP packet: first packet, SSRC change, rtptime jump, or the sample interval passed
	EventRTCP  EventKind = 3 // whole RTCP packet of a known flow, at most 512 bytes; Proto TCP: frame of the odd channel of a walked connection
	EventFrame EventKind = 4 // head of an interleaved RTP packet found by the walk
	EventTail  EventKind = 5 // last 2 KiB at most of a server segment: the sampling that stands in for the walk
)

// String returns the name of the kind.
func (k EventKind) String() string {
	switch k {
	case EventTCP:
		return "tcp"
	case EventRTP:
		return "rtp"
	case EventRTCP:
		return "rtcp"
	case EventFrame:
		return "frame"
	case EventTail:
		return "tail"
	}
	return "event(" + itoa(int(k)) + ")"
}

// TCP flags as in Event.TCPFlags (RFC 9293 §3.1).
const (
	FlagFIN uint8 = 0x01
	FlagSYN uint8 = 0x02
	FlagRST uint8 = 0x04
	FlagPSH uint8 = 0x08
	FlagACK uint8 = 0x10
)

// Event is one record of the kernel.
type Event struct {
	At       time.Time // arrival, wall clock
	Kind     EventKind
	Proto    Proto
	Dir      Dir
	Flow     Flow
	Seq      uint32  // TCP: sequence number of Payload[0] (of the segment when there is no payload); EventFrame and EventRTCP over TCP: of the '$'
	Ack      uint32  // TCP: acknowledgement number of the segment
	TCPFlags uint8   // TCP: flags of the segment; 0 with EventTCP and no payload: the flow was joined in its middle. FIN, SYN and RST are set on a segment's last record only
	Requests uint32  // EventTCP: the flow's request counter after this segment, for StopCopy
	Service  Service // TCP: of the port
	Channel  uint8   // EventFrame, EventRTCP over TCP
	Length   int     // length of the whole: UDP payload, interleaved frame, TCP payload of the segment
	Payload  []byte  // what was copied; valid until the next Read
}

// Stats are all counters of the kernel half by name, summed over the CPUs. Names are stable,
// lower case with underscores.
type Stats map[string]uint64

// Feature is one thing the datapath needs or can use.
type Feature struct {
	Name     string // stable, lower case with underscores
	Required bool   // Open cannot work without it
	OK       bool
	Detail   string // what was found
	Hint     string // what to do when OK is false
}

func itoa(n int) string {
	if n < 0 {
		return "-" + itoa(-n)
	}
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}
