package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// open connects, sets all tracks up and starts to play. The old link, if any, must be closed.
func (p *Player) open(ctx context.Context, tcp bool) error {
	k, err := p.dial(ctx, tcp)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.link = k
	p.mu.Unlock()
	if err = k.describe(ctx); err == nil {
		for i := range k.tracks {
			if err = k.setup(ctx, i); err != nil {
				break
			}
		}
	}
	if err == nil {
		start := p.cfg.Start
		err = p.play(ctx, k, &start, true)
	}
	if err != nil {
		k.close()
	}
	return err
}

// play sends PLAY, with a Range when start is given, and files the reply.
func (p *Player) play(ctx context.Context, k *link, start *time.Duration, first bool) error {
	k.punch()
	var head []field
	if start != nil && !(first && p.cfg.NoRange) {
		text := string(k.unit) + "=" + formatTime(k.unit, *start, p.cfg.Decimals) + "-"
		if p.cfg.SDPRange {
			text += k.end
		}
		head = append(head, field{"Range", text})
	} else if start != nil {
		start = nil
	}
	p.mu.Lock()
	p.book.hold()
	p.mu.Unlock()
	m, err := k.do(ctx, "PLAY", k.base, head...)
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.changed()
	if err != nil {
		p.book.release(nil)
		return err
	}
	p.book.resume(now)
	if start == nil && !first {
		p.book.release(nil)
	} else {
		p.book.release(k.startInfo(start, m))
	}
	if p.res.State == PlayerPaused {
		p.res.State = PlayerPlaying
	}
	return nil
}

// startInfo reads what the reply to PLAY says about the start.
func (k *link) startInfo(asked *time.Duration, m *message) *startInfo {
	info := &startInfo{asked: asked}
	if r, err := parseRange(m.get("Range")); err == nil && r.given {
		info.replied = &r.start
	}
	for entry := range strings.SplitSeq(m.get("RTP-Info"), ",") {
		var e rtpInfo
		url := ""
		for part := range strings.SplitSeq(entry, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			switch n, err := strconv.ParseUint(value, 10, 32); {
			case name == "url":
				url = value
			case err != nil:
			case name == "seq":
				e.seq, e.haveSeq = uint16(n), true
			case name == "rtptime":
				e.rtptime, e.haveTS = uint32(n), true
			}
		}
		for _, t := range k.tracks {
			if url != "" && (t.control == url || strings.HasSuffix(t.control, "/"+url)) {
				info.info[t.id] = e
			}
		}
	}
	return info
}

// command runs fn with the link while the player plays.
func (p *Player) command(fn func(k *link) error) error {
	p.cmd.Lock()
	defer p.cmd.Unlock()
	switch p.State() {
	case PlayerPlaying, PlayerPaused:
		return fn(p.current())
	}
	return ErrEnded
}

// Pause sends PAUSE and stops the screen.
func (p *Player) Pause(ctx context.Context) error {
	return p.command(func(k *link) error { return p.pause(ctx, k) })
}

func (p *Player) pause(ctx context.Context, k *link) error {
	if _, err := k.do(ctx, "PAUSE", k.base); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.changed()
	p.book.pause(time.Now())
	if p.res.State == PlayerPlaying {
		p.res.State = PlayerPaused
	}
	return nil
}

// PauseLocal stops the screen and says nothing to the server, as mpv and mplayer pause. Over
// TCP with ReadAhead the player soon stops reading.
func (p *Player) PauseLocal() error { return p.local(PlayerPaused, (*book).pause) }

// ResumeLocal ends a PauseLocal.
func (p *Player) ResumeLocal() error { return p.local(PlayerPlaying, (*book).resume) }

func (p *Player) local(s PlayerState, change func(*book, time.Time)) error {
	return p.command(func(*link) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		change(&p.book, time.Now())
		p.res.State = s
		p.changed()
		return nil
	})
}

// Resume sends PLAY without Range.
func (p *Player) Resume(ctx context.Context) error {
	return p.command(func(k *link) error { return p.play(ctx, k, nil, false) })
}

// Seek sends PAUSE and PLAY from npt, as all players do. A new segment of the result begins.
func (p *Player) Seek(ctx context.Context, npt time.Duration) error {
	return p.command(func(k *link) error {
		if p.State() == PlayerPlaying {
			if err := p.pause(ctx, k); err != nil {
				return err
			}
		}
		return p.play(ctx, k, &npt, false)
	})
}

// run waits for what ends the film and does what is to be done meanwhile.
func (p *Player) run(ctx context.Context) {
	defer close(p.done)
	keep := time.NewTicker(p.keepAlive())
	defer keep.Stop()
	watch := time.NewTicker(100 * time.Millisecond) // fallback and silence are counted in seconds
	defer watch.Stop()
	reports := make(<-chan time.Time)
	if p.cfg.Reports > 0 {
		t := time.NewTicker(p.cfg.Reports)
		defer t.Stop()
		reports = t.C
	}
	began := time.Now()
	for {
		k := p.current()
		select {
		case <-ctx.Done():
			p.userQuits(k)
			return
		case <-p.quit:
			p.userQuits(k)
			return
		case <-k.bye:
			p.end(ctx, k, p.cfg.OnBYE, EndedBYE, nil)
			return
		case err := <-k.down:
			k.down <- err
			p.lost(ctx, k, err)
			return
		case <-keep.C:
			_, _, _ = k.start("GET_PARAMETER", k.base)
		case now := <-reports:
			k.report(now)
		case now := <-watch.C:
			quiet, never := p.quietFor(now, began)
			switch {
			case never && !k.tcp && p.cfg.FallbackTCP > 0 && quiet > p.cfg.FallbackTCP:
				if !p.fallBack(ctx, k) {
					return
				}
				keep.Reset(p.keepAlive())
			case p.cfg.Silence > 0 && quiet > p.cfg.Silence:
				p.end(ctx, k, EndTeardown, EndedSilence, nil)
				return
			}
		}
	}
}

// keepAlive returns the time between keep-alives.
func (p *Player) keepAlive() time.Duration {
	t := p.current().timeout
	if less := p.cfg.KeepAliveLess; less > 0 && less < t {
		return t - less
	}
	return t / 2
}

// quietFor returns for how long no media came, and whether none ever did. In a pause none is
// expected.
func (p *Player) quietFor(now, began time.Time) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.book.lastSeen
	if p.res.State == PlayerPaused {
		return 0, last.IsZero()
	}
	if last.IsZero() {
		return now.Sub(began), true
	}
	return now.Sub(last), false
}

// fallBack gives UDP up and plays the film again over TCP.
func (p *Player) fallBack(ctx context.Context, k *link) bool {
	p.cmd.Lock()
	defer p.cmd.Unlock()
	_, _ = k.do(ctx, "TEARDOWN", k.base)
	k.close()
	p.mu.Lock()
	p.res.FellBack = true
	p.mu.Unlock()
	if err := p.open(ctx, true); err != nil {
		p.finish(func(r *Result) { r.Reason, r.Err = EndedBroken, err })
		return false
	}
	return true
}

// lost ends the film after the control connection ended.
func (p *Player) lost(ctx context.Context, k *link, err error) {
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		p.end(ctx, k, p.cfg.OnRST, EndedRST, err)
	case errors.Is(err, errGrammar), errors.Is(err, errTooLong):
		p.end(ctx, k, EndError, EndedBroken, err)
	case k.tcp:
		p.end(ctx, k, p.cfg.OnFINTCP, EndedFIN, err)
	default:
		p.end(ctx, k, p.cfg.OnFIN, EndedFIN, err)
	}
}

// end does what the player does when its film is over.
func (p *Player) end(ctx context.Context, k *link, how Ending, why EndReason, cause error) {
	if how == EndError {
		k.close()
		p.finish(func(r *Result) { r.Reason, r.Err = why, fmt.Errorf("connection: %w", cause) })
		return
	}
	p.setState(PlayerDraining)
	if how != EndAtOnce && !p.drain(ctx) {
		p.userQuits(k)
		return
	}
	last, _ := p.Shown(time.Now())
	if how == EndFreeze {
		p.mu.Lock()
		p.res.Frozen, p.res.Reason, p.res.LastShown = true, why, last
		p.mu.Unlock()
		p.setState(PlayerFrozen)
		select {
		case <-p.quit:
		case <-ctx.Done():
		}
		p.closeBySelf(k)
		p.finish(func(*Result) {})
		return
	}
	if how == EndTeardown || how == EndAtOnce {
		p.teardown(k)
	}
	k.close()
	p.finish(func(r *Result) { r.Reason, r.Clean, r.LastShown = why, true, last })
}

// drain waits until what was received is shown; false when the user quits before.
func (p *Player) drain(ctx context.Context) bool {
	// The last pictures may be read after the BYE that was sent behind them: it has a port of its own.
	const behind = 200 * time.Millisecond
	var most time.Time
	for {
		p.mu.Lock()
		until := p.book.drained()
		p.mu.Unlock()
		if most.IsZero() {
			most = until.Add(behind)
		}
		if until.After(most) {
			until = most
		}
		left := time.Until(until)
		if left <= 0 {
			return true
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
			continue
		case <-p.quit:
		case <-ctx.Done():
		}
		timer.Stop()
		return false
	}
}

// userQuits ends the player as its user does.
func (p *Player) userQuits(k *link) {
	last, _ := p.Shown(time.Now())
	p.closeBySelf(k)
	p.finish(func(r *Result) { r.Reason, r.LastShown = EndedQuit, last })
}

func (p *Player) closeBySelf(k *link) {
	if !p.cfg.QuitSilently {
		p.teardown(k)
	}
	k.close()
}

// byeTimeout bounds the goodbye of a player to a server that may be gone.
const byeTimeout = 3 * time.Second

// teardown says goodbye; a connection that is half open carries it too.
func (p *Player) teardown(k *link) {
	ctx, cancel := context.WithTimeout(context.Background(), byeTimeout)
	defer cancel()
	p.cmd.Lock()
	defer p.cmd.Unlock()
	if p.cfg.PauseFirst && p.State() != PlayerPaused {
		_, _ = k.do(ctx, "PAUSE", k.base)
	}
	m, err := k.do(ctx, "TEARDOWN", k.base)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Teardown = !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.EPIPE)
	if m != nil {
		p.res.TeardownStatus = m.status()
	}
}

func (p *Player) setState(s PlayerState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.State = s
	p.changed()
}

// finish ends the books.
func (p *Player) finish(fill func(*Result)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fill(&p.res)
	p.res.State = PlayerEnded
	p.changed()
}
