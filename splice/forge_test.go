package splice

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"golang.org/x/sys/unix"

	"scas/bpf"
)

func TestSegment(t *testing.T) {
	for _, tt := range []struct{ name, from, to string }{
		{"v4", "10.1.2.3:554", "192.0.2.77:40001"}, {"v6", "[fd78:9::2]:554", "[fd78:1::2]:40001"},
	} {
		for _, stamped := range []bool{false, true} {
			s := segment{
				from: netip.MustParseAddrPort(tt.from), to: netip.MustParseAddrPort(tt.to), seq: 0xfffffff0, ack: 7,
				flags: flagFIN | flagACK, window: 501, stamped: stamped, tsval: 0x80000001, tsecr: 3,
			}
			raw := s.marshal()
			ip, pseudo := 20, append(append([]byte{}, raw[12:20]...), 0, 6)
			if s.to.Addr().Is6() {
				ip, pseudo = 40, append(append([]byte{}, raw[8:40]...), 0, 6)
			} else if sum := checksum(raw[:20]); sum != 0 {
				t.Errorf("%s: checksum of the IP header is off by %#x", tt.name, sum)
			}
			tcp := raw[ip:]
			pseudo = append(pseudo, 0, byte(len(tcp)))
			if sum := checksum(pseudo, tcp); sum != 0 { // RFC 1071: over all of it, the checksum included
				t.Errorf("%s: checksum is off by %#x", tt.name, sum)
			}
			want := []byte{554 >> 8, 554 & 0xff, 40001 >> 8, 40001 & 0xff, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 7, byte(len(tcp) / 4 << 4), 0x11, 501 >> 8, 501 & 0xff}
			if !bytes.Equal(tcp[:16], want) || (len(tcp) == 32) != stamped || len(raw) != ip+len(tcp) {
				t.Errorf("%s: % x, want % x", tt.name, tcp, want)
			}
			if stamped && !bytes.Equal(tcp[20:], []byte{1, 1, 8, 10, 0x80, 0, 0, 1, 0, 0, 0, 3}) {
				t.Errorf("%s: options % x", tt.name, tcp[20:])
			}
		}
	}
}

func TestForgedSides(t *testing.T) {
	f := bpf.Flow{Terminal: netip.MustParseAddrPort("10.1.1.2:40000"), Server: netip.MustParseAddrPort("10.9.9.2:554")}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	st := bpf.TCPStats{
		ToServer:   bpf.TCPDirStats{HighestSeq: 1100, NewestAck: 4900, HaveAck: true, Window: 10, TSVal: 70, TSAt: at},
		ToTerminal: bpf.TCPDirStats{HighestSeq: 5000, NewestAck: 1050, HaveAck: true, Window: 20, TSVal: 1<<32 - 5, TSAt: at},
	}
	fin := finToTerminal(f, st, at.Add(10*time.Millisecond))
	if fin.seq != 4900 || fin.ack != 1050 || fin.window != 20 || fin.tsval != 5 || fin.tsecr != 70 || fin.from != f.Server {
		t.Errorf("fin %+v", fin)
	}
	rst := rstToServer(f, st)
	if rst.seq != 1050 || rst.ack != 4900 || rst.from != f.Terminal || rst.to != f.Server || rst.tsval != 70 {
		t.Errorf("rst %+v", rst)
	}
	st.ToServer.HaveAck, st.ToTerminal.HaveAck, st.ToTerminal.TSAt = false, false, time.Time{}
	if fin := finToTerminal(f, st, at); fin.seq != 5000 || fin.ack != 1100 || fin.stamped {
		t.Errorf("without acknowledgements %+v", fin)
	}
}

func TestLastToTerminal(t *testing.T) {
	f := bpf.Flow{Terminal: netip.MustParseAddrPort("10.1.1.2:40000"), Server: netip.MustParseAddrPort("10.9.9.2:1755")}
	text := bytes.Repeat([]byte("0123456789"), 250)
	all := lastToTerminal(f, bpf.TCPStats{}, time.Now(), 1<<32-100, text)
	var got []byte
	for i, s := range all {
		if s.seq != 1<<32-100+uint32(len(got)) || s.from != f.Server || len(s.payload) > mostPayload || (s.flags&flagFIN != 0) != (i == len(all)-1) {
			t.Errorf("%d: %+v", i, s)
		}
		got = append(got, s.payload...)
		raw := s.marshal()
		if pseudo := append(append([]byte{}, raw[12:20]...), 0, 6, byte((len(raw)-20)>>8), byte(len(raw)-20)); checksum(pseudo, raw[20:]) != 0 || !bytes.HasSuffix(raw, s.payload) {
			t.Errorf("%d: checksum", i)
		}
	}
	if !bytes.Equal(got, text) {
		t.Errorf("%d bytes", len(got))
	}
	if all := lastToTerminal(f, bpf.TCPStats{}, time.Now(), 5, nil); len(all) != 1 || all[0].flags&flagFIN == 0 {
		t.Errorf("%+v", all)
	}
}

func TestBye(t *testing.T) {
	b := bye(0xdeadbeef)
	all, err := rtcp.Unmarshal(b)
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %v", all, err)
	}
	if g, ok := all[2].(*rtcp.Goodbye); !ok || g.Sources[0] != 0xdeadbeef {
		t.Errorf("%v", all[2])
	}
	if err := rtcp.CompoundPacket(all).Validate(); err != nil {
		t.Error(err)
	}
	if f := framed(3, b); f[0] != '$' || f[1] != 3 || int(f[2])<<8|int(f[3]) != len(b) || !bytes.Equal(f[4:], b) {
		t.Errorf("% x", f)
	}
}

// root skips a test that needs privileges, or fails it where SCAS_PRIV says that they are there.
func root(t *testing.T) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("SCAS_PRIV") == "1":
		t.Fatal("SCAS_PRIV=1, but the test does not run as root: it needs raw and transparent sockets")
	default:
		t.Skip("needs root: raw and transparent sockets")
	}
}

// lacks skips a test on a host without an address family, or fails it where SCAS_PRIV says that all
// is there.
func lacks(t *testing.T, what string, err error) {
	t.Helper()
	if os.Getenv("SCAS_PRIV") == "1" {
		t.Fatalf("SCAS_PRIV=1, but there is no %s: %v", what, err)
	}
	t.Skipf("needs %s: %v", what, err)
}

// tcpPair is a connection on loopback.
func tcpPair(t *testing.T, network, addr string) (client, server *net.TCPConn) {
	t.Helper()
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), network, addr)
	if err != nil {
		lacks(t, network, err)
	}
	defer l.Close()
	c, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []net.Conn{c, s} {
		x.SetDeadline(time.Now().Add(patience))
		t.Cleanup(func() { x.Close() })
	}
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// numbers reads sequence numbers and clock of a socket, as the kernel half would have seen them.
func numbers(t *testing.T, c *net.TCPConn) (send, receive, clock uint32) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	get := func(fd, opt int) uint32 {
		v, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, opt)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(v)
	}
	set := func(fd, opt, v int) {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, opt, v); err != nil {
			t.Fatal(err)
		}
	}
	control(raw, func(fd int) error {
		clock = get(fd, unix.TCP_TIMESTAMP)
		set(fd, unix.TCP_REPAIR, 1)
		set(fd, unix.TCP_REPAIR_QUEUE, 1)
		receive = get(fd, unix.TCP_QUEUE_SEQ)
		set(fd, unix.TCP_REPAIR_QUEUE, 2)
		send = get(fd, unix.TCP_QUEUE_SEQ)
		set(fd, unix.TCP_REPAIR, -1) // off, without a window probe
		return nil
	})
	return send, receive, clock
}

// Real sockets take the forged segments: the player reads an end, the server is reset.
func TestForgeEndsConnections(t *testing.T) {
	root(t)
	for _, tt := range []struct{ network, addr string }{{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}} {
		t.Run(tt.network, func(t *testing.T) {
			player, server := tcpPair(t, tt.network, tt.addr)
			send(t, server, "media")
			expect(t, player, "media")
			send(t, player, "OPTIONS")
			expect(t, server, "OPTIONS")
			ps, pr, pc := numbers(t, player)
			ss, sr, sc := numbers(t, server)
			now := time.Now()
			f := bpf.Flow{Terminal: addrPort(player.LocalAddr()), Server: addrPort(server.LocalAddr())}
			st := bpf.TCPStats{
				ToServer:   bpf.TCPDirStats{HighestSeq: ps, NewestAck: pr, HaveAck: true, Window: 512, TSVal: pc, TSAt: now},
				ToTerminal: bpf.TCPDirStats{HighestSeq: ss, NewestAck: sr, HaveAck: true, Window: 512, TSVal: sc, TSAt: now},
			}
			o := sockets{mark: 0x20000000}
			if err := o.forge(rstToServer(f, st)); err != nil {
				t.Fatal(err)
			}
			if _, err := server.Read(make([]byte, 1)); !isReset(err) {
				t.Errorf("server: %v", err)
			}
			if err := o.forge(finToTerminal(f, st, time.Now())); err != nil {
				t.Fatal(err)
			}
			if _, err := player.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("player: %v", err)
			}
		})
	}
}

func TestDatagramFromAnotherAddress(t *testing.T) {
	root(t)
	for _, tt := range []struct{ to, from string }{
		{"127.0.0.1:0", "10.78.123.9:40001"}, {"[::1]:0", "[fd78:7b::9]:40001"},
	} {
		l, err := net.ListenPacket("udp", tt.to)
		if err != nil {
			lacks(t, tt.to, err)
		}
		defer l.Close()
		l.SetDeadline(time.Now().Add(patience))
		from := netip.MustParseAddrPort(tt.from)
		for range 2 {
			if err := (sockets{mark: 0x20000000}).datagram(from, l.LocalAddr().(*net.UDPAddr).AddrPort(), bye(1)); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 2000)
			n, who, err := l.ReadFrom(buf)
			if err != nil || !bytes.Equal(buf[:n], bye(1)) || who.(*net.UDPAddr).AddrPort() != from {
				t.Errorf("% x from %v, %v", buf[:n], who, err)
			}
		}
	}
}

func TestListenIsTransparent(t *testing.T) {
	root(t)
	const mark = 0x20000000
	v4, v6, err := Listen(t.Context(), mark)
	if err != nil {
		t.Fatal(err)
	}
	defer v4.Close()
	if v6 != nil {
		defer v6.Close()
	}
	for _, l := range []*net.TCPListener{v4, v6} {
		if l == nil {
			t.Log("no IPv6")
			continue
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		in, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		raw, err := in.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = control(raw, func(fd int) error {
			m, e1 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK)
			p, e2 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
			if m != mark || p != unix.IPPROTO_TCP {
				t.Errorf("%v: mark %#x, protocol %d", l.Addr(), m, p)
			}
			if l == v4 {
				d, err := unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER)
				if err != nil || d != unix.IP_PMTUDISC_DONT {
					t.Errorf("MTU discovery %d, %v", d, err)
				}
			} else if i, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err != nil || i.Snd_mss > 1220 {
				t.Errorf("segments of %d bytes, %v", i.Snd_mss, err)
			}
			return errors.Join(e1, e2)
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// A leg has the terminal's address and port, the mark, and can take both twice in a row.
func TestLegAsTerminal(t *testing.T) {
	root(t)
	back := loopback(t)
	l := newLegs(DefaultConfig(), newFakeKernel(), &counters{})
	from := netip.MustParseAddrPort("127.0.0.77:40077")
	to := back.Addr().(*net.TCPAddr).AddrPort()
	for range 2 {
		c, err := l.connectTCP(t.Context(), from, to)
		if err != nil {
			t.Fatal(err)
		}
		in, err := back.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		if addrPort(in.RemoteAddr()) != from {
			t.Errorf("comes from %v", in.RemoteAddr())
		}
		c.SetLinger(0)
		c.Close()
		in.Close()
	}
}

// A connection of the same addresses and ports that has not gone yet is no obstacle.
func TestLegOfATakenPort(t *testing.T) {
	root(t)
	b := newBed(t, quietConfig())
	l := newLegs(b.s.cfg, b.k, &counters{})
	l.other = b.s.ownFlow
	f := bpf.Flow{Terminal: netip.MustParseAddrPort("127.0.0.77:40078"), Server: b.server}
	var from []netip.AddrPort
	for range 2 {
		c, release, err := l.open(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		defer release()
		from = append(from, addrPort(b.accepted().RemoteAddr()))
	}
	if from[0] != f.Terminal || from[1] == from[0] || from[1].Addr() != f.Terminal.Addr() {
		t.Errorf("legs come from %v", from)
	}
}
