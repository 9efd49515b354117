package bpf

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
)

// open makes a connection seen from its SYN on.
func (b *bench) connect(port uint16) Flow {
	b.tb.Helper()
	must(b.tb, b.Subscribe(benchUE))
	f := benchFlow(port)
	b.tcp(segment{flow: f, flags: FlagSYN, seq: 99})
	b.tcp(segment{flow: f, flags: FlagSYN | FlagACK, dir: ToTerminal, seq: 999, ack: 100})
	b.drain()
	return f
}

// payloads returns the bytes copied of one direction, in order of arrival.
func payloads(evs []Event, dir Dir) (all []byte) {
	for _, e := range evs {
		if e.Dir == dir && e.Kind == EventTCP {
			all = append(all, e.Payload...)
		}
	}
	return all
}

// TestCopyRequests: which segments of a terminal count as requests and open the window.
func TestCopyRequests(t *testing.T) {
	rr := []byte("$\x01\x00\x08\x80\xc9\x00\x01\x00\x00\x00\x01")
	for _, c := range []struct {
		name    string
		payload []byte
		request bool
	}{
		{"request", []byte(describe), true},
		{"interleaved", rr, false},
		{"two interleaved", append(append([]byte{}, rr...), rr...), false},
		{"interleaved, cut by the segment", rr[:7], false},
		{"request after interleaved", append(append([]byte{}, rr...), describe...), true},
		{"half a request", []byte(describe[:9]), true},
		{"blank line", []byte("\r\n"), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			f := b.connect(554)
			b.tcp(segment{flow: f, seq: 100, ack: 1000, payload: c.payload})
			b.tcp(segment{flow: f, dir: ToTerminal, seq: 1000, payload: []byte("reply")})
			evs := b.drain()
			if !bytes.Equal(payloads(evs, ToServer), c.payload) {
				t.Errorf("request copied as %q", payloads(evs, ToServer))
			}
			if got := string(payloads(evs, ToTerminal)) == "reply"; got != c.request {
				t.Errorf("reply copied: %v, want %v", got, c.request)
			}
			if s, _ := b.TCPStats(f); (s.Requests == 1) != c.request || s.Copying != c.request {
				t.Errorf("record %+v", s)
			}
			b.tcp(segment{flow: f, seq: 100, ack: 1000, payload: c.payload}) // sent again
			if s, _ := b.TCPStats(f); s.Requests > 1 {
				t.Errorf("a repeated segment is a request of its own")
			}
		})
	}
}

// TestStopCopy: an answer to an older request does not close the window of a newer one.
func TestStopCopy(t *testing.T) {
	b := newBench(t)
	f := b.connect(554)
	b.tcp(segment{flow: f, seq: 100, payload: []byte("one")})
	b.tcp(segment{flow: f, seq: 103, payload: []byte("two")})
	for _, c := range []struct {
		upto uint32
		want bool
	}{{1, true}, {2, false}} {
		must(t, b.StopCopy(f, c.upto))
		if s, _ := b.TCPStats(f); s.Copying != c.want {
			t.Errorf("after %d of 2: copying %v", c.upto, s.Copying)
		}
	}
	b.tcp(segment{flow: f, seq: 106, payload: []byte("three")})
	if s, _ := b.TCPStats(f); !s.Copying || s.Requests != 3 {
		t.Errorf("record %+v", s)
	}
}

// TestCopyAsked: what the server sends comes up without a request, what is dropped too.
func TestCopyAsked(t *testing.T) {
	b := newBench(t)
	f := b.connect(1755)
	must(t, b.Copy(f))
	must(t, b.CutFlow(TCP, f, CutToTerminal, time.Minute))
	b.tcp(segment{flow: f, dir: ToTerminal, seq: 1000, payload: []byte("media")})
	if evs := b.drain(); string(payloads(evs, ToTerminal)) != "media" || evs[len(evs)-1].Seq != 1000 {
		t.Errorf("copied %+v", evs)
	}
	if err := b.Copy(benchFlow(2)); !errors.Is(err, ErrNoFlow) {
		t.Errorf("a connection nobody knows: %v", err)
	}
}

// TestCopyBounds: 1 MiB after one request, then the connection is marked.
func TestCopyBounds(t *testing.T) {
	b := newBench(t)
	f := b.connect(554)
	b.tcp(segment{flow: f, seq: 100, payload: []byte(describe)})
	part := bytes.Repeat([]byte("x"), 3000)
	total := 0
	for i := range (1<<20)/3000 + 10 {
		b.tcp(segment{flow: f, dir: ToTerminal, seq: 1000 + uint32(i*len(part)), payload: part})
		total += len(payloads(b.drain(), ToTerminal))
	}
	s, _ := b.TCPStats(f)
	if total > 1<<20 || total < 1<<20-3000 || !s.Lossy || s.Copying || b.Stats()["copy_bytes_limit"] != 1 {
		t.Errorf("%d bytes copied, record %+v", total, s)
	}
	b.tcp(segment{flow: f, seq: 100 + uint32(len(describe)), payload: []byte(describe)})
	b.tcp(segment{flow: f, dir: ToTerminal, seq: 9_000_000, payload: part})
	if n := len(payloads(b.drain(), ToTerminal)); n != len(part) {
		t.Errorf("%d bytes copied after the next request", n)
	}
}

// TestCopyRate: the node copies so many bytes a second, whatever the number of connections.
func TestCopyRate(t *testing.T) {
	b := newBench(t, func(cfg *Config) { cfg.CopyRate = 10_000 })
	f := b.connect(554)
	part := bytes.Repeat([]byte("x"), 3000)
	eventually(t, b.Gateway, "the limit is met", func() bool { // a second may end on the way
		st, _ := b.TCPStats(f)
		b.tcp(segment{flow: f, seq: st.ToServer.HighestSeq, payload: []byte("request")})
		for range 5 {
			b.tcp(segment{flow: f, dir: ToTerminal, seq: st.ToTerminal.HighestSeq, payload: part})
		}
		b.drain()
		st, _ = b.TCPStats(f)
		return b.Stats()["copy_rate_limit"] > 0 && st.Lossy && !st.Copying
	})
}

// TestUploadBound: a terminal cannot fill the ring buffer.
func TestUploadBound(t *testing.T) {
	b := newBench(t)
	f := b.connect(554)
	part := bytes.Repeat([]byte("x"), 3000)
	total, start := 0, time.Now()
	for i := range 300 {
		b.tcp(segment{flow: f, seq: 100 + uint32(i*len(part)), payload: part})
		total += len(payloads(b.drain(), ToServer))
	}
	seconds := 1 + int(time.Since(start).Seconds()) + 1
	if s, _ := b.TCPStats(f); total > seconds*(256<<10) || !s.Lossy || b.Stats()["upload_limit"] == 0 {
		t.Errorf("%d bytes in %d s", total, seconds)
	}
}

// TestRingFull: a full ring buffer is counted and shown on the flow, and nothing else happens.
func TestRingFull(t *testing.T) {
	b := newBench(t, func(cfg *Config) { cfg.RingBytes = 64 << 10 })
	must(t, b.Subscribe(benchUE))
	f := benchFlow(554)
	part := bytes.Repeat([]byte("x"), 3000)
	for i := range 40 {
		if v := b.tcp(segment{flow: f, seq: uint32(1 + i*len(part)), payload: part}); v != pass {
			t.Fatalf("verdict %d", v)
		}
	}
	s, _ := b.TCPStats(f)
	if n := b.Stats()["ring_full"]; n == 0 || !s.Lossy {
		t.Errorf("%d lost, record %+v", n, s)
	}
	b.drain()
	b.tcp(segment{flow: f, seq: 1_000_000, payload: part})
	if evs := b.drain(); len(evs) != 1 {
		t.Errorf("%d events after it was emptied", len(evs))
	}
}

// TestOptions reads the TCP options of both SYNs, in odd orders and cut short.
func TestOptions(t *testing.T) {
	opt := func(kind layers.TCPOptionKind, data ...byte) layers.TCPOption {
		return layers.TCPOption{OptionType: kind, OptionLength: uint8(2 + len(data)), OptionData: data}
	}
	nop := layers.TCPOption{OptionType: layers.TCPOptionKindNop}
	mss, scale, sack := opt(2, 5, 0xb4), opt(3, 7), opt(4)
	ts := opt(8, 1, 2, 3, 4, 0, 0, 0, 0)
	full := SYNOptions{Seen: true, ISN: 99, MSS: 1460, WScale: 7, HaveWScale: true, SACK: true, Timestamps: true}
	mptcp := full
	mptcp.MPTCP = true
	for _, c := range []struct {
		name    string
		options []layers.TCPOption
		want    SYNOptions
	}{
		{"none", nil, SYNOptions{Seen: true, ISN: 99}},
		{"Linux", []layers.TCPOption{mss, sack, ts, nop, scale}, full},
		{"other order", []layers.TCPOption{nop, nop, ts, nop, scale, mss, sack}, full},
		{"MPTCP", []layers.TCPOption{mss, sack, ts, nop, scale, opt(30, 0, 0x81, 1, 2, 3, 4, 5, 6, 7, 8)}, mptcp},
		{"length beyond the header", []layers.TCPOption{mss, {OptionType: 3, OptionLength: 40}}, SYNOptions{Seen: true, ISN: 99, MSS: 1460}},
		{"length of nothing", []layers.TCPOption{mss, {OptionType: 3, OptionLength: 0, OptionData: []byte{9, 9}}}, SYNOptions{Seen: true, ISN: 99, MSS: 1460}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			must(t, b.Subscribe(benchUE))
			f := benchFlow(554)
			raw := segment{flow: f, flags: FlagSYN, seq: 99, options: c.options}.frame(t)
			patchLengths(raw, c.options)
			b.run(progLANIn, raw)
			if s, _ := b.TCPStats(f); s.ToServer.SYN != c.want {
				t.Errorf("options %+v, want %+v", s.ToServer.SYN, c.want)
			}
		})
	}
}

// patchLengths writes the option lengths that gopacket mended back.
func patchLengths(raw []byte, options []layers.TCPOption) {
	at := 14 + 20 + 20
	for _, o := range options {
		if o.OptionType == layers.TCPOptionKindNop {
			at++
			continue
		}
		raw[at+1] = o.OptionLength
		at += 2 + len(o.OptionData)
	}
}

// TestNewestAck keeps the newest ACK with its own window, and the newest TSval, against old segments.
func TestNewestAck(t *testing.T) {
	b := newBench(t)
	f := b.connect(554)
	ts := func(v byte) []layers.TCPOption {
		nop := layers.TCPOption{OptionType: layers.TCPOptionKindNop}
		return []layers.TCPOption{nop, nop, {OptionType: 8, OptionLength: 10, OptionData: []byte{0, 0, 0, v, 0, 0, 0, 0}}}
	}
	for _, s := range []segment{
		{seq: 100, ack: 5000, options: ts(5)},
		{seq: 100, ack: 4000, options: ts(4)}, // late
		{seq: 100, ack: 1, flags: FlagRST, options: ts(1)},
	} {
		s.flow = f
		b.tcp(s)
	}
	s, _ := b.TCPStats(f)
	if d := s.ToServer; d.NewestAck != 5000 || d.Window != 512 || d.TSVal != 5 || !d.RST || d.HighestSeq != 100 {
		t.Errorf("direction %+v", d)
	}
}
