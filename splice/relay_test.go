package splice

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
)

// conversation returns what one side says: messages and frames of random sizes.
func conversation(r *rand.Rand, units int, reply bool) []byte {
	var b []byte
	for i := range units {
		switch r.IntN(6) {
		case 0:
			body := strings.Repeat("x\r\n\r\n", r.IntN(40))
			if reply {
				b = fmt.Appendf(b, "RTSP/1.0 200 OK\r\nCSeq: %d\r\nContent-Length: %d\r\n\r\n%s", i, len(body), body)
			} else {
				b = fmt.Appendf(b, "SET_PARAMETER rtsp://h/f RTSP/1.0\r\ncseq:%d\r\nContent-Length: %d\r\n\r\n%s", i, len(body), body)
			}
		case 1:
			b = append(b, "\r\n"...)
		default:
			b = append(b, rtpFrame(uint8(r.IntN(4)), uint16(i), r.Uint32(), r.IntN(1400))...)
		}
	}
	return b
}

// trickle writes b in pieces of 1 to most bytes.
func trickle(c net.Conn, b []byte, r *rand.Rand, most int) error {
	for len(b) > 0 {
		n := min(len(b), 1+r.IntN(most))
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func TestRelayIsExact(t *testing.T) {
	for _, tt := range []struct {
		name  string
		most  int
		armed bool
		units int
	}{
		{"one byte at a time", 1, false, 12}, {"one byte at a time, looked at", 1, true, 12},
		{"small pieces", 7, false, 60}, {"small pieces, looked at", 7, true, 60},
		{"big pieces", 1 << 16, false, 400}, {"big pieces, looked at", 1 << 16, true, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, quietConfig())
			if tt.armed {
				b.origin()
				b.move(session.Order{})
			}
			term, serv, f := b.connect(tv)
			up := conversation(rand.New(rand.NewPCG(1, uint64(tt.most))), tt.units, false)
			down := conversation(rand.New(rand.NewPCG(2, uint64(tt.most))), tt.units, true)
			var wg sync.WaitGroup
			say := func(c *net.TCPConn, text []byte, seed uint64) {
				if err := trickle(c, text, rand.New(rand.NewPCG(3, seed)), tt.most); err != nil {
					t.Error(err)
				}
				c.CloseWrite()
			}
			hear := func(c *net.TCPConn, want []byte, who string) {
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes of %d, %v", who, len(got), len(want), err)
				}
			}
			wg.Go(func() { say(term, up, 4) })
			wg.Go(func() { say(serv, down, 5) })
			wg.Go(func() { hear(serv, up, "server") })
			wg.Go(func() { hear(term, down, "terminal") })
			wg.Wait()
			eventually(t, "relay ends", func() bool { return b.s.relay(f) == nil })
			if b.tr.streamed(f, bpf.ToServer) != string(up) || b.tr.streamed(f, bpf.ToTerminal) != string(down) {
				t.Error("the tracer got something else")
			}
			if c := *b.tr.closed[f]; c != [2]int{1, 1} {
				t.Errorf("closed %v times", c)
			}
			b.balance()
		})
	}
}

// A byte of a message goes on before the rest of it is there, while nothing is armed.
func TestRelayDoesNotWait(t *testing.T) {
	b := newBed(t, quietConfig())
	term, serv, _ := b.connect(tv)
	send(t, term, "OPTI")
	expect(t, serv, "OPTI")
	send(t, term, "ONS * RTSP/1.0\r\n")
	expect(t, serv, "ONS * RTSP/1.0\r\n")
	send(t, serv, "$\x00\x01\x00ab")
	expect(t, term, "$\x00\x01\x00ab")
}

// A message that is looked at is not kept back for ever.
func TestHeldRequestIsReleased(t *testing.T) {
	if testing.Short() {
		t.Skip("takes five seconds")
	}
	b := newBed(t, quietConfig())
	b.origin()
	b.move(session.Order{})
	term, serv, _ := b.connect(tv)
	send(t, term, "OPTIONS * RTSP/1.0\r\nCSe")
	expect(t, serv, "OPTIONS * RTSP/1.0\r\nCSe")
	send(t, term, "q: 1\r\n\r\nOPT")
	expect(t, serv, "q: 1\r\n\r\n")
	if n := b.s.Stats()["requests_released"]; n != 1 {
		t.Errorf("released %d", n)
	}
}

func TestHostileInputPasses(t *testing.T) {
	endless := "PLAY rtsp://h/f RTSP/1.0\r\nCSeq: 1\r\nX: " + strings.Repeat("x", 200<<10)
	for name, text := range map[string]string{
		"header without end": endless,
		"tls":                "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00\xff", 1000),
		"http tunnel":        "GET /film HTTP/1.0\r\nx-sessioncookie: a\r\n\r\n",
		"two lengths":        "PLAY rtsp://h/f RTSP/1.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc",
		"negative length":    "PLAY rtsp://h/f RTSP/1.0\r\nContent-Length: -5\r\n\r\nabc",
		"huge body":          "PLAY rtsp://h/f RTSP/1.0\r\nContent-Length: 999999999\r\n\r\nabc",
		"garbage":            strings.Repeat("\x00\x01\xfe$", 500),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, quietConfig())
			b.origin()
			b.move(session.Order{})
			term, serv, _ := b.connect(tv)
			go io.WriteString(term, text)
			expect(t, serv, text)
			go io.WriteString(serv, text)
			expect(t, term, text)
			if n := b.s.Stats()["directions_not_rtsp"]; n != 2 {
				t.Errorf("not rtsp: %d", n)
			}
		})
	}
}

func TestHalfClose(t *testing.T) {
	b := newBed(t, quietConfig())
	term, serv, f := b.connect(tv)
	send(t, term, "last words")
	term.CloseWrite()
	if got, err := io.ReadAll(serv); err != nil || string(got) != "last words" {
		t.Fatalf("server got %q, %v", got, err)
	}
	send(t, serv, "the answer takes longer")
	expect(t, term, "the answer takes longer")
	serv.CloseWrite()
	if n, err := term.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("terminal: %d, %v", n, err)
	}
	eventually(t, "relay ends", func() bool { return b.s.relay(f) == nil })
}

func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

func TestResetIsPassedOn(t *testing.T) {
	for name, first := range map[string]bool{"by the terminal": true, "by the server": false} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, quietConfig())
			term, serv, f := b.connect(tv)
			one, other := term, serv
			if !first {
				one, other = serv, term
			}
			send(t, one, "words before it")
			expect(t, other, "words before it")
			one.SetLinger(0)
			one.Close()
			if _, err := other.Read(make([]byte, 1)); !isReset(err) {
				t.Errorf("other side: %v", err)
			}
			eventually(t, "relay ends", func() bool { return b.s.relay(f) == nil })
		})
	}
}

// mpv sends TEARDOWN and RST in one go; the server still gets it, and has the time to answer.
func TestTeardownBeforeReset(t *testing.T) {
	b := newBed(t, quietConfig())
	term, serv, f := b.connect(tv)
	teardown := "TEARDOWN rtsp://h/f RTSP/1.0\r\nCSeq: 9\r\n\r\n"
	send(t, serv, "$\x00\x00\x05media")
	expect(t, term, "$\x00\x00\x05media")
	send(t, term, teardown)
	term.SetLinger(0)
	term.Close()
	expect(t, serv, teardown)
	send(t, serv, "$\x00\x00\x05mediaRTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\n")
	if _, err := serv.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("server: %v", err)
	}
	eventually(t, "relay ends", func() bool { return b.s.relay(f) == nil })
}

func TestUnreachableServer(t *testing.T) {
	b := newBed(t, quietConfig())
	b.back.Close()
	d := net.Dialer{Timeout: patience}
	term, err := d.Dial("tcp4", b.front.Addr().String())
	if err == nil {
		term.SetDeadline(time.Now().Add(patience))
		_, err = term.Read(make([]byte, 1))
		term.Close()
	}
	if !isReset(err) {
		t.Errorf("terminal: %v", err)
	}
	eventually(t, "counted", func() bool { return b.s.Stats()["upstream_unreachable"] == 1 })
	eventually(t, "relay ends", func() bool { return b.s.Stats()["connections_open"] == 0 })
}

// A terminal that does not read stops its server, not the other way nor other connections.
func TestSlowTerminal(t *testing.T) {
	b := newBed(t, quietConfig())
	term, serv, _ := b.connect(tv)
	sent := stuff(t, serv)
	send(t, term, "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
	expect(t, serv, "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
	got, err := io.CopyN(io.Discard, term, sent)
	if err != nil {
		t.Errorf("%d of %d bytes: %v", got, sent, err)
	}
}

func TestShutdownEndsBothSides(t *testing.T) {
	b := newBed(t, quietConfig())
	term, serv, _ := b.connect(tv)
	send(t, term, "x")
	expect(t, serv, "x")
	go b.stop()
	for name, c := range map[string]*net.TCPConn{"terminal": term, "server": serv} {
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.stop()
}

func TestDrain(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	x := b.move(session.Order{})
	term, serv, _ := b.connect(tv)
	drained := make(chan error, 1)
	go func() { drained <- b.s.Drain(t.Context()) }()
	b.await(x.ID, session.Failed, session.DaemonRestart)
	eventually(t, "no new connections", func() bool {
		c, err := net.DialTimeout("tcp4", b.front.Addr().String(), patience)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	select {
	case err := <-drained:
		t.Fatalf("drained with a film running: %v", err)
	default:
	}
	send(t, term, "x")
	expect(t, serv, "x")
	term.Close()
	serv.Close()
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// The relayed connections of a killed process answer RST.
func TestLingerIsZero(t *testing.T) {
	b := newBed(t, quietConfig())
	_, _, f := b.connect(tv)
	var r *relay
	eventually(t, "joined", func() bool { r = b.s.relay(f); return r != nil && r.joined() })
	for name, c := range map[string]*net.TCPConn{"terminal": r.terminal, "server": r.server} {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "linger "+name, func() bool {
			var on, secs int32
			control(raw, func(fd int) error { on, secs, err = linger(fd); return err })
			return err == nil && on == 1 && secs == 0
		})
	}
}

func TestTooManyConnections(t *testing.T) {
	cfg := quietConfig()
	cfg.MaxRelays = 1
	b := newBed(t, cfg)
	term, serv, _ := b.connect(tv)
	b.refused(tv)
	eventually(t, "counted", func() bool { return b.s.Stats()["connections_refused"] == 1 })
	goesOn(t, term, serv)
}

// refused dials, and wants a RST: as soon as it is connected, which may be before it knows, or later.
func (b *bed) refused(from string) {
	b.t.Helper()
	c, err := b.tryDial(from)
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !isReset(err) {
		b.t.Errorf("one connection too many: %v", err)
	}
}

// One terminal does not get all there is.
func TestShareOfATerminal(t *testing.T) {
	cfg := quietConfig()
	cfg.MaxRelays = 8
	b := newBed(t, cfg)
	first, server, _ := b.connect(tv)
	b.connect(tv)
	b.refused(tv)
	eventually(t, "counted", func() bool { return b.s.Stats()["connections_over_share"] == 1 })
	term, serv, _ := b.connect(phone)
	goesOn(t, term, serv)
	first.Close()
	server.Close()
	eventually(t, "room again", func() bool {
		b.s.mu.Lock()
		defer b.s.mu.Unlock()
		return b.s.held[b.s.key(addrPort(first.LocalAddr()).Addr())] == 1
	})
	b.connect(tv)
}

// Neither a terminal nor a server that takes nothing more holds up the end of the daemon.
func TestShutdownOfStuckPeers(t *testing.T) {
	b := newBed(t, quietConfig())
	term, serv, _ := b.connect(tv)
	stuff(t, serv)
	stuff(t, term)
	b.stop() // fails when it does not return
}

// The end of one session gets through to a terminal that reads again only later.
func TestEndOfAStuckTerminal(t *testing.T) {
	b := newBed(t, quietConfig())
	term, serv, f := b.connect(tv)
	sent := stuff(t, serv)
	serv.Close() // RST, or FIN behind what it sent
	got, err := io.Copy(io.Discard, term)
	if err != nil || got == 0 {
		t.Errorf("%d of %d bytes: %v", got, sent, err)
	}
	term.Close()
	eventually(t, "relay ends", func() bool { return b.s.relay(f) == nil })
}
