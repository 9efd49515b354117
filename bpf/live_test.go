package bpf

import (
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/pion/rtp"
	"golang.org/x/sys/unix"
)

// TestWalkLive walks a real connection at full speed, in segments as large as the stack makes them.
func TestWalkLive(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		l := newLab(t)
		g := l.open(l.config())
		must(t, g.Subscribe(netip.MustParseAddr(ueIP[family])))
		ue, ms, f := l.connect(family, 554)
		must(t, g.Channels(f, streamChannels))
		isn, _ := g.TCPStats(f)
		s := newStream(t, rand.New(rand.NewPCG(1, 4)), 4000, 1400, false)
		got := make(chan []byte, 1)
		reading := onOneCPU(func() error {
			b := make([]byte, len(s.bytes))
			_, err := io.ReadFull(ue, b)
			got <- b
			return err
		})
		must(t, <-onOneCPU(func() error {
			_, err := ms.Write(s.bytes)
			return err
		}))
		must(t, <-reading)
		if b := <-got; string(b) != string(s.bytes) {
			t.Fatal("the stream was changed")
		}
		st, ok := g.TCPStats(f)
		if !ok || !st.InStep || st.Gaps != 0 || len(st.Channels) != 2 {
			t.Fatalf("record %+v; counters %s", st, nonZero(g.Stats()))
		}
		for i, c := range st.Channels {
			want, count := s.newest(c.Channel, len(s.bytes))
			if c.Packets != uint64(count) || c.Seq != want.packet.SequenceNumber || c.RTPTime != want.packet.Timestamp ||
				c.FrameSeq != isn.ToTerminal.SYN.ISN+1+uint32(want.at) {
				t.Errorf("channel %d: %+v, want %d frames, newest %+v", i, c, count, want.packet.Header)
			}
		}
		if d := st.ToTerminal; d.Packets >= uint64(len(s.bytes)/1448) {
			t.Logf("no merged segments: %d for %d bytes", d.Packets, len(s.bytes))
		}
		frames := 0
		for range 2 { // the first of each channel at least
			e := next(t, g, "frame", func(e *Event) bool { return e.Kind == EventFrame })
			var p rtp.Packet
			if p.Unmarshal(e.Payload) != nil || int(p.PayloadType) != 96+int(e.Channel)/2 {
				t.Errorf("frame %+v, %+v", e, p.Header)
			}
			frames++
		}
	})
}

// onOneCPU runs fn in the background, on the first processor that this process may use, and returns
// what it returns. Segments that two processors hand over at the same time overtake each other: the
// walk counts that as a gap, as it must.
func onOneCPU(fn func() error) <-chan error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // until its end: the thread goes with the goroutine
		var may, one unix.CPUSet
		if err := unix.SchedGetaffinity(0, &may); err != nil {
			done <- err
			return
		}
		for cpu := 0; one.Count() == 0; cpu++ {
			if may.IsSet(cpu) {
				one.Set(cpu)
			}
		}
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return done
}

// openTUN makes a device without link header and returns its far end.
func (s *space) openTUN(name string) *os.File {
	s.tb.Helper()
	var f *os.File
	must(s.tb, s.do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		req, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), name)
		return nil
	}))
	s.tb.Cleanup(func() { _ = f.Close() })
	s.up(name)
	return f
}

// TestBareDevice watches and steers a terminal behind a device without link header.
func TestBareDevice(t *testing.T) {
	for _, clsact := range []bool{false, true} {
		l := newLab(t)
		tun := l.gw.openTUN("tun0")
		l.gw.addr("tun0", "10.99.0.1/24")
		cfg := l.config()
		cfg.LAN = append(cfg.LAN, "tun0")
		cfg.Attach = attachBy(clsact)
		g := l.open(cfg)
		terminal := netip.MustParseAddr("10.99.0.2")
		must(t, g.Subscribe(terminal))
		f := Flow{netip.AddrPortFrom(terminal, 40000), netip.MustParseAddrPort(msIP[0] + ":50000")}
		must(t, g.WatchFlow(MediaFlow{Flow: f}))

		ms := l.ms.udp(f.Server.String())
		raw := packet(t, 96, 5, 6, 7)
		_, err := ms.WriteToUDPAddrPort(raw, f.Terminal)
		must(t, err)
		e := next(t, g, "sample", func(*Event) bool { return true })
		if e.Kind != EventRTP || e.Flow != f || string(e.Payload) != string(raw) {
			t.Errorf("event %+v", e)
		}

		ln := l.listener(g, 0)
		must(t, g.Arm(terminal))
		syn := segment{flow: Flow{f.Terminal, netip.MustParseAddrPort(msIP[0] + ":554")}, flags: FlagSYN, seq: 1}.frame(t)[14:]
		fixChecksums(t, syn)
		_, err = tun.Write(syn)
		must(t, err)
		eventually(t, g, "the SYN is steered", func() bool { return g.Stats()["lan_in_steered"] == 1 })
		readSYNACK(t, tun)
		_ = ln
	}
}

// fixChecksums fills in what a real stack checks.
func fixChecksums(t *testing.T, raw []byte) {
	t.Helper()
	p := gopacket.NewPacket(raw, layers.LayerTypeIPv4, gopacket.Default)
	ip, tcp := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4), p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	must(t, tcp.SetNetworkLayerForChecksum(ip))
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{ComputeChecksums: true, FixLengths: true}, ip, tcp))
	copy(raw, buf.Bytes())
}

// readSYNACK waits for our listener's answer on the device.
func readSYNACK(t *testing.T, tun *os.File) {
	t.Helper()
	must(t, tun.SetReadDeadline(time.Now().Add(deadline)))
	b := make([]byte, 2000)
	for {
		n, err := tun.Read(b)
		must(t, err)
		p := gopacket.NewPacket(b[:n], layers.LayerTypeIPv4, gopacket.Default)
		if tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP); ok && tcp.SYN && tcp.ACK && tcp.Ack == 2 && tcp.SrcPort == 554 {
			return
		}
	}
}
