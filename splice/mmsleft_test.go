package splice

import (
	"os"
	"runtime"
	"testing"
	"time"

	"scas/session"
	"scas/tracer"
	"scas/tracer/mms"
)

// 200 films move, each in another way, and nothing of them stays.
func TestNothingOfFilmsIsLeftBehind(t *testing.T) {
	cfg := quietConfig()
	cfg.Retry = time.Millisecond
	b := newBed(t, cfg)
	goroutines, files := 0, 0
	for i := range 201 {
		if i == 1 {
			eventually(t, "the first move is over", func() bool { return b.s.Stats()["transfers_open"] == 0 })
			goroutines, files = runtime.NumGoroutine(), descriptors(t)
		}
		if i%2 == 0 {
			moveFilmAway(t, b, i)
		} else {
			moveHTTPFilmAway(t, b, i)
		}
	}
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
	eventually(t, "descriptors are closed", func() bool { return descriptors(t) <= files })
	if s := b.s.Stats(); s["transfers_done"] != 151 {
		t.Errorf("%d done", s["transfers_done"])
	}
	b.leftNothing()
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// moveFilmAway moves a steered film over MMST; every other one is called off in the middle.
func moveFilmAway(t *testing.T, b *bed, i int) {
	term, serv, origin := b.connect(phone)
	up, down := &viewer{t: t, c: term}, &viewer{t: t, c: serv}
	b.film(session.MMS)
	b.fromPhone(origin)
	x := b.move(session.Order{})
	up.say(&mms.Connect{SubscriberName: libmmsName})
	hear(t, serv, mms.ToServer)
	tup, tdown, target := b.mmsTarget(libmmsName, filmPath)
	if i%4 == 2 {
		tdown.write(mediaAt(5, 59000)[:30])
		tup.say(beginning())
		hear(t, tdown.c, mms.ToServer)
		b.cancel(x)
	} else {
		b.startsFilm(tup, tdown, 59.25, mediaAt(5, 59000))
		hear(t, serv, mms.ToServer) // StopPlaying
		down.say(&mms.ReportEndOfStream{PlayIncarnation: 4})
		hear(t, term, mms.ToViewer)
		hear(t, serv, mms.ToServer)
		term.Close()
		serv.Close()
		b.await(x.ID, session.Done, "")
	}
	tup.c.Close()
	tdown.c.Close()
	term.Close()
	serv.Close()
	eventually(t, "relays end", func() bool { return b.s.relay(origin) == nil && b.s.relay(target) == nil })
	b.tr.set("s1", func(d *tracer.Detail) { d.Record.State = session.Ended })
	eventually(t, "forgotten", func() bool { return b.s.moveOf(target) == nil })
}

// moveHTTPFilmAway moves a steered film over MMSH.
func moveHTTPFilmAway(t *testing.T, b *bed, _ int) {
	term, serv, origin := b.connect(phone)
	send(t, term, get(vlcHTTP))
	until(t, serv)
	media := string(chunkOf('D', mediaAt(5, 60000)))
	send(t, serv, playReply+media)
	expect(t, term, playReply+media)
	b.film(session.MMSH)
	b.fromPhone(origin)
	x := b.move(session.Order{})
	tterm, tserv, _ := b.httpTarget(get(vlcHTTP))
	send(t, tserv, playReply+media)
	expect(t, tterm, playReply+media)
	expect(t, term, "$E\x04\x00\x00\x00\x00\x00")
	term.Close()
	serv.Close()
	b.await(x.ID, session.Done, "")
	tterm.Close()
	tserv.Close()
	eventually(t, "relays end", func() bool { return b.s.Stats()["connections_open"] == 0 })
	eventually(t, "forgotten", func() bool { return b.s.moveOf(origin) == nil && b.s.Stats()["transfers_open"] == 0 })
}
