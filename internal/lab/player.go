package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Ending is what a player does when something ends its film.
type Ending int

// The ways players end (rtsp-in-the-wild.md §2.3). All but the last two show first what they have.
const (
	EndTeardown Ending = iota // TEARDOWN, exit without error: mpv, GStreamer
	EndExit                   // exit without error and without TEARDOWN
	EndFreeze                 // stay on the last picture until the user quits: ffplay
	EndAtOnce                 // drop the buffer, TEARDOWN, exit without error: VLC
	EndError                  // drop the buffer, exit with an error: GStreamer at a RST
)

// Punch is what a player sends first to open holes for UDP media.
type Punch int

// The kinds of hole punching (rtsp-in-the-wild.md §2.1).
const (
	PunchLavf Punch = iota // an RTP header and an empty RR
	PunchGst               // 200 arbitrary bytes, several times
	PunchVLC               // 4 bytes, twice
	PunchNone
)

// PlayerConfig says how a player behaves. The zero value plus URL is a player on UDP that ends
// like mpv. Presets: MPV, FFplay, Gst, VLC.
type PlayerConfig struct {
	Host      Host   // where it plays
	URL       string // rtsp://address[:port]/..., the address in digits
	TCP       bool   // interleaved
	UserAgent string // default "scas-lab-player"

	Depth     time.Duration // from the first packet to the first picture on the screen, default 1.2 s
	ReadAhead time.Duration // over TCP, stops reading with so much unshown; 0: reads all there is

	Start    time.Duration // of the first PLAY
	NoRange  bool          // no Range in the first PLAY
	SDPRange bool          // the Range names the end of the SDP
	Decimals int           // of seconds, default 3

	FirstCSeq     int           // default 1
	KeepAliveLess time.Duration // keep-alive so much before the timeout; 0: at half of it
	Reports       time.Duration // between receiver reports; 0: only the empty ones of hole punching
	Punch         Punch
	FallbackTCP   time.Duration // without media for so long: TEARDOWN and again over TCP; 0: never
	Silence       time.Duration // without media for so long: TEARDOWN and exit; 0: waits for ever
	Deaf          bool          // closes its UDP ports once they are set up, like a firewall that refuses
	PauseFirst    bool          // PAUSE before TEARDOWN
	QuitSilently  bool          // Quit closes without TEARDOWN

	OnBYE    Ending // every track got its BYE
	OnFIN    Ending // the control connection was closed, media over UDP
	OnFINTCP Ending // the same, interleaved
	OnRST    Ending // the control connection was reset
}

func (c PlayerConfig) withDefaults() PlayerConfig {
	if c.UserAgent == "" {
		c.UserAgent = "scas-lab-player"
	}
	if c.Depth <= 0 {
		c.Depth = 1200 * time.Millisecond
	}
	if c.Decimals <= 0 {
		c.Decimals = 3
	}
	if c.FirstCSeq <= 0 {
		c.FirstCSeq = 1
	}
	return c
}

// PlayerState is what a player does.
type PlayerState string

// The states of a player.
const (
	PlayerPlaying  PlayerState = "playing"
	PlayerPaused   PlayerState = "paused"
	PlayerDraining PlayerState = "draining" // no more media is expected, the buffer is shown
	PlayerFrozen   PlayerState = "frozen"   // on the last picture until Quit
	PlayerEnded    PlayerState = "ended"
)

// EndReason is what ended a film.
type EndReason string

// The reasons a player ends for.
const (
	EndedBYE     EndReason = "bye"
	EndedFIN     EndReason = "fin"
	EndedRST     EndReason = "rst"
	EndedSilence EndReason = "silence"
	EndedQuit    EndReason = "quit"  // Quit, or the end of the context
	EndedBroken  EndReason = "error" // see Err
)

// Result is what came of a player.
type Result struct {
	State    PlayerState
	Reason   EndReason // empty while playing
	Clean    bool      // ended by itself without an error, as a player that exits 0
	Err      error
	Frozen   bool // stood still on its last picture
	FellBack bool // went over to TCP

	Teardown       bool // a TEARDOWN was sent
	TeardownStatus int  // of its reply; 0: none came

	Segments   []Segment
	Packets    uint64 // RTP
	Bytes      uint64
	Lost       int64 // by sequence numbers, over all tracks
	Duplicates int
	Corrupt    int       // packets whose checksum was wrong or that were no media of the server
	Foreign    int       // packets of another SSRC, or from another address than the server's
	LastPacket time.Time // of any track
	LastShown  Picture   // at the end of the drain
}

// Missing counts the pictures missing in all segments.
func (r Result) Missing() int {
	n := 0
	for _, s := range r.Segments {
		n += len(s.Missing)
	}
	return n
}

// Errors a caller may test for.
var (
	ErrEnded = errors.New("the player has ended")
)

// StatusError is a refused request.
type StatusError struct {
	Method string
	Status int
}

func (e *StatusError) Error() string { return fmt.Sprintf("%s: status %d", e.Method, e.Status) }

// Player is a film being played. Safe for concurrent use.
type Player struct {
	cfg  PlayerConfig
	quit chan struct{}
	done chan struct{}
	once sync.Once  // closes quit
	cmd  sync.Mutex // one of Pause, Resume, Seek, or a change of the link at a time

	mu    sync.Mutex // guards the fields below
	link  *link
	book  book
	res   Result
	grown chan struct{} // closed and replaced at each picture and each change of state
}

// Play opens the URL and returns when the server has agreed to play. The error is a
// *StatusError when it refused. The player goes on until the film ends, Quit, or the end of ctx,
// which is as Quit.
func Play(ctx context.Context, cfg PlayerConfig) (*Player, error) {
	cfg = cfg.withDefaults()
	p := &Player{
		cfg: cfg, quit: make(chan struct{}), done: make(chan struct{}),
		book: book{depth: cfg.Depth}, grown: make(chan struct{}),
		res: Result{State: PlayerPlaying},
	}
	err := p.open(ctx, cfg.TCP)
	var refused *StatusError
	if errors.As(err, &refused) && refused.Status == 461 && !cfg.TCP {
		p.res.FellBack = true
		err = p.open(ctx, true)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: play %s: %w", cfg.URL, err)
	}
	go p.run(ctx)
	return p, nil
}

// changed wakes who waits. mu is held.
func (p *Player) changed() {
	close(p.grown)
	p.grown = make(chan struct{})
}

// await returns when ready, which is called with mu held, returns true.
func (p *Player) await(ctx context.Context, ready func() bool) error {
	for {
		p.mu.Lock()
		ok, ended, grown := ready(), p.res.State == PlayerEnded, p.grown
		p.mu.Unlock()
		switch {
		case ok:
			return nil
		case ended:
			return ErrEnded
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// First returns the first picture that was complete.
func (p *Player) First(ctx context.Context) (Picture, error) {
	return p.Await(ctx, func(Picture) bool { return true })
}

// Await returns the first picture received that matches, also one of the past. The error is
// ErrEnded when the player ended without one.
func (p *Player) Await(ctx context.Context, match func(Picture) bool) (Picture, error) {
	var found Picture
	var seen []int // pictures looked at, by segment: a late one may still come to an older segment
	err := p.await(ctx, func() bool {
		for i, s := range p.book.segs {
			if i == len(seen) {
				seen = append(seen, 0)
			}
			for ; seen[i] < len(s.Pictures); seen[i]++ {
				pic := s.Pictures[seen[i]]
				pic.Shown = s.shown(pic, p.book.depth, p.book.until(i))
				if match(pic) {
					found = pic
					return true
				}
			}
		}
		return false
	})
	return found, err
}

// AwaitState returns when the player is in a state, or has ended.
func (p *Player) AwaitState(ctx context.Context, s PlayerState) error {
	return p.await(ctx, func() bool { return p.res.State == s })
}

// Pictures returns the timeline: every complete picture in the order of arrival, with the time
// it was, or will be, shown.
func (p *Player) Pictures() []Picture {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.book.pictures()
}

// Newest returns the picture received last.
func (p *Player) Newest() (Picture, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.book.newest()
}

// Shown returns the picture on the screen at a moment not after now.
func (p *Player) Shown(at time.Time) (Picture, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.book.onScreen(at)
}

// State returns what the player does now.
func (p *Player) State() PlayerState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.res.State
}

// LocalAddr returns the player's end of its control connection, RemoteAddr the server's.
func (p *Player) LocalAddr() netip.AddrPort { return p.current().local }

// RemoteAddr returns the server's end of the control connection.
func (p *Player) RemoteAddr() netip.AddrPort { return p.current().remote }

// Session returns the RTSP session id.
func (p *Player) Session() string { return p.current().session }

func (p *Player) current() *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link
}

// Result returns what came of the player so far.
func (p *Player) Result() Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.res
	r.Segments = p.book.segments()
	r.Packets, r.Bytes, r.LastPacket = p.book.packets, p.book.bytes, p.book.lastSeen
	r.Corrupt, r.Foreign = p.book.corrupt, p.book.foreign
	for i := range p.book.tracks {
		r.Lost += p.book.tracks[i].lost()
		r.Duplicates += p.book.tracks[i].dups
	}
	return r
}

// Quit ends the player as its user does. Wait tells when it is over.
func (p *Player) Quit() { p.once.Do(func() { close(p.quit) }) }

// Done is closed when the player has ended.
func (p *Player) Done() <-chan struct{} { return p.done }

// Wait returns the result once the player has ended. A player that freezes ends only by Quit.
func (p *Player) Wait(ctx context.Context) (Result, error) {
	select {
	case <-p.done:
		return p.Result(), nil
	case <-ctx.Done():
		return p.Result(), fmt.Errorf("lab: player has not ended: %w", ctx.Err())
	}
}

// Gaps returns the pictures that are missing so far, by segment, without those still on their
// way at the end of the newest.
func (p *Player) Gaps() [][]uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out [][]uint32
	for _, s := range p.book.segments() {
		out = append(out, slices.Clone(s.Missing))
	}
	return out
}
