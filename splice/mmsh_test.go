package splice

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/mms"
	"scas/tracer/rtsp"
)

const (
	// ffmpeg forgets a line end.
	ffmpegHTTP = "GET /%s HTTP/1.1\r\nAccept: */*\r\nUser-Agent: NSPlayer/4.1.0.3856\r\nRange: bytes=0-\r\nConnection: Close\r\nHost: h:80\r\n" +
		"Pragma: no-cache,rate=1.000000,request-context=2\r\nPragma: xPlayStrm=1\r\nPragma: xClientGUID={c77e7400-738a-11d2-9add-0020af0a3278}\r\n" +
		"Pragma: stream-switch-count=2\r\nPragma: stream-switch-entry=ffff:1:0 ffff:2:0 \r\nPragma: no-cache,rate=1.000000,stream-time=0Connection: Close\r\n\r\n"
	vlcHTTP = "GET /%s HTTP/1.0\r\nAccept: */*\r\nUser-Agent: NSPlayer/7.10.0.3059\r\nHost: h:80\r\n" +
		"Pragma: no-cache,rate=1.000000,stream-time=0,stream-offset=0:0,request-context=2,max-duration=0\r\nPragma: xPlayStrm=1\r\n" +
		"Pragma: xClientGUID={0xbabac001-0xf3e2}\r\n\r\n"
	liveHTTP  = "GET /%s HTTP/1.0\r\nUser-Agent: NSPlayer/4.1.0.3856\r\nHost: h\r\nPragma: no-cache,rate=1.000000,request-context=2\r\nPragma: xPlayStrm=1\r\n\r\n"
	describe  = "GET /%s HTTP/1.0\r\nUser-Agent: NSPlayer/4.1.0.3856\r\nHost: h\r\nPragma: no-cache,stream-time=0,request-context=1\r\n\r\n"
	playReply = "HTTP/1.0 200 OK\r\nContent-Type: application/x-mms-framed\r\nPragma: no-cache, client-id=1, features=\"seekable\"\r\n\r\n"
)

func get(format string) string { return fmt.Sprintf(format, filmPath) }

// chunkOf is a packet of MMST as MMSH carries it.
func chunkOf(id byte, packet []byte) []byte { return mms.AppendChunk(nil, id, packet) }

// header is the ASF header of the worked example, as a chunk.
func header(t testing.TB) (b []byte) {
	for _, e := range examples(t) {
		if strings.HasPrefix(e.name, "11.") || strings.HasPrefix(e.name, "12.") {
			b = append(b, chunkOf('H', e.raw)...)
		}
	}
	return b
}

// httpTarget brings a target to its Play and returns what the server gets.
func (b *bed) httpTarget(play string) (term, serv *net.TCPConn, got string) {
	b.t.Helper()
	term, serv, _ = b.connect(tv)
	send(b.t, term, play)
	return term, serv, until(b.t, serv)
}

func TestMoveHTTPFilm(t *testing.T) {
	for _, tt := range []struct{ name, play, old, new string }{
		{"ffmpeg", ffmpegHTTP, "stream-time=0Con", "stream-time=59250Con"},
		{"vlc", vlcHTTP, "stream-time=0,", "stream-time=59250,"},
		{"no stream-time", liveHTTP, "xPlayStrm=1\r\n", "xPlayStrm=1\r\nPragma: stream-time=59250\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, quietConfig())
			b.film(session.MMSH)
			control := b.tr.details["s1"].Control
			b.k.tcp[control] = bpf.TCPStats{SynSeen: true}
			x := b.move(session.Order{})
			// Describe, on a connection of its own, passes.
			term, serv, _ := b.connect(tv)
			send(t, term, get(describe))
			expect(t, serv, get(describe))
			send(t, serv, "HTTP/1.0 200 OK\r\nContent-Type: application/vnd.ms.wms-hdr.asfv1\r\n\r\n"+string(header(t)))
			serv.Close()
			if all, err := io.ReadAll(term); err != nil || !bytes.HasSuffix(all, header(t)) {
				t.Fatalf("%d bytes, %v", len(all), err)
			}
			term.Close()
			term, serv, got := b.httpTarget(get(tt.play))
			if want := strings.Replace(get(tt.play), tt.old, tt.new, 1); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			first, rest := mediaAt(5, 57900), string(chunkOf('D', mediaAt(6, 58000)))
			body := playReply + string(header(t)) + string(chunkOf('D', first)) + rest
			for i := range len(body) {
				send(t, serv, body[i:i+1])
			}
			if tt.name != "vlc" { // libmms has the name of ffmpeg
				first[0] = 0
			}
			expect(t, term, playReply+string(header(t))+string(chunkOf('D', first))+rest)
			x = b.await(x.ID, session.Done, "")
			if *x.Position != 59.25 || x.StartedAt == nil || *x.StartedAt != 57.9 {
				t.Errorf("position %v, started at %v", *x.Position, x.StartedAt)
			}
			b.wire.mu.Lock()
			if s := b.wire.segments; len(s) != 2 || s[0].flags != flagRST|flagACK || s[1].flags != flagFIN|flagACK {
				t.Errorf("segments %+v", s)
			}
			b.wire.mu.Unlock()
			if tt.name != "vlc" {
				return
			}
			// The user's seeks come on connections of their own; so does one to the beginning.
			for i, place := range []string{"stream-offset=0:135800", "stream-offset=0:0"} {
				seek := strings.Replace(strings.Replace(get(tt.play), "stream-offset=0:0", place, 1), "context=2", fmt.Sprintf("context=%d", 3+i), 1)
				if _, _, got := b.httpTarget(seek); got != seek {
					t.Errorf("seek became %q", got)
				}
			}
			if _, _, got := b.httpTarget(get(tt.play)); !strings.Contains(got, "stream-time=59") {
				t.Errorf("a player that comes back gets %q", got)
			}
		})
	}
}

// ffmpeg -ss: a Play at the beginning, and at once another one elsewhere.
func TestHTTPFilmPlayersOwnStart(t *testing.T) {
	b := newBed(t, quietConfig())
	b.film(session.MMSH)
	x := b.move(session.Order{})
	term, _, got := b.httpTarget(get(ffmpegHTTP))
	if !strings.Contains(got, "stream-time=59250Con") {
		t.Errorf("got %q", got)
	}
	b.await(x.ID, session.Attached, "")
	own := strings.Replace(get(ffmpegHTTP), "stream-time=0C", "stream-time=20000C", 1)
	term2, serv, got := b.httpTarget(own)
	if got != own {
		t.Errorf("got %q", got)
	}
	term.Close()
	body := playReply + string(header(t)) + "$D\x02\x00ab"
	send(t, serv, body)
	expect(t, term2, body)
	if x = b.await(x.ID, session.Done, ""); x.Position != nil || x.StartedAt != nil {
		t.Errorf("position %v, started at %v", x.Position, x.StartedAt)
	}
}

func TestHTTPFilmRefused(t *testing.T) {
	for _, tt := range []struct{ name, request, status string }{
		{"describe", describe, "404 Not Found"}, {"play", vlcHTTP, "503 Busy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, quietConfig())
			b.film(session.MMSH)
			x := b.move(session.Order{})
			term, serv, _ := b.httpTarget(get(tt.request))
			reply := "HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nauth"
			send(t, serv, reply)
			expect(t, term, reply)
			send(t, term, strings.Replace(get(tt.request), "Host", "Authorization: Basic eA==\r\nHost", 1))
			if got := until(t, serv); tt.name == "play" && !strings.Contains(got, "stream-time=59250") {
				t.Errorf("signed: %q", got)
			}
			reply = "HTTP/1.1 " + tt.status + "\r\nContent-Length: 0\r\n\r\n"
			send(t, serv, reply)
			expect(t, term, reply)
			b.await(x.ID, session.Failed, session.ServerRefused(tt.status[:3]))
			b.untouched()
		})
	}
}

// Over MMST what was watched over MMSH, and the other way round, is the same film.
func TestFilmOverTheOther(t *testing.T) {
	b := newBed(t, quietConfig())
	b.film(session.MMS)
	b.move(session.Order{})
	if _, _, got := b.httpTarget(get(vlcHTTP)); !strings.Contains(got, "stream-time=59250") {
		t.Errorf("got %q", got)
	}
}

func TestPipelineRefused(t *testing.T) {
	b := newBed(t, quietConfig())
	b.film(session.MMSH)
	b.move(session.Order{})
	term, serv, _ := b.connect(tv)
	pipe := "GET /" + filmPath + " HTTP/1.1\r\nUser-Agent: NSPlayer/9.0.0.3250\r\nPragma: pipeline-request=1\r\nPragma: xClientGUID={1}\r\n\r\n"
	send(t, term, pipe+pipe)
	for range 2 {
		if got := until(t, term); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("got %q", got)
		}
	}
	send(t, term, get(describe))
	expect(t, serv, get(describe))
}

// Web traffic on the port is relayed unread.
func TestWebPasses(t *testing.T) {
	b := newBed(t, quietConfig())
	b.film(session.MMSH)
	b.move(session.Order{})
	term, serv, _ := b.connect(tv)
	web := "GET /" + filmPath + " HTTP/1.1\r\nHost: h\r\nUser-Agent: Mozilla\r\n\r\n"
	send(t, term, web)
	expect(t, serv, web)
	answer := "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
	send(t, serv, answer)
	expect(t, term, answer)
}

// A request that is not whole is not kept back for ever.
func TestHTTPRequestIsReleased(t *testing.T) {
	if testing.Short() {
		t.Skip("takes five seconds")
	}
	b := newBed(t, quietConfig())
	term, serv, _ := b.connect(tv)
	send(t, term, "GET / HT")
	expect(t, serv, "GET / HT")
	send(t, term, "TP/1.0\r\n")
	expect(t, serv, "TP/1.0\r\n")
}

func TestEndSteeredHTTPFilm(t *testing.T) {
	b := newBed(t, quietConfig())
	term, serv, origin := b.connect(phone)
	send(t, term, get(vlcHTTP))
	expect(t, serv, get(vlcHTTP))
	media := chunkOf('D', mediaAt(5, 60000))
	send(t, serv, playReply+string(header(t))+string(media)+string(media[:9]))
	expect(t, term, playReply+string(header(t))+string(media)+string(media[:9]))
	b.film(session.MMSH)
	b.fromPhone(origin)
	x := b.move(session.Order{})
	tterm, tserv, _ := b.httpTarget(get(vlcHTTP))
	body := playReply + string(header(t)) + string(chunkOf('D', mediaAt(5, 59000)))
	send(t, tserv, body)
	expect(t, tterm, body)
	b.await(x.ID, session.Committed, "")
	eventually(t, "it ends with the packet", func() bool { return b.s.Stats()["streams_ended"] == 1 })
	send(t, serv, string(media[9:])+string(media))
	expect(t, term, string(media[9:])+"$E\x04\x00\x00\x00\x00\x00")
	for _, c := range []net.Conn{term, serv} {
		if n, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%d, %v", n, err)
		}
		c.Close()
	}
	b.await(x.ID, session.Done, "")
	b.tr.mu.Lock()
	if len(b.tr.moved) != 1 || b.tr.moved[0] != "s1" {
		t.Errorf("the tracer is told that %v moved", b.tr.moved)
	}
	b.tr.mu.Unlock()
	b.balance()
}

// A seek before the target counts as playing does not lose it.
func TestHTTPSeekWhileAttached(t *testing.T) {
	b := newBed(t, quietConfig())
	b.film(session.MMSH)
	x := b.move(session.Order{})
	first, _, _ := b.httpTarget(get(vlcHTTP))
	b.await(x.ID, session.Attached, "")
	seek := strings.Replace(get(vlcHTTP), "request-context=2", "request-context=3", 1)
	term, serv, got := b.httpTarget(seek)
	if got != seek {
		t.Errorf("seek became %q", got)
	}
	first.Close()
	body := playReply + string(chunkOf('D', mediaAt(0, 0)))
	send(t, serv, body)
	expect(t, term, body)
	b.await(x.ID, session.Done, "")
}

func FuzzPlay(f *testing.F) {
	for _, p := range []string{ffmpegHTTP, vlcHTTP, liveHTTP, describe} {
		f.Add([]byte(get(p)), int64(59250))
	}
	for _, c := range recorded(f, "mmsh-*") {
		f.Add(c.dirs[0], int64(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, ms int64) {
		h, n, err := mms.NextHead(b)
		if err != nil {
			return
		}
		before := bytes.Clone(b)
		x := &mmshStart{h: h, p: h.Pragma()}
		if _, ok := x.rewrite(rtsp.Scale{}, time.Duration(ms%(1<<33))*time.Millisecond); !ok {
			if x.out != nil {
				t.Fatalf("%q changed without saying so", b)
			}
			return
		}
		if !bytes.Equal(b, before) {
			t.Fatal("the request was changed in place")
		}
		again, k, err := mms.NextHead(x.out)
		if err != nil || k != len(x.out) || again.Method() != h.Method() || again.Target() != h.Target() {
			t.Fatalf("%q -> %q: %v", b[:n], x.out, err)
		}
		p := again.Pragma()
		if p.StreamTime != uint32(ms%(1<<33)) || !p.Play || p.By() == mms.ByPacket || p.By() == mms.ByOffset {
			t.Fatalf("%q -> %q: %+v", b[:n], x.out, p)
		}
		if d := len(x.out) - n; d > 60 {
			t.Fatalf("%d bytes more: %q", d, x.out)
		}
	})
}
