package peers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Players of MMS only.
const (
	VLC    Kind = "vlc"    // a picture is "shown" when it leaves the synchronised video output
	Libmms Kind = "libmms" // a program of ours with the calls of GStreamer's mmssrc; no clock: "shown" when decoded
)

// MMSKinds lists the players of MMS.
func MMSKinds() []Kind { return []Kind{FFmpeg, Libmms, MPlayer, VLC} }

// MMSPrograms returns what has to be installed for a player of MMS, beside libmms-dev for
// Libmms.
func (k Kind) MMSPrograms() []string {
	switch k {
	case VLC:
		return []string{"vlc", "setpriv"}
	case Libmms:
		return []string{"gcc", "ffmpeg"}
	}
	return k.Programs()
}

// nobody is the user VLC runs as when the test runs as root, whom it refuses.
const nobody = 65534

// MMSPlayer is a Player of an mms://, mmst:// or mmsh:// film; all kinds have the same timeline.
// It is safe for concurrent use.
type MMSPlayer struct {
	*Player
	vlc  *vlcPlayer
	libm *libmmsPlayer
}

// StartMMSPlayer starts one of MMSKinds, or FFplay; the scheme of the URL chooses the protocol, mmst
// or mmsh; with mms Libmms tries MMSH first, as GStreamer does, the others MMST. cfg.Transport is
// not used. Close ends it; ctx bounds only the start.
func StartMMSPlayer(ctx context.Context, cfg PlayerConfig) (*MMSPlayer, error) {
	if cfg.Start == nil {
		cfg.Start = Host
	}
	cfg.Transport = ""
	scheme, rest, _ := strings.Cut(cfg.URL, "://")
	switch cfg.Kind {
	case FFmpeg, FFplay:
		if scheme == "mms" {
			cfg.URL = "mmst://" + rest // libavformat has no protocol mms
		}
		if cfg.Kind == FFmpeg {
			cfg.Args = append([]string{"-analyzeduration", "500000"}, cfg.Args...)
		}
	case MPlayer:
		if scheme == "mmsh" {
			cfg.URL = "mmshttp://" + rest
		}
	case VLC, Libmms:
		p := &MMSPlayer{Player: &Player{cfg: cfg, news: newNews(), over: make(chan struct{})}}
		if err := p.start(ctx); err != nil {
			p.release()
			return nil, fmt.Errorf("player %s: %w", cfg.Kind, err)
		}
		return p, nil
	}
	p, err := StartPlayer(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &MMSPlayer{Player: p}, nil
}

// start starts VLC or Libmms.
func (p *MMSPlayer) start(ctx context.Context) error {
	var err error
	if p.dir, err = os.MkdirTemp("", "peers-player-"); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	p.stdin = w
	if p.cfg.Log == "" {
		p.cfg.Log = filepath.Join(p.dir, "log")
	}
	if p.cfg.Kind == VLC {
		p.vlc = &vlcPlayer{p: p.Player}
		return p.vlc.start(ctx, r)
	}
	p.libm = &libmmsPlayer{p: p.Player}
	return p.libm.start(ctx, r)
}

// Pause holds the film. VLC tells the server, the others stop reading.
func (p *MMSPlayer) Pause() error { return p.do("pause", p.Player.Pause) }

// Resume undoes Pause.
func (p *MMSPlayer) Resume() error {
	line := "resume"
	if p.vlc != nil {
		line = "pause"
	}
	return p.do(line, p.Player.Resume)
}

// Seek goes to a media time: VLC to where the file is as far, in whole seconds, Libmms to the
// key picture before it, late by one preroll. ffmpeg and MPlayer cannot.
func (p *MMSPlayer) Seek(to time.Duration) error {
	line := fmt.Sprintf("tseek %.3f", to.Seconds())
	if p.vlc != nil {
		line = fmt.Sprintf("seek %d", int(to.Seconds()))
	}
	return p.do(line, func() error { return ErrUnsupported })
}

// SeekByte makes Libmms seek to a byte of the file, as a demuxer without a time index does.
func (p *MMSPlayer) SeekByte(to int64) error {
	if p.libm == nil {
		return ErrUnsupported
	}
	return p.input(fmt.Sprintf("bseek %d", to))
}

// do tells the programs that read lines; the others are told by other.
func (p *MMSPlayer) do(line string, other func() error) error {
	if p.vlc == nil && p.libm == nil {
		return other()
	}
	return p.input(line)
}

// Quit asks the player to end, as its user would, and kills it when it did not within grace.
func (p *MMSPlayer) Quit(grace time.Duration) (Exit, error) {
	if p.vlc == nil && p.libm == nil {
		return p.Player.Quit(grace)
	}
	p.mu.Lock()
	p.asked = true
	p.mu.Unlock()
	err := p.input("quit")
	if errors.Is(err, syscall.EPIPE) {
		err = nil // it has ended
	}
	if !p.proc.wait(grace) {
		p.mu.Lock()
		p.forced = true
		p.mu.Unlock()
		p.proc.signal(syscall.SIGKILL)
		err = errors.Join(err, fmt.Errorf("%s did not obey", p.cfg.Kind))
	}
	<-p.over
	e, _ := p.Exit()
	return e, err
}

// Clock returns the time of the film VLC says, in whole seconds; other players have no clock, or
// do not say.
func (p *MMSPlayer) Clock(ctx context.Context) (time.Duration, error) {
	if p.vlc == nil {
		return 0, ErrUnsupported
	}
	return p.vlc.clock(ctx)
}

// Libmms returns what Libmms said of the film and has read; ok is false before it was opened.
func (p *MMSPlayer) Libmms() (s LibmmsState, ok bool) {
	if p.libm == nil {
		return LibmmsState{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.libm.state, p.libm.state.PacketSize > 0
}

// vlcPlayer is VLC without a screen: its video output writes each picture to a file when it is
// due.
type vlcPlayer struct {
	p      *Player
	said   *news    // a line came; guards nothing
	answer []string // lines of its remote control; guarded by p.mu
}

func (v *vlcPlayer) start(ctx context.Context, stdin *os.File) error {
	p := v.p
	v.said = newNews()
	fifo := filepath.Join(p.dir, "pictures")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		return err
	}
	args := []string{"vlc", "-I", "oldrc", "--rc-fake-tty", "--no-interact", "--play-and-exit", "--no-osd", "--no-video-title-show",
		"--no-spu", "--aout=adummy", "--vout=yuv", "--yuv-file=" + fifo, "--yuv-chroma=GREY"}
	args = append(append(args, p.cfg.Args...), p.cfg.URL)
	if os.Geteuid() == 0 {
		for _, f := range []string{p.dir, fifo} {
			if err := os.Chown(f, nobody, nobody); err != nil {
				return err
			}
		}
		id := strconv.Itoa(nobody)
		args = append([]string{"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups"}, args...)
	}
	// Open for both, or opening would wait for VLC, and reading would end before it came.
	frames, err := os.OpenFile(fifo, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	cmd := p.cfg.Start(context.WithoutCancel(ctx), p.cfg.NS, args[0], args[1:]...)
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "HOME="+p.dir, "XDG_RUNTIME_DIR="+p.dir, "DBUS_SESSION_BUS_ADDRESS=")
	cmd.Stdin = stdin
	p.begun = time.Now()
	out, err := launch(cmd, p.cfg.Log, &p.proc)
	if err != nil {
		frames.Close()
		return err
	}
	go v.listen(out)
	go v.watch(frames)
	return nil
}

// listen takes the lines of the remote control.
func (v *vlcPlayer) listen(out io.ReadCloser) {
	defer v.said.end()
	defer out.Close()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		v.p.mu.Lock()
		v.answer = append(v.answer, strings.TrimLeft(lines.Text(), "> "))
		v.p.mu.Unlock()
		v.said.tell()
	}
}

// watch takes the pictures: a line with the format, then for each a line and Width*Height bytes.
func (v *vlcPlayer) watch(frames *os.File) {
	hurry()
	p := v.p
	defer p.news.end()
	defer close(p.over)
	defer frames.Close()
	go func() {
		<-p.proc.done
		_ = frames.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // what is left in the pipe
	}()
	r := bufio.NewReaderSize(frames, 1<<16)
	frame := make([]byte, Width*Height)
	at := func(x, y int) byte { return frame[y*Width+x] }
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break
		}
		if !strings.HasPrefix(line, "FRAME") {
			continue
		}
		if _, err := io.ReadFull(r, frame); err != nil {
			break
		}
		if n, ok := FramePos(at); ok {
			p.note(time.Now(), n)
		}
	}
	<-p.proc.done
}

// clock asks for the time and waits for a line that is a number.
func (v *vlcPlayer) clock(ctx context.Context) (time.Duration, error) {
	v.p.mu.Lock()
	seen := len(v.answer)
	v.p.mu.Unlock()
	if err := v.p.input("get_time"); err != nil {
		return 0, err
	}
	var found time.Duration
	err := v.said.wait(ctx, func() bool {
		v.p.mu.Lock()
		defer v.p.mu.Unlock()
		for ; seen < len(v.answer); seen++ {
			if n, err := strconv.Atoi(v.answer[seen]); err == nil {
				found = time.Duration(n) * time.Second
				return true
			}
		}
		return false
	})
	return found, err
}
