// Package bpf is the kernel half of the gateway and the only Go door to it: it loads and attaches
// the tc programs, installs the policy rules that make steering work, and turns maps and the ring
// buffer into plain Go values. It knows flows, sequence numbers and RTP heads; it refuses to know
// what a message means. Specs: RFC 3550 (RTP), RFC 2326 §10.12 (interleaved frames), RFC 9293 (TCP).
package bpf

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"time"
)

// What callers may test for with errors.Is.
var (
	ErrNoFlow        = errors.New("flow is not known to the kernel half")
	ErrNotSubscribed = errors.New("address is not subscribed")
	ErrTooMany       = errors.New("kernel map is full")
	ErrUnsupported   = errors.ErrUnsupported
)

// ConflictError says that something Open wants to be its own belongs to somebody else.
type ConflictError struct {
	What  string // "mark", "table", "priority" or "instance"
	Found string // what was found, as an operator would write it
}

func (e *ConflictError) Error() string { return "gateway " + e.What + " is taken: " + e.Found }

// Gateway is the running kernel half. All methods are safe for concurrent use.
type Gateway struct{}

// Open removes what a crash left, loads the programs, installs rules and routes and attaches last.
// Errors: *ConflictError; what Config.Validate says; else what the kernel refused, %+v shows a
// verifier log. On an error nothing stays behind.
func Open(cfg Config) (*Gateway, error) { return nil, ErrUnsupported }

// Close undoes everything Open did, in reverse order. A second call does nothing.
func (g *Gateway) Close() error { return nil }

// SetListener puts the listening sockets steered connections arrive at in place; either may be nil.
// They must be transparent (IP_TRANSPARENT) and not MPTCP.
func (g *Gateway) SetListener(v4, v6 syscall.Conn) error { return ErrUnsupported }

// Subscribe admits the terminal with address a.
func (g *Gateway) Subscribe(a netip.Addr) error { return ErrUnsupported }

// Unsubscribe is the reverse of Subscribe.
func (g *Gateway) Unsubscribe(a netip.Addr) error { return ErrUnsupported }

// Arm steers every new connection of the terminal to a service port until Disarm.
func (g *Gateway) Arm(a netip.Addr) error { return ErrUnsupported }

// Disarm is the reverse of Arm; what is steered already stays so.
func (g *Gateway) Disarm(a netip.Addr) error { return ErrUnsupported }

// AddLeg announces an upstream socket of ours bound to f.Terminal. Call it before connect.
func (g *Gateway) AddLeg(f Flow) error { return ErrUnsupported }

// RemoveLeg is the reverse of AddLeg.
func (g *Gateway) RemoveLeg(f Flow) error { return ErrUnsupported }

// WatchFlow makes a UDP media flow known.
func (g *Gateway) WatchFlow(m MediaFlow) error { return ErrUnsupported }

// UnwatchFlow is the reverse of WatchFlow.
func (g *Gateway) UnwatchFlow(f Flow) error { return ErrUnsupported }

// MediaStats returns the exact record of a UDP media flow.
func (g *Gateway) MediaStats(f Flow) (MediaStats, bool) { return MediaStats{}, false }

// TCPStats returns the exact record of a TCP connection.
func (g *Gateway) TCPStats(f Flow) (TCPStats, bool) { return TCPStats{}, false }

// StopCopy ends the copying of server -> terminal payload, unless a request newer than upto was copied.
func (g *Gateway) StopCopy(f Flow, upto uint32) error { return ErrUnsupported }

// Ignore ends all work on a TCP connection that is not a player's.
func (g *Gateway) Ignore(f Flow) error { return ErrUnsupported }

// Channels switches the `$`-header walk on for server -> terminal.
func (g *Gateway) Channels(f Flow, ch []Channel) error { return ErrUnsupported }

// Sample asks for a sample of the next media packet, interleaved or UDP.
func (g *Gateway) Sample(f Flow) error { return ErrUnsupported }

// SampleHit says that a tail sample (EventTail) was of use: no more until the next interval.
func (g *Gateway) SampleHit(f Flow) error { return ErrUnsupported }

// Reset starts First* and MaxRTPTime of a media flow or of all channels of a TCP connection anew.
func (g *Gateway) Reset(f Flow) error { return ErrUnsupported }

// CutFlow drops packets of a flow of a subscriber for a time; packets with our mark always pass.
func (g *Gateway) CutFlow(p Proto, f Flow, d CutDir, for_ time.Duration) error { return ErrUnsupported }

// UncutFlow is the reverse of CutFlow.
func (g *Gateway) UncutFlow(p Proto, f Flow) error { return ErrUnsupported }

// Read blocks for the next event. Its Payload is valid until the next Read. os.ErrClosed after Close.
func (g *Gateway) Read(ctx context.Context, ev *Event) error { return ErrUnsupported }

// Stats returns all counters.
func (g *Gateway) Stats() Stats { return nil }

// Probe tries what the datapath needs, for doctor.
func Probe() []Feature { return nil }
