package splice

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
	"scas/tracer/mms"
	"scas/tracer/rtsp"
)

// stream is one TCP connection of a capture, each direction in order.
type stream struct {
	name string
	http bool
	dirs [2][]byte
}

// recorded returns the connections of the captures whose names match.
func recorded(tb testing.TB, match string) (all []stream) {
	tb.Helper()
	files, err := filepath.Glob("../tracer/testdata/mms/" + match + ".pcap")
	if err != nil || len(files) == 0 {
		tb.Fatalf("captures %s: %v", match, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, streams(strings.TrimSuffix(filepath.Base(f), ".pcap"), b)...)
	}
	return all
}

func streams(name string, pcap []byte) (all []stream) {
	type piece struct {
		seq  uint32
		data []byte
	}
	pieces := map[[2]uint16]*[2][]piece{}
	var order [][2]uint16
	for b := pcap[24:]; len(b) >= 16; {
		n := binary.LittleEndian.Uint32(b[8:])
		ip := b[16+14 : 16+n]
		b = b[16+n:]
		if ip[9] != 6 {
			continue
		}
		tcp := ip[int(ip[0]&15)*4 : binary.BigEndian.Uint16(ip[2:])]
		src, dst := binary.BigEndian.Uint16(tcp), binary.BigEndian.Uint16(tcp[2:])
		k, dir := [2]uint16{src, dst}, 0
		if src == 1755 || src == 18080 {
			k, dir = [2]uint16{dst, src}, 1
		}
		if pieces[k] == nil {
			pieces[k] = &[2][]piece{}
			order = append(order, k)
		}
		if data := tcp[int(tcp[12]>>4)*4:]; len(data) > 0 {
			pieces[k][dir] = append(pieces[k][dir], piece{binary.BigEndian.Uint32(tcp[4:]), data})
		}
	}
	for i, k := range order {
		s := stream{name: fmt.Sprintf("%s/%d", name, i+1), http: k[1] == 18080}
		for dir, parts := range pieces[k] {
			slices.SortStableFunc(parts, func(a, b piece) int { return int(int32(a.seq - b.seq)) })
			for i, next := 0, uint32(0); i < len(parts); i++ {
				seen := 0
				if i > 0 {
					seen = max(0, min(int(int32(next-parts[i].seq)), len(parts[i].data)))
				}
				s.dirs[dir] = append(s.dirs[dir], parts[i].data[seen:]...)
				next = parts[i].seq + uint32(len(parts[i].data))
			}
		}
		all = append(all, s)
	}
	return all
}

const filmPath = "vod/a%20film.asf?x=1"

// film is origin with sessions of MMS.
func (b *bed) film(kind session.Protocol) {
	b.plays(func(terminal, id string) tracer.Detail {
		d := b.detail(terminal, id)
		url := fmt.Sprintf("%s://%v/%s", kind, b.server, filmPath)
		d.Record.Protocol, d.Record.Transport, d.Record.URL = kind, session.TCP, &url
		if kind == session.MMSH {
			d.Record.Transport = session.HTTP
		}
		d.BaseURL, d.ContentURL, d.Scale, d.SDPRange, d.RTSPSession = url, url, rtsp.Scale{}, "", ""
		d.Tracks, d.Record.Tracks = nil, nil
		return d
	})
}

// fromPhone has the origin run on a relayed connection.
func (b *bed) fromPhone(f bpf.Flow) {
	b.tr.set("s1", func(d *tracer.Detail) { d.Control = f })
	b.tr.mu.Lock()
	defer b.tr.mu.Unlock()
	b.tr.flows[f] = []string{"s1"}
}

// viewer speaks MMST for a test: one side of a connection, with the sequence numbers it uses.
type viewer struct {
	t   testing.TB
	c   net.Conn
	seq uint16
}

func (v *viewer) say(x mms.Body) []byte {
	v.t.Helper()
	b := mms.Append(nil, mms.Stamp{Seq: v.seq}, x)
	v.seq++
	v.write(b)
	return b
}

func (v *viewer) write(b []byte) {
	v.t.Helper()
	if _, err := v.c.Write(b); err != nil {
		v.t.Fatal(err)
	}
}

// hear reads one unit.
func hear(t testing.TB, c net.Conn, dir mms.Dir) mms.Unit {
	t.Helper()
	var b []byte
	for {
		u, n, err := mms.Next(b, dir)
		if err == nil {
			return u
		}
		if err != mms.ErrShort {
			t.Fatalf("%x: %v", b, err)
		}
		more := make([]byte, max(n-len(b), 1))
		if n == 0 {
			more = more[:1]
		}
		k, err := io.ReadFull(c, more)
		if b = append(b, more[:k]...); err != nil {
			t.Fatalf("after %d bytes: %v", len(b), err)
		}
	}
}

// hearAll reads what expect says, bytes and all.
func hearAll(t testing.TB, c net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != string(want) {
		t.Fatalf("got %x (%v), want %x", got[:n], err, want)
	}
}

// libmms and mplayer name themselves so in Connect.
const (
	libmmsName  = "NSPlayer/7.0.0.1956; {3300AD50-2C39-46c0-AE0A-A0D3CFD0F9C7}; Host: media.example"
	windowsName = "NSPlayer/9.0.0.3250; {3300AD50-2C39-46c0-AE0A-A0D3CFD0F9C7}; Host: media.example"
)

// mmsTarget brings a target on the tv up to its start request.
func (b *bed) mmsTarget(name, file string) (up, down *viewer, f bpf.Flow) {
	b.t.Helper()
	term, serv, f := b.connect(tv)
	up, down = &viewer{t: b.t, c: term}, &viewer{t: b.t, c: serv}
	b.dialogue(up, down, name, file)
	return up, down, f
}

// dialogue is what comes before StartPlaying; all of it passes as it is.
func (b *bed) dialogue(up, down *viewer, name, file string) {
	b.t.Helper()
	for _, x := range []struct{ ask, answer mms.Body }{
		{&mms.Connect{MacToViewer: 0x4000b, ViewerToMac: 0x3001c, SubscriberName: name}, &mms.ReportConnectedEX{ServerVersion: "9.1"}},
		{&mms.ConnectFunnel{FunnelName: `\\192.168.0.129\TCP\1037`}, &mms.ReportConnectedFunnel{FunnelName: "Funnel Of The Gods"}},
		{&mms.OpenFile{PlayIncarnation: 1, FileName: file}, &mms.ReportOpenFile{OpenFileID: 1, Attributes: mms.CanSeek, Duration: 180, PacketSize: 120}},
		{&mms.ReadBlock{OpenFileID: 1, PlayIncarnation: 2}, &mms.ReportReadBlock{PlayIncarnation: 2}},
	} {
		hearAll(b.t, down.c, up.say(x.ask))
		hearAll(b.t, up.c, down.say(x.answer))
	}
	for _, e := range examples(b.t) {
		if strings.HasPrefix(e.name, "11.") || strings.HasPrefix(e.name, "12.") {
			down.write(e.raw)
			hearAll(b.t, up.c, e.raw)
		}
	}
}

// example is one vector of the grammar's worked example.
type example struct {
	name string
	raw  []byte
}

func examples(tb testing.TB) (all []example) {
	tb.Helper()
	b, err := os.ReadFile("../tracer/mms/testdata/example.txt")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		name, _, ok := strings.Cut(line, " | ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case ok:
			all = append(all, example{name: name})
		default:
			raw, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
			if err != nil {
				tb.Fatal(err)
			}
			all[len(all)-1].raw = append(all[len(all)-1].raw, raw...)
		}
	}
	return all
}

// beginning is the StartPlaying of libmms, ffmpeg and VLC.
func beginning() *mms.StartPlaying {
	return &mms.StartPlaying{OpenFileID: 1, Padding: 0x1ffff, ASFOffset: mms.Unused, LocationID: mms.Unused, FrameOffset: 0xffffff, PlayIncarnation: 4}
}

// mediaAt is a media packet that shows ms of the film first; the header's preroll is 3000.
func mediaAt(number uint32, ms uint32) []byte {
	asf := []byte{0x82, 0, 0, 0x08, 0x5d, 0}
	asf = binary.LittleEndian.AppendUint32(asf, ms)
	asf = append(asf, 0xe8, 3, 0x81, 0, 0, 0, 0, 0, 8, 8, 0, 0, 0)
	asf = binary.LittleEndian.AppendUint32(asf, ms+3000)
	asf = append(asf, "the pictures and the sound"...)
	return mms.Data{LocationID: number, Incarnation: 4}.Append(nil, asf)
}

func terminalAddr(ip string) session.Terminal { return session.Terminal{IP: netip.MustParseAddr(ip)} }
