package tracer

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"scas/session"
)

// told counts what a trace tells.
type told struct{ positions int }

func (r *told) Session(session.Record)            {}
func (r *told) Position(string, session.Position) { r.positions++ }

// byteOrders is what both formats may be written in.
type byteOrders interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// pcapOf writes packets as pcap; unit is that of its times.
func pcapOf(o byteOrders, unit time.Duration, link layers.LinkType, all []taken) []byte {
	magic := uint32(0xa1b2c3d4)
	if unit == time.Nanosecond {
		magic = 0xa1b23c4d
	}
	b := o.AppendUint32(nil, magic)
	b = o.AppendUint16(o.AppendUint16(b, 2), 4)
	b = append(b, make([]byte, 8)...)
	b = o.AppendUint32(o.AppendUint32(b, 64), uint32(link)) // a snaplen that is not kept to
	for _, p := range all {
		b = o.AppendUint32(o.AppendUint32(b, uint32(p.at.Unix())), uint32(p.at.Nanosecond()/int(unit)))
		b = o.AppendUint32(o.AppendUint32(b, uint32(len(p.b))), uint32(len(p.b)))
		b = append(b, p.b...)
	}
	return b
}

// block writes one block of pcapng.
func block(o byteOrders, kind uint32, body []byte) []byte {
	n := uint32(12 + (len(body)+3)&^3)
	b := append(o.AppendUint32(o.AppendUint32(nil, kind), n), body...)
	b = append(b, make([]byte, int(n)-4-len(b))...)
	return o.AppendUint32(b, n)
}

// pcapngOf writes packets as pcapng, in turn on interfaces of the given link types, with times in
// nanoseconds.
func pcapngOf(o byteOrders, links []layers.LinkType, wrap func(layers.LinkType, []byte) []byte, all []taken) []byte {
	b := block(o, 0x0a0d0d0a, append(o.AppendUint16(o.AppendUint16(o.AppendUint32(nil, byteOrder), 1), 0), bytes.Repeat([]byte{0xff}, 8)...))
	for _, l := range links {
		x := o.AppendUint32(o.AppendUint16(o.AppendUint16(nil, uint16(l)), 0), 0)
		x = append(o.AppendUint16(o.AppendUint16(x, 9), 1), 9, 0, 0, 0) // if_tsresol
		b = append(b, block(o, 1, o.AppendUint32(x, 0))...)
	}
	for i, p := range all {
		frame := wrap(links[i%len(links)], p.b)
		t := uint64(p.at.UnixNano())
		x := o.AppendUint32(o.AppendUint32(o.AppendUint32(nil, uint32(i%len(links))), uint32(t>>32)), uint32(t))
		x = o.AppendUint32(o.AppendUint32(x, uint32(len(frame))), uint32(len(frame)))
		b = append(b, block(o, 6, append(x, frame...))...)
	}
	return b
}

// wrapped gives an Ethernet frame with IPv4 in it the headers of another link type.
func wrapped(l layers.LinkType, b []byte) []byte {
	ip := b[ipHead:]
	var head []byte
	switch l {
	case layers.LinkTypeEthernet:
		return b
	case layers.LinkTypeLinuxSLL:
		head = []byte{0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0}
	case linkSLL2:
		head = []byte{8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0}
	case layers.LinkTypeNull:
		head = []byte{2, 0, 0, 0}
	case layers.LinkTypeLoop:
		head = []byte{0, 0, 0, 2}
	case layers.LinkTypePPP:
		head = []byte{0xff, 3, 0, 0x21}
	case layers.LinkTypePPP_HDLC:
		head = []byte{0x21}
	case layers.LinkTypePPPEthernet:
		return pppoeOf(ip)
	}
	return append(head, ip...)
}

func pppoeOf(ip []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0x11, 0, 0, 7}, uint16(len(ip)+2))
	return append(append(b, 0, 0x21), ip...)
}

// tagged puts b behind the addresses of an Ethernet frame and what of tags and types there is.
func tagged(frame []byte, types []byte, b []byte) []byte {
	return slices.Concat(frame[:12], types, b)
}

// fragments cuts the large packets of a capture in two.
func fragments(all []taken) []taken {
	var out []taken
	for _, p := range all {
		b := p.b
		if len(b) < ipHead+20+120 || b[ipHead] != 0x45 || b[ipHead+9] != 17 {
			out = append(out, p)
			continue
		}
		const cut = 64 // bytes of payload, times 8
		first, later := slices.Clone(b[:ipHead+20+cut]), slices.Concat(b[:ipHead+20], b[ipHead+20+cut:])
		for i, x := range [][]byte{first, later} {
			binary.BigEndian.PutUint16(x[ipHead+2:], uint16(len(x)-ipHead))
			binary.BigEndian.PutUint16(x[ipHead+6:], [2]uint16{1 << 13, cut / 8}[i])
		}
		out = append(out, taken{first, p.at}, taken{later, p.at})
	}
	return out
}

// readBytes traces a capture that is in memory, by way of a file.
func readBytes(t *testing.T, b []byte) (*watcher, Stats, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "capture")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	w := &watcher{}
	st, err := ReadFile(name, Config{AnyPort: true}, 0, w)
	return w, st, err
}

func packed(t *testing.T, b []byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(b); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return z.Bytes()
}

// TestRecordings: a capture reads the same in every format and behind every header.
func TestRecordings(t *testing.T) {
	all, _ := takenFrom(t, "rtsp/gst-ffplay-udp-range45")
	all = slices.DeleteFunc(all, func(p taken) bool { return p.b[12] != 8 || p.b[13] != 0 }) // IPv4 alone
	const us, ns = time.Microsecond, time.Nanosecond
	le, be := binary.LittleEndian, binary.BigEndian
	eth := layers.LinkTypeEthernet
	want, whole, err := readBytes(t, pcapOf(le, us, eth, all))
	if err != nil || len(want.records) < 4 || whole.RTPPackets < 400 || whole.NotIP != 0 {
		t.Fatalf("%+v %v", whole, err)
	}
	as := func(fn func(b []byte) []byte) []byte { return pcapOf(le, us, eth, each(all, fn)) }
	cases := map[string][]byte{
		"big endian":                  pcapOf(be, us, eth, all),
		"nanoseconds":                 pcapOf(le, ns, eth, all),
		"big endian nanoseconds":      pcapOf(be, ns, eth, all),
		"gzip":                        packed(t, pcapOf(le, us, eth, all)),
		"pcapng":                      pcapngOf(le, []layers.LinkType{eth}, wrapped, all),
		"pcapng, big endian":          pcapngOf(be, []layers.LinkType{eth}, wrapped, all),
		"pcapng, gzip":                packed(t, pcapngOf(le, []layers.LinkType{eth}, wrapped, all)),
		"pcapng, interfaces of kinds": pcapngOf(le, []layers.LinkType{eth, layers.LinkTypeRaw, 276 & 0xff}, wrapped, all),
		"two tags":                    as(func(b []byte) []byte { return tagged(b, []byte{0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0}, b[ipHead:]) }),
		"PPPoE":                       as(func(b []byte) []byte { return tagged(b, []byte{0x88, 0x64}, pppoeOf(b[ipHead:])) }),
		"PPPoE in a VLAN":             as(func(b []byte) []byte { return tagged(b, []byte{0x81, 0, 0, 7, 0x88, 0x64}, pppoeOf(b[ipHead:])) }),
		"two labels":                  as(func(b []byte) []byte { return tagged(b, []byte{0x88, 0x47, 0, 1, 0, 9, 0, 2, 1, 9}, b[ipHead:]) }),
		"fragments":                   pcapOf(le, us, eth, fragments(all)),
	}
	for _, l := range []layers.LinkType{layers.LinkTypeLinuxSLL, linkSLL2, layers.LinkTypeNull, layers.LinkTypeLoop, layers.LinkTypePPP, layers.LinkTypePPP_HDLC,
		layers.LinkTypePPPEthernet, layers.LinkTypeRaw, linkRawBSD, linkRawOld, layers.LinkTypeIPv4} {
		cases["link type "+l.String()] = pcapOf(le, us, l, each(all, func(b []byte) []byte { return wrapped(l, b) }))
	}
	for name, b := range cases {
		t.Run(name, func(t *testing.T) {
			got, st, err := readBytes(t, b)
			if err != nil || st.RTPPackets != whole.RTPPackets || st.Undecoded+st.NotIP > 0 || name == "fragments" && st.Fragments < 50 {
				t.Fatalf("%+v %v", st, err)
			}
			same := slices.EqualFunc(got.records, want.records, func(a, b session.Record) bool {
				return a.State == b.State && a.Updated.Equal(b.Updated) && (a.Position == nil) == (b.Position == nil) &&
					(a.Position == nil || *a.Position.NPT == *b.Position.NPT)
			})
			if !same {
				t.Errorf("%d changes, want %d, or others", len(got.records), len(want.records))
			}
		})
	}
	ng := cases["pcapng"]
	for name, b := range map[string][]byte{"pcap": pcapOf(le, us, eth, all), "pcapng": ng, "gzip": cases["gzip"]} {
		for _, n := range []int{len(b) / 2, len(b) - 1, len(b) - 30} {
			if _, st, err := readBytes(t, b[:n]); !errors.Is(err, io.ErrUnexpectedEOF) || st.Packets == 0 {
				t.Errorf("%s of %d bytes: %v, %d packets", name, n, err, st.Packets)
			}
		}
	}
}

// TestNoRecordings: what cannot be read is told.
func TestNoRecordings(t *testing.T) {
	at := time.Unix(1000, 0)
	some := []taken{{make([]byte, 60), at}}
	o := binary.LittleEndian
	eth := []layers.LinkType{layers.LinkTypeEthernet}
	damaged := pcapngOf(o, eth, func(_ layers.LinkType, b []byte) []byte { return b }, some)
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"text":              {[]byte("this is no capture at all"), "neither pcap nor pcapng"},
		"nothing":           {nil, "not a capture"},
		"gzip of text":      {packed(t, []byte("this is no capture at all")), "neither pcap nor pcapng"},
		"gzip of nothing":   {[]byte("\x1f\x8b"), "EOF"},
		"802.11":            {pcapOf(o, time.Microsecond, layers.LinkTypeIEEE802_11, some), "link type 802.11 is not supported"},
		"802.11 in pcapng":  {pcapngOf(o, []layers.LinkType{layers.LinkTypeIEEE802_11}, func(_ layers.LinkType, b []byte) []byte { return b }, some), "link type 802.11 is not supported"},
		"a huge frame":      {append(pcapOf(o, time.Microsecond, layers.LinkTypeEthernet, some), bytes.Repeat([]byte{0x7f}, 16)...), "exceeds"},
		"a huge block":      {append(slices.Clone(damaged), bytes.Repeat([]byte{0x7f}, 32)...), "impossible length"},
		"a block too small": {append(slices.Clone(damaged), make([]byte, 32)...), "impossible length"},
		"a bad resolution":  {bytes.Replace(damaged, []byte{9, 0, 1, 0, 9}, []byte{9, 0, 1, 0, 0xc0}, 1), "damaged"},
	} {
		if _, _, err := readBytes(t, c.file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestDamagedRecordings: whatever the bytes, a file is read or refused, and takes no more memory than it is
// large.
func TestDamagedRecordings(t *testing.T) {
	all, _ := takenFrom(t, "rtsp/gst-ffplay-udp-range45")
	all = all[:30]
	o := binary.LittleEndian
	eth := []layers.LinkType{layers.LinkTypeEthernet}
	same := func(_ layers.LinkType, b []byte) []byte { return b }
	for _, b := range [][]byte{pcapOf(o, time.Microsecond, eth[0], all), pcapngOf(o, eth, same, all), pcapngOf(binary.BigEndian, eth, same, all)} {
		r := rand.New(rand.NewPCG(3, 5))
		for range 500 {
			x := slices.Clone(b)
			for range 1 + r.IntN(8) {
				x[r.IntN(min(len(x), 400))] = byte(r.IntN(256))
			}
			src, err := openCapture(bytes.NewReader(x))
			if err != nil {
				continue
			}
			in := newFrames(NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}}), src.link)
			for {
				b, at, err := src.next()
				if err != nil {
					break
				}
				if len(b) > blockMost {
					t.Fatalf("a frame of %d bytes", len(b))
				}
				in.link = src.link
				in.frame(b, at)
			}
		}
	}
}

// TestTimeOfRecordings: a clock that was set forward by decades, or back, takes no time to follow.
func TestTimeOfRecordings(t *testing.T) {
	all, _ := takenFrom(t, "rtsp/gst-ffplay-udp-range45")
	early := taken{make([]byte, 60), time.Unix(0, 0)}
	late := taken{make([]byte, 60), all[0].at.Add(time.Hour)}
	for name, x := range map[string][]taken{"1970 first": append([]taken{early}, all...), "an hour ahead first": append([]taken{late}, all...)} {
		r := &told{}
		tr := newTrace(Config{AnyPort: true}, 200*time.Millisecond, r)
		in := newFrames(tr.d, layers.LinkTypeEthernet)
		for _, p := range x {
			tr.to(p.at)
			in.frame(p.b, p.at)
		}
		if r.positions < 45 || r.positions > 55 {
			t.Errorf("%s: %d positions in ten seconds", name, r.positions)
		}
	}
}
