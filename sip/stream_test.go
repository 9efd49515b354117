package sip

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func optionsRaw(id int, extra string) string {
	return fmt.Sprintf("OPTIONS sip:scas@ims.test SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKst%d\r\nMax-Forwards: 70\r\n"+
		"From: <sip:a@ims.test>;tag=1\r\nTo: <sip:scas@ims.test>\r\nCall-ID: c%d\r\nCSeq: 1 OPTIONS\r\n%s\r\n", id, id, extra)
}

func streamBed(t *testing.T, change func(cfg *Config)) (*regBed, func() net.Conn) {
	t.Helper()
	core := newWirePeer(t, loopback())
	b := newRegBedAt(t, core, &flakyStore{Memory: NewMemory()}, &fakeClock{}, func(cfg *Config) {
		cfg.Listen = []string{"tcp://" + loopback() + ":0"}
		if change != nil {
			change(cfg)
		}
	})
	return b, func() net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(core.ip)}}
		c, err := d.Dial("tcp", b.udp(0).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(patience))
		return c
	}
}

// status reads the head of one answer.
func status(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	first, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\r\n" {
			return strings.TrimSpace(first)
		}
	}
}

// TestStreamFraming: messages in pieces, several in one, keep-alives between.
func TestStreamFraming(t *testing.T) {
	_, dial := streamBed(t, nil)
	c := dial()
	r := bufio.NewReader(c)
	for _, piece := range strings.SplitAfter(optionsRaw(1, "Content-Length: 0\r\n"), ":") {
		if _, err := c.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	if s := status(t, r); s != "SIP/2.0 200 OK" {
		t.Error(s)
	}
	if _, err := c.Write([]byte("\r\n\r\n" + optionsRaw(2, "l: 0\r\n") + optionsRaw(3, "Content-Length: 3\r\n") + "abc" + optionsRaw(4, "Content-Length: 0\r\n"))); err != nil {
		t.Fatal(err)
	}
	pong := make([]byte, 2)
	if _, err := io.ReadFull(r, pong); err != nil || string(pong) != "\r\n" {
		t.Errorf("pong %q %v", pong, err)
	}
	for range 3 {
		if s := status(t, r); s != "SIP/2.0 200 OK" {
			t.Error(s)
		}
	}
}

// TestStreamLimits: what ends a connection, and what it was told before.
func TestStreamLimits(t *testing.T) {
	for _, c := range []struct {
		name, raw, answer string
		change            func(cfg *Config)
	}{
		{"no length", optionsRaw(1, ""), "SIP/2.0 400 Bad Content-Length", nil},
		{"two lengths", optionsRaw(1, "Content-Length: 0\r\nl: 0\r\n"), "SIP/2.0 400 Bad Content-Length", nil},
		{"endless head", strings.Repeat("X: y\r\n", 4000), "", nil},
		{"huge body", optionsRaw(1, "Content-Length: 99999999\r\n"), "", nil},
		{"slow message", "OPTIONS sip:a", "", func(cfg *Config) { cfg.Limits.Message = 50 * time.Millisecond }},
		{"idle", "", "", func(cfg *Config) { cfg.Limits.Idle = 50 * time.Millisecond }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, dial := streamBed(t, c.change)
			conn := dial()
			if _, err := conn.Write([]byte(c.raw)); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(conn)
			if c.answer != "" {
				if s := status(t, r); s != c.answer {
					t.Error(s)
				}
			}
			if rest, err := io.ReadAll(r); err != nil && !strings.Contains(err.Error(), "reset") || len(rest) > 0 {
				t.Errorf("%q, %v", rest, err)
			}
		})
	}
}

// TestStreamConnections: so many connections and no more; a stranger's is closed at once.
func TestStreamConnections(t *testing.T) {
	b, dial := streamBed(t, func(cfg *Config) { cfg.Limits.Connections = 2 })
	first := dial()
	dial()
	third := dial()
	if _, err := third.Read(make([]byte, 1)); err == nil {
		t.Error("a third connection is open")
	}
	first.Close()
	until(t, "a place is free", func() bool {
		c := dial()
		if _, err := c.Write([]byte("\r\n\r\n")); err != nil {
			return false
		}
		n, _ := c.Read(make([]byte, 2))
		return n == 2
	})
	stranger, err := net.Dial("tcp", b.udp(0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	_ = stranger.SetDeadline(time.Now().Add(patience))
	if _, err := stranger.Read(make([]byte, 1)); err == nil {
		t.Error("a stranger is heard")
	}
}

// TestStreamShare: one terminal's connections leave places for those of others, and one that is
// believed, a core's proxy, may have them all.
func TestStreamShare(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	believed, err := parseTrusted([]string{"127.0.0.9"})
	if err != nil {
		t.Fatal(err)
	}
	s := &stack{trust: believed, count: newCounters(), sources: newSourceBuckets(0, 0, time.Now)}
	s.cfg.Registrar, s.cfg.Limits.Connections = true, 80
	sl := newStreamListener(s, &listener{network: "tcp"}, ln)
	defer sl.Close()
	accepted := make(chan net.Conn, 100)
	go func() {
		for {
			c, err := sl.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func(from string) (accept net.Conn, taken bool) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		refused := make(chan struct{})
		go func() {
			_ = c.SetReadDeadline(time.Now().Add(patience))
			_, _ = c.Read(make([]byte, 1))
			close(refused)
		}()
		select {
		case in := <-accepted:
			t.Cleanup(func() { in.Close() })
			return in, true
		case <-refused:
			return nil, false
		}
	}
	var last net.Conn
	for i := range 7 {
		c, taken := dial("127.0.0.2")
		if taken != (i < 80/sourceParts) {
			t.Fatalf("connection %d of a terminal is taken: %v", i+1, taken)
		}
		if taken {
			last = c
		}
	}
	if _, taken := dial("127.0.0.3"); !taken {
		t.Error("another terminal is refused")
	}
	last.Close()
	sl.mu.Lock()
	left := 80 - sl.all
	if len(sl.held) != 2 || sl.held[netip.MustParseAddr("127.0.0.2")] != 80/sourceParts-1 {
		t.Errorf("held: %v", sl.held)
	}
	sl.mu.Unlock()
	for i := range left {
		if _, taken := dial("127.0.0.9"); !taken {
			t.Fatalf("connection %d of the core is refused", i+1)
		}
	}
	if _, taken := dial("127.0.0.9"); taken || s.count.snapshot()["connections_over_share"] != 2 || s.count.snapshot()["connections_refused"] != 1 {
		t.Errorf("one more is taken: %v; %v", taken, s.count.snapshot())
	}
}
