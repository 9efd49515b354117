package bpf

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// words returns a as the kernel half keeps addresses: IPv4 mapped, network order.
func words(a netip.Addr) (w [4]uint32) {
	b := a.As16()
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}

// addrOf is the reverse of words; the result is unmapped.
func addrOf(w [4]uint32) netip.Addr {
	var b [16]byte
	for i := range w {
		binary.NativeEndian.PutUint32(b[4*i:], w[i])
	}
	return netip.AddrFrom16(b).Unmap()
}

// swap16 turns a port from host to network order and back; the objects are little endian only.
func swap16(p uint16) uint16 { return bits.ReverseBytes16(p) }

func keyOf(p Proto, f Flow) (scasFlowKey, error) {
	f = unmapped(f)
	if !f.Terminal.Addr().IsValid() || !f.Server.Addr().IsValid() {
		return scasFlowKey{}, fmt.Errorf("flow %v: address missing", f)
	}
	if f.Terminal.Addr().Is4() != f.Server.Addr().Is4() {
		return scasFlowKey{}, fmt.Errorf("flow %v: IPv4 and IPv6 mixed", f)
	}
	return scasFlowKey{
		Terminal:     words(f.Terminal.Addr()),
		Server:       words(f.Server.Addr()),
		TerminalPort: swap16(f.Terminal.Port()),
		ServerPort:   swap16(f.Server.Port()),
		Proto:        uint8(p),
	}, nil
}

func flowOf(k *scasFlowKey) Flow {
	return Flow{
		Terminal: netip.AddrPortFrom(addrOf(k.Terminal), swap16(k.TerminalPort)),
		Server:   netip.AddrPortFrom(addrOf(k.Server), swap16(k.ServerPort)),
	}
}

func unmapped(f Flow) Flow {
	return Flow{
		Terminal: netip.AddrPortFrom(f.Terminal.Addr().Unmap(), f.Terminal.Port()),
		Server:   netip.AddrPortFrom(f.Server.Addr().Unmap(), f.Server.Port()),
	}
}

// maskOf returns the mask IPv6 addresses are looked up with, in network order.
func maskOf(prefix int) (w [4]uint32) {
	var b [16]byte
	for i := 0; i < prefix; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}

// subscriberKey returns the key of the subscribers map for a: IPv6 is masked.
func subscriberKey(a netip.Addr, prefix int) (scasAddrKey, error) {
	a = a.Unmap()
	if !a.IsValid() {
		return scasAddrKey{}, fmt.Errorf("address missing")
	}
	w := words(a)
	if a.Is6() {
		for i, m := range maskOf(prefix) {
			w[i] &= m
		}
	}
	return scasAddrKey{Addr: w}, nil
}

// clock turns CLOCK_MONOTONIC into times that carry Go's reading of the same clock: differences are
// exact, between two of them and from time.Now, also when somebody sets the system's clock. A router
// without a battery does so minutes after its start.
type clock struct{ at atomic.Pointer[moment] }

// moment is one moment on both clocks.
type moment struct {
	time time.Time
	ns   uint64
}

// clockOff is how far the wall clock may be from what wall returns until it is taken over.
const clockOff = 100 * time.Millisecond

func newClock() *clock {
	c := &clock{}
	c.read()
	return c
}

// read takes over the wall clock.
func (c *clock) read() {
	best, m := time.Duration(math.MaxInt64), &moment{}
	for range 5 { // the reading with the least time around it
		before := time.Now()
		ns := monotonic()
		if d := time.Since(before); d < best {
			best, m = d, &moment{before.Add(d / 2), ns}
		}
	}
	c.at.Store(m)
}

// follow takes over the wall clock when it was set.
func (c *clock) follow() {
	if off := c.wall(monotonic()).Round(0).Sub(time.Now().Round(0)); off.Abs() > clockOff {
		c.read()
	}
}

// wall returns the time of a kernel time, the zero time for 0.
func (c *clock) wall(ns uint64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	m := c.at.Load()
	return m.time.Add(time.Duration(ns - m.ns))
}

func monotonic() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return uint64(ts.Nano())
}

// bytesOf returns the memory of a generated type: its layout is the kernel half's.
func bytesOf[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}
