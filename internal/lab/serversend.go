package lab

import (
	"context"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// begin starts a stream from where the session stands. op is held.
func (x *serverSession) begin() {
	if x.ctx.Err() != nil || x.stream != nil {
		return
	}
	ctx, cancel := context.WithCancel(x.ctx)
	s := &stream{cancel: cancel, done: make(chan struct{})}
	x.stream = s
	x.mu.Lock()
	x.stats.Playing = true
	x.mu.Unlock()
	x.srv.wg.Go(func() {
		defer close(s.done)
		defer cancel()
		w := sender{x: x, cfg: x.srv.cfg, ctx: ctx, begin: time.Now()}
		if w.run() {
			x.srv.log.add(x.event(ServerEnd))
		}
		x.mu.Lock()
		x.stats.Playing = false
		x.mu.Unlock()
	})
}

// sender sends the media of one PLAY; all of it runs in one goroutine.
type sender struct {
	x     *serverSession
	cfg   ServerConfig
	ctx   context.Context
	begin time.Time // wall clock of x.start
	buf   []byte
	body  []byte
}

// run returns true when the film came to its end, false when it was stopped.
func (w *sender) run() bool {
	report := w.begin.Add(w.cfg.ReportEvery / 2)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		t, npt := w.nextUnit()
		if t == nil {
			// The last unit has its time too.
			if !w.cfg.Burst && !w.wait(timer, w.begin.Add(w.x.end-w.x.start)) {
				return false
			}
			w.finish()
			return true
		}
		due := w.begin.Add(npt - w.x.start)
		if !w.cfg.Burst {
			for report.Before(due) {
				if !w.wait(timer, report) {
					return false
				}
				w.reports(nil)
				report = report.Add(w.cfg.ReportEvery)
			}
			if !w.wait(timer, due) {
				return false
			}
		} else if now := time.Now(); now.After(report) {
			w.reports(nil)
			report = now.Add(w.cfg.ReportEvery)
		}
		if !w.unit(t, npt) {
			return false
		}
		w.x.pos = w.cfg.npt(VideoTrack, w.videoNext(npt))
	}
}

// videoNext returns the next picture; without a video track the one at the sound's time.
func (w *sender) videoNext(npt time.Duration) uint32 {
	if v := w.x.tracks[VideoTrack]; v != nil {
		return v.next
	}
	return w.cfg.firstAt(VideoTrack, npt)
}

// nextUnit returns the track whose turn it is, nil at the end.
func (w *sender) nextUnit() (*serverTrack, time.Duration) {
	var first *serverTrack
	var at time.Duration
	for _, t := range w.x.tracks {
		if t == nil {
			continue
		}
		npt := w.cfg.npt(t.id, t.next)
		if (npt < w.x.end || w.cfg.Live) && (first == nil || npt < at) {
			first, at = t, npt
		}
	}
	return first, at
}

// wait returns at the wall clock time at, false when the stream is stopped before.
func (w *sender) wait(timer *time.Timer, at time.Time) bool {
	d := time.Until(at)
	if d <= 0 {
		return w.ctx.Err() == nil
	}
	timer.Reset(d)
	select {
	case <-timer.C:
		return true
	case <-w.ctx.Done():
		return false
	}
}

// unit sends the packets of one picture or sound frame; false: the stream is over.
func (w *sender) unit(t *serverTrack, npt time.Duration) bool {
	frags := w.cfg.fragments(t.id, t.next)
	for i := range frags {
		if w.ctx.Err() != nil {
			return false
		}
		w.body = w.cfg.appendPayload(w.body[:0], t.id, t.next, i)
		h := rtp.Header{
			Version: 2, Marker: i == frags-1, PayloadType: videoPT + uint8(t.id),
			SequenceNumber: t.seq, Timestamp: t.rtptime(npt), SSRC: t.ssrc,
		}
		p := rtp.Packet{Header: h, Payload: w.body}
		if n := p.MarshalSize(); cap(w.buf) < n {
			w.buf = make([]byte, n+n/2)
		}
		n, err := p.MarshalTo(w.buf[:cap(w.buf)])
		if err != nil || !w.put(t, w.buf[:n], false) {
			return false
		}
		w.note(t, npt, h, n)
		t.seq++
	}
	t.next++
	return true
}

// put sends one RTP or RTCP packet. A UDP packet that cannot be sent is lost.
func (w *sender) put(t *serverTrack, p []byte, control bool) bool {
	if t.tcp {
		ch := t.channel
		if control {
			ch++
		}
		return w.x.carrier().wire.frame(ch, p, func() bool { return w.ctx.Err() != nil }) == nil
	}
	if w.cfg.MuteUDP {
		return true
	}
	if control {
		_, _ = t.rtcp.WriteToUDPAddrPort(p, t.peer[1])
	} else {
		_, _ = t.rtp.WriteToUDPAddrPort(p, t.peer[0])
	}
	return true
}

// note keeps the books of a packet that was sent.
func (w *sender) note(t *serverTrack, npt time.Duration, h rtp.Header, n int) {
	now := time.Now()
	t.lastTS, t.lastSent = h.Timestamp, now
	t.packets++
	t.octets += uint32(n - 12)
	x := w.x
	x.mu.Lock()
	defer x.mu.Unlock()
	s := &x.stats
	s.Packets++
	s.Bytes += uint64(n)
	s.LastPacket = now
	if t.id == VideoTrack || x.tracks[VideoTrack] == nil {
		s.NPT = npt.Seconds()
	}
	limit := w.cfg.PacketLog
	if limit < 0 {
		return
	}
	if len(s.Log) >= 2*limit {
		s.Log = append(s.Log[:0], s.Log[len(s.Log)-limit:]...)
	}
	s.Log = append(s.Log, SentPacket{now, t.id, h.SequenceNumber, h.Timestamp, t.next, npt})
}

// finish says at the end of the film that it is over.
func (w *sender) finish() {
	if w.cfg.NoBYE {
		return
	}
	w.reports(func(t *serverTrack) rtcp.Packet { return &rtcp.Goodbye{Sources: []uint32{t.ssrc}} })
}

// ntpEpoch is how many seconds before the Unix epoch NTP time starts (RFC 3550 §4).
const ntpEpoch = 2208988800

func ntp(t time.Time) uint64 {
	return uint64(t.Unix()+ntpEpoch)<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}

// reports sends a compound of SR, SDES and what more returns, for each track.
func (w *sender) reports(more func(*serverTrack) rtcp.Packet) {
	now := time.Now()
	for _, t := range w.x.tracks {
		if t == nil || t.packets == 0 {
			continue
		}
		npt := w.x.start + now.Sub(w.begin)
		if w.cfg.Burst {
			npt = w.cfg.npt(t.id, t.next)
		}
		pkts := []rtcp.Packet{
			&rtcp.SenderReport{
				SSRC: t.ssrc, NTPTime: ntp(now), RTPTime: t.rtptime(npt),
				PacketCount: t.packets, OctetCount: t.octets,
			},
			&rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{
				Source: t.ssrc,
				Items:  []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: "lab@" + w.x.id}},
			}}},
		}
		if more != nil {
			pkts = append(pkts, more(t))
		}
		if p, err := rtcp.Marshal(pkts); err == nil {
			w.put(t, p, true)
		}
	}
}
