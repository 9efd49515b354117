package splice

import (
	"time"

	"scas/bpf"
	"scas/tracer/mms"
)

const (
	stopWait     = 2 * time.Second // for the server's answer to a StopPlaying of ours
	boundaryWait = time.Second     // for the end of the packet under way
	fillWait     = 5 * time.Second // for a player to take many empty packets
)

// end: a player is told that the film is over, and its connection is closed; libavformat gets as
// many packets as it waits for before. A watched one whose packets' ends cannot be found out is
// told nothing; its connection is closed as it is. What the players do (docs/mms.md):
//
//	            EndOfStream and FIN             FIN, or RST, alone
//	ffmpeg      reads errors for ever, but      reads errors for ever
//	            ends with its last packet
//	libmms      end of film                     end of film
//	VLC         end of film                     MMST: stands still on its last picture
//	MPlayer     exits                           exits, with a read error
func (mmst) end(x *ender, r *relay) {
	t, ok := x.talk(r).(*mmstTalk)
	switch {
	case ok:
	case x.endOfStream():
		x.flowClosed()
		return
	default:
		x.closeFlow()
		return
	}
	said := t.now()
	select {
	case <-t.stopped: // of a StopPlaying of the player
	default:
	}
	told := make(chan struct{})
	r.down.do(func() { t.server.endMedia(said.incarnation, x.fill(mostFill), told) })
	x.s.count.stops.Add(1)
	x.viewerSays(t, &mms.StopPlaying{OpenFileID: said.openFile, PlayIncarnation: said.incarnation})
	if !x.await(r, t.stopped, stopWait) {
		x.s.count.stopsFailed.Add(1)
	}
	if !t.now().closed {
		x.await(r, x.viewerSays(t, &mms.CloseFile{PlayIncarnation: 1, OpenFileID: said.openFile}), boundaryWait)
	}
	if x.fill(mostFill) > 0 {
		x.await(r, told, fillWait)
	}
	x.await(r, told, boundaryWait)
	x.finish(r)
}

// viewerSays sends the server a message in the viewer's name; the channel is closed when it has
// gone on.
func (x *ender) viewerSays(t *mmstTalk, body mms.Body) <-chan struct{} {
	done := make(chan struct{})
	t.r.up.do(func() {
		_ = t.up.put(func() []byte {
			return mms.Append(nil, mms.Stamp{Seq: t.viewer.serial.own()}, body)
		}, done) // no answer tells the same
	})
	return done
}

// end: a steered player reads the end of the stream before its connection is closed; a watched
// one just sees the body of the reply end. The server gets a FIN, or a RST: that is how a viewer
// of MMSH leaves.
func (mmsh) end(x *ender, r *relay) {
	defer func() { x.s.t.Moved(x.id, x.d.Control, x.s.now()) }() // it would be thought to seek
	t, ok := x.talk(r).(*mmshTalk)
	if !ok {
		x.closeFlow()
		return
	}
	told := make(chan struct{})
	r.down.do(func() {
		if !t.server.endMedia(told) {
			close(told)
		}
	})
	x.await(r, told, boundaryWait)
	r.finish(finWait)
	x.wait(finWait, func() bool { return isDone(r.gone) || r.ended[bpf.ToServer].Load() })
	if r.ended[bpf.ToServer].Load() {
		r.abort() // servers go on sending behind a FIN
	}
	x.wait(finWait, func() bool { return isDone(r.gone) })
}

// talk returns what is spoken on the relay of the control connection, nil when there is none.
func (x *ender) talk(r *relay) talk {
	if r == nil {
		return nil
	}
	return r.spoken()
}

// await waits until something comes on a channel. It is false when that did not come within d,
// or cannot any more. r may be nil.
func (x *ender) await(r *relay, c <-chan struct{}, d time.Duration) bool {
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-c:
		return true
	case <-late.C:
	case <-gone(r):
	case <-x.ctx.Done():
	}
	return false
}

// gone returns what tells the end of a relay; without one nothing does.
func gone(r *relay) <-chan struct{} {
	if r == nil {
		return nil
	}
	return r.gone
}
