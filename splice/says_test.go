package splice

import (
	"strings"
	"testing"
	"time"

	"scas/session"
)

// Whatever a server answers to a start request reaches the target as it is, and the transfer tells
// the truth of it.
func TestServerSays(t *testing.T) {
	for _, tt := range []struct {
		name   string
		says   func(reply string) string
		state  session.TransferState
		reason session.Reason
	}{
		{"go on first", func(r string) string { return "RTSP/1.0 100 Continue\r\nCSeq: 4\r\n\r\n" + r }, session.Committed, ""},
		{"a request of its own first", func(r string) string { return "OPTIONS * RTSP/1.0\r\nCSeq: 4\r\n\r\n" + r }, session.Committed, ""},
		{"another description first", func(r string) string {
			return "ANNOUNCE rtsp://h/film RTSP/1.0\r\nCSeq: 4\r\nContent-Length: 4\r\n\r\nv=0\n" + r
		}, session.Committed, ""},
		{"an answer to nothing first", func(r string) string { return "RTSP/1.0 200 OK\r\nCSeq: 99\r\n\r\n" + r }, session.Committed, ""},
		{"the same twice", func(r string) string { return r + r }, session.Committed, ""},
		{"a refusal behind it", func(r string) string { return r + "RTSP/1.0 453 No\r\nCSeq: 4\r\n\r\n" }, session.Committed, ""},
		{"empty lines", func(r string) string { return "\r\n\r\n" + r + "\r\n" }, session.Committed, ""},
		{"bare line feeds", func(r string) string { return strings.ReplaceAll(r, "\r\n", "\n") }, session.Committed, ""},
		{"a head of 30 KiB", func(r string) string {
			return strings.Replace(r, "\r\n", "\r\nX: "+strings.Repeat("x", 30<<10)+"\r\n", 1)
		}, session.Committed, ""},
		{"a head without end", func(string) string { return "RTSP/1.0 200 OK\r\nX: " + strings.Repeat("x", 200<<10) }, session.Failed, session.NoMedia},
		{"no CSeq", func(string) string { return "RTSP/1.0 200 OK\r\n\r\n" }, session.Failed, session.NoMedia},
		{"another CSeq", func(string) string { return "RTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n" }, session.Failed, session.NoMedia},
		{"half of it", func(r string) string { return r[:40] }, session.Failed, session.NoMedia},
		{"nothing", func(string) string { return "" }, session.Failed, session.NoMedia},
		{"no RTSP", func(string) string { return "\x00\x01\x02 HTTP?\r\n\r\n" }, session.Failed, session.NoMedia},
		{"elsewhere", func(string) string {
			return "RTSP/1.0 302 Found\r\nCSeq: 4\r\nLocation: rtsp://192.0.2.1/film\r\n\r\n"
		}, session.Failed, "server-refused:302"},
		{"not there", func(string) string { return "RTSP/1.0 457 Invalid Range\r\nCSeq: 4\r\n\r\n" }, session.Failed, "server-refused:457"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := quietConfig()
			cfg.ReplyHold = 50 * time.Millisecond
			if tt.reason == session.NoMedia {
				cfg.NoMedia = 400 * time.Millisecond
			}
			b := newBed(t, cfg)
			b.origin()
			x := b.move(session.Order{})
			term, serv, _ := b.connect(tv)
			b.playOn(term, serv, "t1", 4)
			if tt.state == session.Committed {
				b.mediaRuns("t1")
			}
			says := tt.says(b.playReply("t1", 4))
			send(t, serv, says)
			if !strings.HasPrefix(tt.name, "half") {
				expect(t, term, says)
			}
			if x = b.await(x.ID, tt.state, tt.reason); x.State == session.Failed {
				b.untouched()
			}
		})
	}
}
