package mms

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// TestExampleMessages reads every message of the worked example, writes it again from its
// fields alone and compares the bytes.
func TestExampleMessages(t *testing.T) {
	for _, e := range examples(t) {
		if !strings.Contains(e.name, ">") || strings.Contains(e.name, "Data:") {
			continue
		}
		t.Run(e.name, func(t *testing.T) {
			u, n, err := Next(e.raw, e.dir())
			if err != nil || n != len(e.raw) || u.Kind != KindMessage {
				t.Fatalf("%v %d of %d: %v", u.Kind, n, len(e.raw), err)
			}
			name := strings.Fields(e.name)[2]
			if got := u.Message.MID.String(); !strings.HasPrefix(name, got) {
				t.Errorf("is %s", got)
			}
			x := NewBody(u.Message.MID)
			if err := u.Message.Decode(x); err != nil {
				t.Fatal(err)
			}
			if got := Append(nil, Stamp{u.Message.Seq, u.Message.TimeSent()}, x); !bytes.Equal(got, e.raw) {
				t.Errorf("written again:\n%x\nwant\n%x", got, e.raw)
			}
			if _, more := u.Message.More(); more {
				t.Error("a second message")
			}
			for i := range e.raw {
				if _, _, err := Next(e.raw[:i], e.dir()); !errors.Is(err, ErrShort) {
					t.Fatalf("first %d bytes: %v", i, err)
				}
			}
		})
	}
}

func find(t testing.TB, name string) []byte {
	t.Helper()
	for _, e := range examples(t) {
		if strings.HasPrefix(e.name, name) {
			return bytes.Clone(e.raw)
		}
	}
	t.Fatalf("no example %s", name)
	return nil
}

func message(t testing.TB, raw []byte, dir Dir) Message {
	t.Helper()
	u, _, err := Next(raw, dir)
	if err != nil || u.Kind != KindMessage {
		t.Fatalf("%v: %v", u.Kind, err)
	}
	return u.Message
}

func TestFieldsOfExample(t *testing.T) {
	var c Connect
	if err := message(t, find(t, "1."), ToServer).Decode(&c); err != nil || c.Host() != "192.0.2.10" || c.Product() != "NSPlayer/7.0.0.1956" || c.PlayIncarnation != 0xF0F0F0EF {
		t.Errorf("%+v %q %v", c, c.Host(), err)
	}
	var f ConnectFunnel
	if err := message(t, find(t, "5."), ToServer).Decode(&f); err != nil || f.UDP() || f.Port() != "1037" || f.FunnelName != `\\192.0.2.20\TCP\1037` {
		t.Errorf("%+v %v", f, err)
	}
	var o OpenFile
	if err := message(t, find(t, "7."), ToServer).Decode(&o); err != nil || o.FileName != "vod/a.asf" || o.PlayIncarnation != 1 || o.Token != nil {
		t.Errorf("%+v %v", o, err)
	}
	var r ReportOpenFile
	if err := message(t, find(t, "8."), ToViewer).Decode(&r); err != nil || r.OpenFileID != 1 || !r.Seekable() || r.Duration != 3 || r.Blocks != 3 ||
		r.PacketSize != 120 || r.PacketCount != 3 || r.BitRate != 64000 || r.HeaderSize != 326 {
		t.Errorf("%+v %v", r, err)
	}
	m := message(t, find(t, "V8."), ToViewer)
	if m.HR() != FileNotFound || !m.HR().Failed() || m.Decode(&r) != nil || r.HR != FileNotFound {
		t.Errorf("%v %+v", m.HR(), r)
	}
	var x StartPlaying
	if err := message(t, find(t, "V4."), ToServer).Decode(&x); err != nil || x.Optional != 3 || x.AccelBandwidth != 3500000 || x.AccelDuration != 10000 || x.LinkBandwidth != 1000000 {
		t.Errorf("%+v %v", x, err)
	}
	var e ReportRedirect
	if err := message(t, find(t, "V11."), ToViewer).Decode(&e); err != nil || e.Location != "mmst://192.0.2.11/b.asf" {
		t.Errorf("%+v %v", e, err)
	}
}

func TestOpenFileWithToken(t *testing.T) {
	o := OpenFile{PlayIncarnation: 1, FileName: "a/ü.asf", Token: []byte("dXNlcjpwYXNz\x00")}
	var got OpenFile
	if err := message(t, Append(nil, Stamp{}, &o), ToServer).Decode(&got); err != nil || got.FileName != o.FileName || !bytes.Equal(got.Token, o.Token) {
		t.Errorf("%+v %v", got, err)
	}
}

// TestSetStart patches the StartPlaying of the example and expects V1, which the proxy writes.
func TestSetStart(t *testing.T) {
	raw := find(t, "15.")
	want := find(t, "V1.")
	copy(want[20:22], raw[20:22]) // the seq of the example
	copy(want[44:48], raw[44:48]) // and padding is as the client sent it
	m := message(t, raw, ToServer)
	if !m.AsksForBeginning() || !m.SetStart(12.5) || !bytes.Equal(raw, want) {
		t.Errorf("%x\nwant\n%x", raw, want)
	}
	if m.AsksForBeginning() {
		t.Error("asks for the beginning still")
	}
	for name, by := range map[string]By{"V1.": ByPosition, "V2.": ByPacket, "V3.": ByPacket, "V4.": ByNothing} {
		var x StartPlaying
		if m := message(t, find(t, name), ToServer); m.Decode(&x) != nil || x.By() != by || m.AsksForBeginning() != (by == ByNothing) {
			t.Errorf("%s starts by %v, want %v", name, x.By(), by)
		}
	}
	if m := message(t, find(t, "V5."), ToServer); m.AsksForBeginning() || m.SetStart(1) {
		t.Error("StartStriding is not to be rewritten")
	}
	for _, v := range []float64{math.NaN(), -1, math.Inf(1)} {
		if message(t, find(t, "15."), ToServer).SetStart(v) {
			t.Errorf("starts at %v", v)
		}
	}
	raw = find(t, "15.")
	if m := message(t, raw, ToServer); !m.SetStartPacket(145) || binary.LittleEndian.Uint32(raw[60:]) != 145 || binary.LittleEndian.Uint64(raw[48:]) != 0 {
		t.Errorf("by packet: %x", raw)
	}
}

func TestStartBy(t *testing.T) {
	for _, c := range []struct {
		x    StartPlaying
		want By
	}{
		{StartPlaying{}, ByNothing},
		{StartPlaying{Position: -1, ASFOffset: Unused, LocationID: Unused}, ByNothing},
		{StartPlaying{Position: math.NaN()}, ByNothing},
		{StartPlaying{Position: math.MaxFloat64, LocationID: 0}, ByNothing},
		{StartPlaying{Position: 1, ASFOffset: 897}, ByOffset},
		{StartPlaying{Position: 23.1, ASFOffset: Unused, LocationID: Unused}, ByPosition},
	} {
		if got := c.x.By(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.x, got, c.want)
		}
	}
}

func TestSeveralMessagesUnderOneHeader(t *testing.T) {
	raw := find(t, "14.")
	second := find(t, "V9.")[messageHeader:]
	raw = append(raw, second...)
	binary.LittleEndian.PutUint32(raw[8:], uint32(len(raw)-16))
	m := message(t, raw, ToViewer)
	next, ok := m.More()
	var x ReportEndOfStream
	if m.MID != MIDReportStreamSwitch || !ok || next.Decode(&x) != nil || x.HR != MoreEntries {
		t.Errorf("%v, then %v %v: %+v", m.MID, next.MID, ok, x)
	}
	if _, ok := next.More(); ok {
		t.Error("a third message")
	}
	m.SetSeq(77)
	if message(t, raw, ToViewer).Seq != 77 {
		t.Error("seq is not changed")
	}
}

func TestNextRefuses(t *testing.T) {
	edit := func(at int, v uint32) []byte {
		b := find(t, "15.")
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	var limit *LimitError
	for _, c := range []struct {
		name string
		b    []byte
		dir  Dir
		want func(error) bool
	}{
		{"no seal", edit(12, 0), ToServer, func(err error) bool { return errors.Is(err, ErrNotMMS) }},
		{"endless", edit(8, math.MaxUint32), ToServer, func(err error) bool { return errors.As(err, &limit) }},
		{"no message", edit(8, 16), ToServer, func(err error) bool { return errors.Is(err, ErrNotMMS) }},
		{"odd length", edit(8, 57), ToServer, func(err error) bool { return errors.Is(err, ErrNotMMS) }},
		{"longer than it is", edit(8, 64), ToServer, func(err error) bool { return errors.Is(err, ErrShort) }},
		{"other signature", edit(4, 1), ToServer, func(err error) bool { return errors.Is(err, ErrNotMMS) }},
		{"data of nothing", []byte{0, 0, 0, 0, 4, 0, 7, 0}, ToViewer, func(err error) bool { return errors.Is(err, ErrNotMMS) }},
		{"data to the server", find(t, "17."), ToServer, func(err error) bool { return errors.Is(err, ErrNotMMS) }},
	} {
		if _, _, err := Next(c.b, c.dir); !c.want(err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// A chunkLen that lies is held to the unit.
	for _, v := range []uint32{0, 6, math.MaxUint32} {
		m := message(t, edit(32, v), ToServer)
		var x StartPlaying
		if err := m.Decode(&x); err != nil || x.PlayIncarnation != 4 {
			t.Errorf("chunkLen %d: %v %+v", v, err, x)
		}
	}
	m := message(t, edit(32, 2), ToServer)
	if m.AsksForBeginning() || m.SetStart(1) || m.Decode(&StartPlaying{}) == nil {
		t.Error("believes a StartPlaying of 16 bytes")
	}
}

func TestExampleASF(t *testing.T) {
	one, _, _ := Next(find(t, "11."), ToViewer)
	two, _, err := Next(find(t, "12."), ToViewer)
	if err != nil || one.Data != (Data{0, 2, FlagMore, 208}) || two.Data != (Data{1, 2, FlagLast, 134}) {
		t.Fatalf("%+v %+v %v", one.Data, two.Data, err)
	}
	whole := append(bytes.Clone(one.Payload), two.Payload...)
	h, err := ParseHeader(whole)
	if err != nil || h.FileHeaderSize() != 326 || len(whole) != 326 || h.Duration() != 3*time.Second || h.Preroll != 3*time.Second ||
		h.PacketSize != 120 || h.PacketCount != 3 || !h.Seekable || h.Broadcast || len(h.Streams) != 1 || h.Streams[0] != (Stream{1, "audio", "PCM", false}) {
		t.Errorf("%+v %v", h, err)
	}
	if n, err := HeaderSize(one.Payload); n != 326 || err != nil {
		t.Errorf("size %d %v", n, err)
	}
	for i := range 276 {
		if _, err := ParseHeader(whole[:i]); !errors.Is(err, ErrShort) {
			t.Fatalf("first %d bytes: %v", i, err)
		}
	}
	for _, c := range []struct {
		name string
		b    []byte
		want Packet
	}{
		{"17.", find(t, "17.")[8:], Packet{0, 1000, 3000, 3000, true, true, 1, false}},
		{"18.", find(t, "18.")[8:], Packet{1000, 1000, 4000, 4500, true, true, 2, false}},
		{"0", find(t, "packet 0"), Packet{0, 1000, 3000, 3000, true, true, 1, false}},
		{"1", find(t, "packet 1"), Packet{1000, 1000, 4000, 4500, true, true, 2, false}},
		{"2", find(t, "packet 2"), Packet{2000, 1000, 5000, 5000, true, true, 1, false}},
	} {
		got, err := ParsePacket(c.b)
		if c.want.Key = got.Key; err != nil || got != c.want {
			t.Errorf("%s: %+v %v, want %+v", c.name, got, err, c.want)
		}
		for i := range c.b {
			if p, err := ParsePacket(c.b[:i]); err != nil && !errors.Is(err, ErrShort) || err == nil && (p.SendTime != c.want.SendTime || p.Payloads > c.want.Payloads) {
				t.Fatalf("%s: first %d bytes: %+v %v", c.name, i, p, err)
			}
		}
	}
}

func TestCompressedPayload(t *testing.T) {
	// single payload, no padding field, compressed: time 5000 ms, 20 ms apart, three objects
	b := []byte{0x82, 0, 0, 0x00, 0x5d, 0x10, 0x27, 0, 0, 0xe8, 3, 0x01, 0, 0x88, 0x13, 0, 0, 1, 20, 2, 'a', 'b', 1, 'c', 1, 'd'}
	p, err := ParsePacket(b)
	if err != nil || p.SendTime != 10000 || p.First != 5000 || p.Last != 5040 || p.Payloads != 1 {
		t.Errorf("%+v %v", p, err)
	}
}

func TestHostileASF(t *testing.T) {
	one, _, _ := Next(find(t, "11."), ToViewer)
	two, _, _ := Next(find(t, "12."), ToViewer)
	good := append(bytes.Clone(one.Payload), two.Payload...)
	for at := range good {
		for _, v := range []byte{0, 1, 0x7f, 0xff} {
			b := bytes.Clone(good)
			b[at] = v
			if h, err := ParseHeader(b); err == nil && (h.Preroll < 0 || h.PlayDuration < 0 || h.Duration() < 0) {
				t.Fatalf("byte %d = %x: %+v", at, v, h)
			}
		}
	}
	b := bytes.Clone(good)
	binary.LittleEndian.PutUint64(b[16:], 1<<40)
	if _, err := HeaderSize(b); !errors.Is(err, ErrNotASF) {
		t.Errorf("header of a terabyte: %v", err)
	}
}

func TestMediaSignature(t *testing.T) {
	sig := MediaSignature{Incarnation: 4, MaxSize: 128, From: 0, To: 3}
	pk := find(t, "18.")
	d, asf, ok := sig.Match(append(bytes.Clone(pk), "more"...))
	if !ok || d.LocationID != 1 || len(asf) != len(pk)-8 || sig.Size(d) != len(pk) {
		t.Errorf("%+v %d %v", d, len(asf), ok)
	}
	if _, _, ok := sig.Match(pk[:50]); !ok {
		t.Error("a cut packet is none")
	}
	for i := range 48 {
		if _, _, ok := sig.Match(pk[:i]); ok {
			t.Fatalf("believes %d bytes", i)
		}
	}
	for i := 1; i < len(pk); i++ {
		if _, _, ok := sig.Match(pk[i:]); ok {
			t.Fatalf("begins at %d", i)
		}
	}
	sig.Framed = true
	c := AppendDataChunk(nil, 'D', d, pk[8:])
	if d, _, ok := sig.Match(c); !ok || sig.Size(d) != len(c) {
		t.Errorf("framed: %+v %v", d, ok)
	}
	if _, _, ok := sig.Match(pk); ok {
		t.Error("a bare packet is no chunk")
	}
}

func TestDataCostsNothing(t *testing.T) {
	pk := find(t, "18.")
	chunk := AppendDataChunk(nil, 'D', Data{1, 4, 1, 0}, pk[8:])
	sig := MediaSignature{Incarnation: 4, MaxSize: 128, To: 3}
	if n := testing.AllocsPerRun(100, func() {
		u, _, _ := Next(pk, ToViewer)
		_, _ = ParsePacket(u.Payload)
		c, _, _ := NextChunk(chunk)
		_, _ = ParsePacket(c.Payload)
		_, _, _ = sig.Match(pk)
	}); n != 0 {
		t.Errorf("%.1f allocations", n)
	}
}

func BenchmarkData(b *testing.B) {
	pk := find(b, "18.")
	b.ReportAllocs()
	for b.Loop() {
		u, _, _ := Next(pk, ToViewer)
		_, _ = ParsePacket(u.Payload)
	}
}
