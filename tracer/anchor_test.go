package tracer

import (
	"math"
	"testing"
	"time"

	"scas/session"
)

// tick is one packet of a test: seconds after the reply, media ticks after rt0.
type tick struct {
	at    float64
	seq   int
	ticks int64
}

func TestReading(t *testing.T) {
	const rt0 = session.RTPTime(0xffffff00) // wraps within the first picture
	reply := time.Unix(1000, 0)
	on := func(p play) play {
		p.known, p.at = true, reply
		if p.scale == 0 {
			p.scale, p.speed = 1, 1
		}
		return p
	}
	at45 := session.NPTSeconds(45)
	for _, c := range []struct {
		name    string
		play    play
		noSeq   bool
		noRT    bool
		packets []tick
		want    float64
	}{
		{"promised and kept", on(play{first: true}), false, false, []tick{{.07, 0, 5760}, {.11, 1, 9360}}, .104},
		{"rtptime of npt 0", on(play{start: at45, first: true}), false, false, []tick{{.01, 0, 45 * 90000}, {.05, 1, 45*90000 + 3600}}, 45.04},
		{"rtptime of npt 0, looked at late", on(play{start: at45, first: true}), false, false, []tick{{.9, 700, 45*90000 + 81000}, {.94, 730, 45*90000 + 84600}}, 45.94},
		{"no RTP-Info", on(play{start: at45}), true, true, []tick{{.1, 0, 777}, {.14, 1, 777 + 3600}}, 45.04},
		{"B-frames go back and forth", on(play{}), false, false, []tick{{0, 0, 0}, {.04, 1, 10800}, {.08, 2, 3600}, {.12, 3, 7200}}, .12},
		{"old packets first", on(play{start: at45}), false, false, []tick{{.01, -2, -7200}, {.02, -1, -3600}, {.03, 0, 0}, {.07, 1, 3600}}, 45.04},
		{"an old packet, 4 s on, behind the first new one", on(play{start: at45}), false, false, []tick{{.03, 0, 0}, {.04, -1, 4 * 90000}, {.07, 1, 3600}}, 45.04},
		{"stale picture of npt 0, then the jump", on(play{start: at45, first: true}), false, false, []tick{{.01, 0, 0}, {.4, 1, 45 * 90000}, {.44, 2, 45*90000 + 3600}}, 45.04},
		{"scale 2: ticks at wall speed", on(play{start: at45, scale: 2, speed: 1}), false, false, []tick{{0, 0, 0}, {1, 1, 90000}}, 47},
		{"speed 2 compressed", on(play{scale: 2, speed: 2}), false, false, []tick{{0, 0, 0}, {.5, 1, 45000}, {1.1, 2, 99000}}, 2.2},
		{"speed 2 as the RFC has it", on(play{scale: 2, speed: 2}), false, false, []tick{{0, 0, 0}, {.5, 1, 90000}, {1.1, 2, 198000}}, 2.2},
		{"ahead of time, one packet in many seen", on(play{start: at45, first: true}), false, false, []tick{{.01, 0, 0}, {.02, 1500, 60 * 90000}, {.3, 2500, 100 * 90000}}, 145},
		{"ahead of time, an older one seen later", on(play{start: at45, first: true}), false, false, []tick{{.01, 0, 0}, {.02, 1500, 60 * 90000}, {.05, 1200, 48 * 90000}, {.06, 1501, 60*90000 + 3600}}, 105.04},
		{"stale picture of npt 0 of a fast server", on(play{start: at45, first: true}), false, false, []tick{{.01, 0, 0}, {.3, 300, 45 * 90000}}, 45},
		{"ahead of time before the first one seen", on(play{start: at45, first: true}), false, false, []tick{{.02, 1500, 60 * 90000}, {.06, 1501, 60*90000 + 3600}}, 105.04},
		{"the promised number never comes", on(play{start: at45}), false, false, []tick{{2.5, -5, -18000}, {2.54, -4, -14400}}, 44.84},
		{"a little before what was promised", on(play{start: at45, first: true}), false, false, []tick{{.02, 0, -27000}, {.06, 1, -23400}}, 44.74},
		{"too long before what was promised", on(play{start: at45, first: true}), false, false, []tick{{.02, 0, -72000}, {.06, 1, -68400}}, 45.04},
		{"backwards", on(play{start: at45, scale: -1, speed: 1}), false, false, []tick{{0, 0, 0}, {1, 1, 90000}, {2, 2, 180000}}, 43},
		{"a hole in the film", on(play{}), false, false, []tick{{0, 0, 0}, {.04, 1, 3600}, {.08, 2, 3*90000 + 3600}}, 3.04},
		{"another time base, near", on(play{}), false, false, []tick{{0, 0, 0}, {.04, 1, 3600}, {.08, 2, 20*90000 + 3600}, {.12, 3, 20*90000 + 7200}}, .12},
		{"another time base", on(play{}), false, false, []tick{{0, 0, 0}, {.04, 1, 3600}, {.08, 2, 1_000_003_600}, {.12, 3, 1_000_007_200}}, .12},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r reading
			r.begin()
			r.rt0, r.haveRT = rt0, !c.noRT
			r.seq0, r.haveSeq = 0, !c.noSeq
			for _, p := range c.packets {
				r.packet(c.play, session.Seq(0).Add(p.seq), rt0.Add(p.ticks), 90000, reply.Add(time.Duration(p.at*1e9)))
			}
			if got := r.last.Seconds(); math.Abs(got-c.want) > 0.001 {
				t.Errorf("npt %.3f, want %.3f", got, c.want)
			}
		})
	}
}

// TestReadingError: what a reading says of its own error.
func TestReadingError(t *testing.T) {
	at := time.Unix(1000, 0)
	for _, c := range []struct {
		name string
		noRT bool
		play play
		tick tick // behind a first packet of 0 s
		want time.Duration
	}{
		{"promised and kept", false, play{}, tick{.04, 1, 3600}, 100 * time.Millisecond},
		{"nothing promised", true, play{}, tick{.04, 1, 3600}, 200 * time.Millisecond},
		{"promised to whole seconds", false, play{vague: time.Second}, tick{.04, 1, 3600}, time.Second},
		{"faster than real time", false, play{}, tick{.04, 100, 15 * 90000}, 500 * time.Millisecond},
		{"another time base", false, play{}, tick{.04, 1, 1 << 30}, 200 * time.Millisecond},
	} {
		var r reading
		r.begin()
		r.haveRT, r.haveSeq = !c.noRT, !c.noRT
		c.play.known, c.play.scale, c.play.speed, c.play.at = true, 1, 1, at
		for _, p := range []tick{{}, c.tick} {
			r.packet(c.play, session.Seq(0).Add(p.seq), session.RTPTime(0).Add(p.ticks), 90000, at.Add(time.Duration(p.at*1e9)))
		}
		if r.err != c.want {
			t.Errorf("%s: ± %v, want %v", c.name, r.err, c.want)
		}
	}
}

// TestReadingFromBefore: an anchor from before a restart holds if the first packet fits it.
func TestReadingFromBefore(t *testing.T) {
	at := time.Unix(1000, 0)
	p := play{known: true, scale: 1, speed: 1, at: at}
	for _, c := range []struct {
		name  string
		ticks int64 // a minute later
		fits  bool
	}{
		{"goes on", 60 * 90000, true}, {"was paused", 40 * 90000, false}, {"another time base", 1 << 30, false},
	} {
		var r reading
		r.begin()
		r.packet(p, 0, 0, 90000, at)
		r.doubted = true
		r.packet(p, 1, session.RTPTime(0).Add(c.ticks), 90000, at.Add(time.Minute))
		if r.set != c.fits || c.fits && r.last.Seconds() != 60 {
			t.Errorf("%s: holds %v, at %.1f", c.name, r.set, r.last.Seconds())
		}
	}
}

// TestReadingOverWraps follows a film for 40 hours: three wraps of the 90 kHz clock.
func TestReadingOverWraps(t *testing.T) {
	var r reading
	r.begin()
	p := play{known: true, scale: 1, speed: 1, at: time.Unix(0, 0)}
	r.haveRT = true
	for s := range 40 * 3600 {
		r.packet(p, session.Seq(s), session.RTPTime(uint32(s*90000)), 90000, p.at.Add(time.Duration(s)*time.Second))
	}
	if got := r.last.Seconds(); got != 40*3600-1 {
		t.Errorf("npt %.3f after 40 hours", got)
	}
}

func TestReceptionCountsLossAndJitter(t *testing.T) {
	var r reception
	at := time.Unix(1, 0)
	for i, s := range []session.Seq{65533, 65534, 0, 0, 2, 1} { // 65535 lost, 0 twice, 1 late
		r.packet(s, session.RTPTime(i*3600), 90000, at.Add(time.Duration(i)*40*time.Millisecond))
	}
	if r.lost() != 0 || r.packets != 6 { // one lost, one twice (RFC 3550 §6.4.1)
		t.Errorf("lost %d of %d", r.lost(), r.packets)
	}
	if r.jitter > 1 {
		t.Errorf("jitter %.1f ticks of an even stream", r.jitter)
	}
}
