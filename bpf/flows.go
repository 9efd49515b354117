package bpf

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// TCPStats returns the record of the TCP connection f; false when there is none. The record is
// read whole: ACKs, windows and sequence numbers belong together. Times in it but TSAt are
// good to a tick of the kernel (1 to 10 ms). It is kept for 10 s after the connection ended.
func (g *Gateway) TCPStats(f Flow) (TCPStats, bool) {
	k, err := keyOf(TCP, f)
	if err != nil {
		return TCPStats{}, false
	}
	var rec scasTcpFlow
	if !readRecord(g, "flows", &k, &rec, &rec.Turn) {
		return TCPStats{}, false
	}
	is := func(flag scasFlowFlag) bool { return rec.Flags&uint32(flag) != 0 }
	s := TCPStats{
		ToServer:   g.dirStats(&rec.Up),
		ToTerminal: g.dirStats(&rec.Down),
		SynSeen:    is(scasFlowFlagFLOW_SYN),
		Service:    Service(rec.Service),
		Steered:    is(scasFlowFlagFLOW_STEERED),
		Ignored:    is(scasFlowFlagFLOW_IGNORED),
		Lossy:      is(scasFlowFlagFLOW_LOSSY),
		Copying:    is(scasFlowFlagFLOW_COPY),
		Requests:   rec.Requests,
	}
	if !is(scasFlowFlagFLOW_WALK) {
		return s, true
	}
	w := &rec.Walk
	s.Walking, s.InStep, s.NextFrame, s.Gaps = true, w.Step != 0, w.Next, w.Gaps
	for i := range min(int(w.Count), len(w.Ch)) {
		s.Channels = append(s.Channels, g.channelStats(&w.Ch[i]))
	}
	return s, true
}

// readTries is how often a record is read that changes all the time; one that is written once in
// three microseconds takes two or three.
const readTries = 1000

// readRecord reads a record that nobody wrote meanwhile: twice the same bytes, and its turn, a
// member of it, even (see lock.h). Each byte was copied after the first reading of the turn or before
// the second one, between which there was no writer. False: there is no such record.
func readRecord[T any](g *Gateway, name string, key *scasFlowKey, record *T, turn *uint32) bool {
	var before T
	m := g.kernel.m(name)
	if m.Lookup(key, &before) != nil {
		return false
	}
	for range readTries {
		if m.Lookup(key, record) != nil {
			return false
		}
		if *turn&1 == 0 && bytes.Equal(bytesOf(&before), bytesOf(record)) {
			return true
		}
		before = *record
	}
	return false
}

func (g *Gateway) dirStats(d *scasTcpDir) TCPDirStats {
	is := func(flag scasTcpDirFlag) bool { return d.Flags&uint16(flag) != 0 }
	s := TCPDirStats{
		HighestSeq: d.Highest,
		NewestAck:  d.Ack,
		HaveAck:    is(scasTcpDirFlagDIR_ACK),
		Window:     d.Window,
		TSVal:      d.Tsval,
		TSAt:       g.clock.wall(d.TsvalAt),
		Packets:    d.Packets,
		Bytes:      d.Bytes,
		FIN:        is(scasTcpDirFlagDIR_FIN),
		RST:        is(scasTcpDirFlagDIR_RST),
	}
	if d.Packets > 0 {
		s.Last = g.clock.wall(d.Last)
	}
	if is(scasTcpDirFlagDIR_SYN) {
		s.SYN = SYNOptions{
			Seen:       true,
			ISN:        d.Isn,
			MSS:        d.Mss,
			WScale:     d.Wscale,
			HaveWScale: is(scasTcpDirFlagDIR_WSCALE),
			SACK:       is(scasTcpDirFlagDIR_SACK),
			Timestamps: is(scasTcpDirFlagDIR_TS),
			MPTCP:      is(scasTcpDirFlagDIR_MPTCP),
		}
	}
	return s
}

func (g *Gateway) channelStats(c *scasChannel) ChannelStats {
	return ChannelStats{
		Channel:      c.Number,
		HaveMedia:    c.Flags&uint8(scasChannelFlagCHANNEL_MEDIA) != 0,
		HaveFirst:    c.Flags&uint8(scasChannelFlagCHANNEL_FIRST) != 0,
		SSRC:         c.Ssrc,
		Seq:          c.Seq,
		RTPTime:      c.Rtptime,
		MaxRTPTime:   c.MaxRtptime,
		FirstSeq:     c.FirstSeq,
		FirstRTPTime: c.FirstRtptime,
		FrameSeq:     c.FrameSeq,
		FrameLen:     c.FrameLen,
		FirstSeqTCP:  c.FirstFrameSeq,
		Packets:      c.Packets,
		Bytes:        c.Bytes,
		First:        g.clock.wall(c.First),
		Last:         g.clock.wall(c.Last),
	}
}

// command has the kernel half change the record of a flow, which nobody else writes.
func (g *Gateway) command(op scasOp, p Proto, f Flow, arg uint32, ch []Channel) error {
	k, err := keyOf(p, f)
	if err != nil {
		return err
	}
	c := scasCommand{Flow: k, Op: uint32(op), Arg: arg}
	for i, ch := range ch {
		rate := ch.ClockRate
		if rate == 0 {
			rate = defaultClockRate
		}
		c.Ch[i] = scasChannelSpec{Ssrc: ch.SSRC, ClockRate: rate, Number: ch.Number, Pt: ch.PT}
	}
	packet := commandPacket(&c)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	errno, err := g.runCommand(packet)
	switch {
	case err != nil:
		return fmt.Errorf("run command: %w", err)
	case unix.Errno(errno) == unix.ENOENT:
		return ErrNoFlow
	case errno != 0:
		return unix.Errno(errno)
	}
	return nil
}

// commandPacket returns the frame that carries a command.
func commandPacket(c *scasCommand) []byte {
	packet := make([]byte, ethernetHeader, ethernetHeader+len(bytesOf(c)))
	packet[12], packet[13] = 0x88, 0xb5 // IEEE 802 local experimental: no protocol reads it
	return append(packet, bytesOf(c)...)
}

// runCommand runs the command program, again when a record was busy.
func (g *Gateway) runCommand(packet []byte) (errno uint32, err error) {
	for range 10 {
		errno, err = g.kernel.command.Run(&ebpf.RunOptions{Data: packet})
		if err != nil || unix.Errno(errno) != unix.EBUSY {
			break
		}
	}
	return errno, err
}

func (g *Gateway) tcpCommand(name string, op scasOp, f Flow, arg uint32, ch []Channel) error {
	if err := g.command(op, TCP, f, arg, ch); err != nil {
		return fmt.Errorf("%s %v: %w", name, f, err)
	}
	return nil
}

// Copy has server -> terminal payload copied as after a request: 1 MiB of it at most, for 10 s at
// most. Errors: ErrNoFlow.
func (g *Gateway) Copy(f Flow) error { return g.tcpCommand("copy", scasOpOP_COPY, f, 0, nil) }

// StopCopy ends the copying of server -> terminal payload, unless a request newer than upto (see
// Event.Requests) was copied. Errors: ErrNoFlow.
func (g *Gateway) StopCopy(f Flow, upto uint32) error {
	return g.tcpCommand("stop copy", scasOpOP_STOP_COPY, f, upto, nil)
}

// Ignore ends all work on a TCP connection that is not a player's, until its next SYN. Errors:
// ErrNoFlow.
func (g *Gateway) Ignore(f Flow) error { return g.tcpCommand("ignore", scasOpOP_IGNORE, f, 0, nil) }

// Channels switches the `$`-header walk on for server -> terminal. Channels named before stay, and
// what was seen of them; their PT, SSRC and clock rate are replaced. At most 8 channels a
// connection. Errors: ErrNoFlow, ErrTooMany.
func (g *Gateway) Channels(f Flow, ch []Channel) error {
	if len(ch) > int(maxChannels) {
		return fmt.Errorf("channels %v: %d channels: %w", f, len(ch), ErrTooMany)
	}
	return g.tcpCommand("channels", scasOpOP_CHANNELS, f, uint32(len(ch)), ch)
}

// Sample asks for a sample of the next media packet of f, a TCP connection or a UDP media flow
// (PLAY 200): EventFrame per channel, EventTail while the walk is not possible, EventRTP. Errors:
// ErrNoFlow.
func (g *Gateway) Sample(f Flow) error { return g.either("sample", scasOpOP_SAMPLE, f) }

// SampleHit says that a tail sample (EventTail) was of use: no more until the next interval.
// Errors: ErrNoFlow.
func (g *Gateway) SampleHit(f Flow) error {
	return g.tcpCommand("sample hit", scasOpOP_SAMPLE_HIT, f, 0, nil)
}

// Reset starts First* and MaxRTPTime of a UDP media flow, or of all channels of a TCP connection,
// anew, and asks for a sample. Errors: ErrNoFlow.
func (g *Gateway) Reset(f Flow) error { return g.either("reset", scasOpOP_RESET, f) }

// either has op done to the UDP flow, the flow learned from it, and the TCP connection f names.
func (g *Gateway) either(name string, op scasOp, f Flow) error {
	found := false
	for _, t := range []struct {
		p Proto
		f Flow
	}{{UDP, g.learned(f)}, {TCP, f}} {
		err := g.command(op, t.p, t.f, 0, nil)
		if err != nil && !errors.Is(err, ErrNoFlow) {
			return fmt.Errorf("%s %v: %w", name, f, err)
		}
		found = found || err == nil
	}
	if !found {
		return fmt.Errorf("%s %v: %w", name, f, ErrNoFlow)
	}
	return nil
}

const (
	maxChannels      = uint32(len(scasCommand{}.Ch))
	defaultClockRate = 90000
	closedKeep       = 10 * time.Second
)
