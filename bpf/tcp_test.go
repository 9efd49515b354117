package bpf

import (
	"bytes"
	"net/netip"
	"testing"
	"time"
)

const describe = "DESCRIBE rtsp://10.78.9.2/film RTSP/1.0\r\nCSeq: 1\r\n\r\n"

// TestSignallingCopy plays one exchange over a real connection through the gateway.
func TestSignallingCopy(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		l := newLab(t)
		g := l.open(l.config())
		must(t, g.Subscribe(netip.MustParseAddr(ueIP[family])))
		ue, ms, f := l.connect(family, 8554)

		syn := next(t, g, "SYN", func(e *Event) bool { return e.TCPFlags&FlagSYN != 0 })
		if syn.Flow != f || syn.Dir != ToServer || syn.Kind != EventTCP || syn.Service != ServiceRTSP {
			t.Errorf("SYN event %+v, want flow %v", syn, f)
		}
		if age := time.Since(syn.At); age < 0 || age > deadline {
			t.Errorf("SYN is %v old", age)
		}
		synack := next(t, g, "SYN-ACK", func(e *Event) bool { return e.TCPFlags == FlagSYN|FlagACK })
		if synack.Dir != ToTerminal || synack.Ack != syn.Seq+1 {
			t.Errorf("SYN-ACK event %+v", synack)
		}

		send(t, ue, []byte(describe))
		receive(t, ms, len(describe))
		req := next(t, g, "request", func(e *Event) bool { return len(e.Payload) > 0 })
		if string(req.Payload) != describe || req.Seq != syn.Seq+1 || req.Requests != 1 || req.Length != len(describe) {
			t.Errorf("request event %+v", req)
		}
		reply := bytes.Repeat([]byte("v=0\r\n"), 4000) // five records
		send(t, ms, reply)
		receive(t, ue, len(reply))
		if got := collect(t, g, ToTerminal, synack.Seq+1, len(reply)); !bytes.Equal(got, reply) {
			t.Error("reply differs")
		}

		must(t, g.StopCopy(f, req.Requests))
		send(t, ms, []byte("not to be seen"))
		receive(t, ue, len("not to be seen"))
		_ = ue.CloseWrite()
		next(t, g, "FIN", func(e *Event) bool {
			if e.Dir == ToTerminal && len(e.Payload) > 0 && e.TCPFlags&FlagFIN == 0 {
				t.Errorf("copied after StopCopy: %q", e.Payload)
			}
			return e.TCPFlags&FlagFIN != 0 && e.Dir == ToServer
		})
		checkTCPStats(t, g, f, syn.Seq, synack.Seq, len(describe), len(reply)+len("not to be seen"))
	})
}

// collect reassembles n bytes of one direction.
func collect(t *testing.T, g *Gateway, dir Dir, from uint32, n int) []byte {
	t.Helper()
	got, have := make([]byte, n), 0
	for have < n {
		e := next(t, g, "payload", func(e *Event) bool { return e.Dir == dir && len(e.Payload) > 0 })
		have += copy(got[e.Seq-from:], e.Payload)
	}
	return got
}

func checkTCPStats(t *testing.T, g *Gateway, f Flow, upISN, downISN uint32, up, down int) {
	t.Helper()
	eventually(t, g, "last ACK", func() bool {
		s, _ := g.TCPStats(f)
		return s.ToServer.NewestAck == downISN+1+uint32(down)
	})
	s, ok := g.TCPStats(f)
	if !ok {
		t.Fatal("no record")
	}
	if !s.SynSeen || s.Lossy || s.Copying || s.Service != ServiceRTSP {
		t.Errorf("record %+v", s)
	}
	if s.ToServer.HighestSeq != upISN+1+uint32(up)+1 || s.ToServer.Bytes != uint64(up) || !s.ToServer.FIN {
		t.Errorf("to server: %+v, want %d bytes and FIN", s.ToServer, up)
	}
	if s.ToTerminal.HighestSeq != downISN+1+uint32(down) || s.ToTerminal.Bytes != uint64(down) || s.ToTerminal.FIN {
		t.Errorf("to terminal: %+v, want %d bytes", s.ToTerminal, down)
	}
	for _, d := range []TCPDirStats{s.ToServer, s.ToTerminal} {
		o := d.SYN
		if !o.Seen || o.MSS < 1200 || o.MSS > 1460 || !o.HaveWScale || !o.SACK || !o.Timestamps || o.MPTCP {
			t.Errorf("SYN options %+v", o)
		}
		if d.TSVal == 0 || time.Since(d.TSAt) > deadline || !d.HaveAck || d.Window == 0 {
			t.Errorf("direction %+v", d)
		}
	}
}

// TestStrangerUntouched: without a subscription nothing is seen, and the connection works.
func TestStrangerUntouched(t *testing.T) {
	l := newLab(t)
	g := l.open(l.config())
	ue, ms, f := l.connect(0, 8554)
	send(t, ue, []byte(describe))
	receive(t, ms, len(describe))
	s := g.Stats()
	if s["event_tcp"] != 0 || s["lan_in_stranger"] == 0 || s["lan_out_stranger"] == 0 {
		t.Errorf("counters %s", nonZero(s))
	}
	if _, ok := g.TCPStats(f); ok {
		t.Error("stranger has a record")
	}
}

// TestJoined: a connection that was there before is told of once, and can be read from then on.
func TestJoined(t *testing.T) {
	l := newLab(t)
	ue, ms, f := l.connect(0, 554)
	g := l.open(l.config())
	must(t, g.Subscribe(f.Terminal.Addr()))
	send(t, ue, []byte(describe))
	receive(t, ms, len(describe))
	first := next(t, g, "first event", func(*Event) bool { return true })
	if first.Flow != f || first.TCPFlags != 0 || len(first.Payload) != 0 {
		t.Errorf("first event %+v, want one without flags and payload", first)
	}
	req := next(t, g, "request", func(*Event) bool { return true })
	if string(req.Payload) != describe || req.Requests != 1 {
		t.Errorf("request %+v", req)
	}
	if s, ok := g.TCPStats(f); !ok || s.SynSeen {
		t.Errorf("record %+v, %v", s, ok)
	}
}

// TestIgnore: an ignored connection costs and shows nothing any more.
func TestIgnore(t *testing.T) {
	l := newLab(t)
	g := l.open(l.config())
	ue, ms, f := l.connect(0, 554)
	must(t, g.Subscribe(f.Terminal.Addr()))
	send(t, ue, []byte("hello"))
	receive(t, ms, 5)
	next(t, g, "payload", func(e *Event) bool { return len(e.Payload) > 0 })
	must(t, g.Ignore(f))
	events := g.Stats()["event_tcp"]
	send(t, ue, []byte("hello"))
	receive(t, ms, 5)
	s := g.Stats()
	if s["event_tcp"] != events || s["lan_in_tcp_ignored"] == 0 {
		t.Errorf("counters %s", nonZero(s))
	}
	if err := g.Ignore(Flow{f.Server, f.Terminal}); err == nil {
		t.Error("a flow nobody knows can be ignored")
	}
}

// TestPlayersOnly: on mmsh ports only connections with a player's signature are read.
func TestPlayersOnly(t *testing.T) {
	for _, c := range []struct {
		name, request string
		want          bool
	}{
		{"browser", "GET / HTTP/1.1\r\nUser-Agent: Mozilla/5.0\r\n" + string(bytes.Repeat([]byte("X-Pad: 0123456789\r\n"), 40)) + "\r\n", false},
		{"NSPlayer", "GET /film HTTP/1.0\r\nUser-Agent: NSPlayer/12.0\r\n\r\n", true},
		{"GUID", "GET /film HTTP/1.0\r\nPragma: xClientGUID={c77e7400}\r\n\r\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			g := l.open(l.config())
			must(t, g.Subscribe(netip.MustParseAddr(ueIP[0])))
			ue, ms, f := l.connect(0, 80)
			send(t, ue, []byte(c.request))
			receive(t, ms, len(c.request))
			if !c.want {
				if n := g.Stats()["event_tcp"]; n != 0 {
					t.Errorf("%d events", n)
				}
				if s, _ := g.TCPStats(f); !s.Ignored {
					t.Error("not ignored")
				}
				return
			}
			e := next(t, g, "request", func(*Event) bool { return true })
			if string(e.Payload) != c.request || e.Service != ServiceMMSH {
				t.Errorf("event %+v", e)
			}
		})
	}
}
