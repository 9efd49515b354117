package lab

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"
)

// Seek goes to npt in the way of the player. A new segment of the result begins.
func (p *MMSPlayer) Seek(ctx context.Context, npt time.Duration) error {
	return p.command(func(*link) error {
		p.mu.Lock()
		w, state := p.wire, p.res.State
		p.mu.Unlock()
		var err error
		if p.http {
			err = p.seekHTTP(ctx, npt)
		} else {
			err = p.seekTCP(ctx, w, npt)
		}
		if err == nil && state == PlayerPaused {
			p.setState(PlayerPlaying)
		}
		return err
	})
}

// Pause stops the screen: with StopPlaying, or by not reading any more.
func (p *MMSPlayer) Pause(ctx context.Context) error {
	if p.http || !p.mms.StopToPause {
		return p.PauseLocal()
	}
	return p.command(func(*link) error {
		p.mu.Lock()
		w, inc := p.wire, p.got.inc
		p.got.waiting = true // packets under way are asked for again
		p.book.pause(time.Now())
		p.res.State = PlayerPaused
		p.changed()
		p.mu.Unlock()
		if err := w.stopPlaying(inc); err != nil {
			return err
		}
		return w.await(ctx, midEndOfStream)
	})
}

// Resume undoes Pause; with StopToPause as VLC does it: StopPlaying again, and StartPlaying with
// the packet after the last one.
func (p *MMSPlayer) Resume(ctx context.Context) error {
	if p.http || !p.mms.StopToPause {
		return p.ResumeLocal()
	}
	return p.command(func(*link) error {
		p.mu.Lock()
		w, next := p.wire, p.got.lastLoc+1
		p.mu.Unlock()
		if err := p.restart(ctx, w, mmsAsk{location: next}, true, p.mms.Seek == MMSSeekBook, nil); err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.book.resume(time.Now())
		p.res.State = PlayerPlaying
		p.changed()
		return nil
	})
}

// run waits for what ends the film.
func (p *MMSPlayer) run(ctx context.Context) {
	defer close(p.done)
	pongs := make(<-chan time.Time)
	if p.mms.PausedPong > 0 && !p.http {
		t := time.NewTicker(p.mms.PausedPong)
		defer t.Stop()
		pongs = t.C
	}
	for {
		select {
		case <-ctx.Done():
			p.userQuits()
			return
		case <-p.quit:
			p.userQuits()
			return
		case <-pongs:
			if p.State() == PlayerPaused {
				_ = p.currentWire().send(midPong, uint32(0), uint32(0))
			}
		case s := <-p.ends:
			if s.wire == p.currentWire() && !p.stopped(ctx, s) {
				return
			}
		}
	}
}

// stopped does what the player does at the end of a stream or of its connection; true: it waits
// on.
func (p *MMSPlayer) stopped(ctx context.Context, s mmsStop) bool {
	how, why := p.mms.OnFIN, EndedFIN
	switch {
	case s.eos:
		how, why = p.mms.OnEOS, EndedEOS
		if p.mms.Counts && p.last() {
			how = EndTeardown
		}
	case errors.Is(s.err, syscall.ECONNRESET):
		why = EndedRST
	case !errors.Is(s.err, io.EOF) && !errors.Is(s.err, io.ErrUnexpectedEOF):
		how, why = EndError, EndedBroken
	}
	p.cmd.Lock() // what was under way is over
	defer p.cmd.Unlock()
	if s.wire != p.currentWire() {
		return true
	}
	if how == EndFreeze {
		return p.freeze(ctx, why)
	}
	if how == EndError {
		s.wire.close()
		p.finish(func(r *Result) { r.Reason, r.Err = why, s.err })
		return false
	}
	if p.State() != PlayerFrozen {
		p.setState(PlayerDraining)
		if how != EndAtOnce && !p.drain(ctx) {
			p.userQuits()
			return false
		}
	}
	last, _ := p.Shown(time.Now())
	if how == EndTeardown && !errors.Is(s.err, syscall.ECONNRESET) {
		p.closeFile(s.wire)
	}
	s.wire.close()
	p.finish(func(r *Result) {
		r.Clean = true
		if r.Reason == "" {
			r.Reason = why
		}
		r.LastShown = last
	})
	return false
}

// freeze shows what the player has and lets it wait.
func (p *MMSPlayer) freeze(ctx context.Context, why EndReason) bool {
	if p.State() == PlayerFrozen {
		return true
	}
	p.setState(PlayerDraining)
	if !p.drain(ctx) {
		p.userQuits()
		return false
	}
	last, _ := p.Shown(time.Now())
	p.mu.Lock()
	p.res.Frozen, p.res.Reason, p.res.LastShown = true, why, last
	p.mu.Unlock()
	p.setState(PlayerFrozen)
	return true
}

// last reports whether the last packet of the film has come.
func (p *MMSPlayer) last() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got.have && uint64(p.got.lastLoc)+1 >= p.film.count()
}

// userQuits ends the player as its user does.
func (p *MMSPlayer) userQuits() {
	last, _ := p.Shown(time.Now())
	w := p.currentWire()
	p.closeFile(w)
	w.close()
	p.finish(func(r *Result) {
		if r.Reason == "" {
			r.Reason = EndedQuit
		}
		r.LastShown = last
	})
}

// closeFile says goodbye, where the player does.
func (p *MMSPlayer) closeFile(w *mmsWire) {
	if p.http || !p.mms.CloseFile {
		return
	}
	_ = w.conn.SetWriteDeadline(time.Now().Add(byeTimeout))
	err := w.send(midCloseFile, uint32(1), uint32(1))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Teardown = err == nil
}
