package peers

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

//go:embed gst_player.py
var gstPlayerScript string

// Kind is a player.
type Kind string

// The players.
const (
	FFplay  Kind = "ffplay"
	MPV     Kind = "mpv"
	MPlayer Kind = "mplayer"
	Gst     Kind = "gst"    // playbin; a picture is "shown" when it leaves the synchronised sink
	FFmpeg  Kind = "ffmpeg" // no screen and no clock: "shown" when decoded
)

// Kinds lists the players.
func Kinds() []Kind { return []Kind{FFplay, MPV, MPlayer, Gst, FFmpeg} }

// The transports a player can be told to use; "" leaves it to the player.
const (
	UDP = "udp"
	TCP = "tcp"
)

// ErrUnsupported is returned for what a player cannot be told from outside.
var ErrUnsupported = errors.New("the player has no such control")

// Programs returns what has to be installed for the player, beside Python for Gst.
func (k Kind) Programs() []string {
	switch k {
	case Gst:
		return nil
	case FFmpeg:
		return []string{"ffmpeg"}
	case FFplay:
		return []string{"ffplay", "Xvfb", "xdotool"}
	default:
		return []string{string(k), "Xvfb"}
	}
}

// Buffer is how long a picture that arrived waits for its turn, from a paced server, in the
// player's steady state. Measured with these packages' Debian 12 versions.
func (k Kind) Buffer() time.Duration {
	switch k {
	case FFplay:
		return 1280 * time.Millisecond
	case MPV:
		return 1120 * time.Millisecond
	case MPlayer:
		return 1200 * time.Millisecond
	case Gst:
		return 2000 * time.Millisecond
	}
	return 0
}

// hasScreen reports whether the player needs an X display.
func (k Kind) hasScreen() bool { return k == FFplay || k == MPV || k == MPlayer }

// hasInput reports whether the player reads commands from stdin.
func (k Kind) hasInput() bool { return k == MPlayer || k == Gst }

// command returns the program, its arguments and what its environment needs besides DISPLAY.
func (k Kind) command(python string, cfg PlayerConfig, dir string) (name string, args, env []string) {
	env = []string{"HOME=" + dir}
	lavf := func(flag string) []string {
		if cfg.Transport == "" {
			return nil
		}
		return []string{flag, cfg.Transport}
	}
	switch k {
	case FFplay:
		args = append([]string{"-hide_banner", "-nostats", "-noborder", "-left", "0", "-top", "0"}, lavf("-rtsp_transport")...)
		env = append(env, "SDL_VIDEODRIVER=x11", "SDL_RENDER_DRIVER=software", "SDL_AUDIODRIVER=dummy")
		return "ffplay", append(append(args, cfg.Args...), cfg.URL), env
	case MPV:
		args = []string{"--no-config", "--quiet", "--no-input-terminal", "--vo=x11", "--ao=null", "--no-border",
			fmt.Sprintf("--geometry=%dx%d+0+0", Width, Height), "--no-osc", "--osd-level=0", "--ytdl=no",
			"--input-ipc-server=" + filepath.Join(dir, "ipc")}
		if cfg.Transport != "" {
			args = append(args, "--rtsp-transport="+cfg.Transport)
		}
		return "mpv", append(append(args, cfg.Args...), cfg.URL), env
	case MPlayer:
		args = []string{"-noconfig", "all", "-nolirc", "-vo", "x11", "-ao", "null", "-geometry", "0:0", "-noborder", "-slave", "-quiet"}
		if cfg.Transport == TCP {
			args = append(args, "-lavfdopts", "o=rtsp_transport=tcp")
		}
		return "mplayer", append(append(args, cfg.Args...), cfg.URL), env
	case Gst:
		return python, append([]string{"-c", gstPlayerScript, cfg.URL, cfg.Transport}, cfg.Args...), env
	}
	args = append([]string{"-hide_banner", "-nostats", "-nostdin"}, lavf("-rtsp_transport")...)
	args = append(append(args, cfg.Args...), "-i", cfg.URL, "-map", "0:v:0", "-fps_mode", "passthrough",
		"-pix_fmt", "gray", "-f", "rawvideo", "-")
	return "ffmpeg", args, env
}

// control is one thing a viewer does.
type control int

const (
	pause control = iota
	resume
	seek
	quit
)

// do carries c out on p; to is the target of a seek.
func (k Kind) do(p *Player, c control, to time.Duration) error {
	seconds := strconv.FormatFloat(to.Seconds(), 'f', 3, 64)
	switch k {
	case FFplay:
		keys := map[control]string{pause: "p", resume: "p", quit: "q"}
		if keys[c] == "" {
			return ErrUnsupported
		}
		return p.screen.key(keys[c])
	case MPV:
		commands := map[control][]any{
			pause: {"set_property", "pause", true}, resume: {"set_property", "pause", false},
			seek: {"seek", to.Seconds(), "absolute"}, quit: {"quit"},
		}
		return mpvCommand(filepath.Join(p.dir, "ipc"), commands[c])
	case MPlayer:
		return p.input(map[control]string{pause: "pause", resume: "pause", seek: "seek " + seconds + " 2", quit: "quit"}[c])
	case Gst:
		return p.input(map[control]string{pause: "pause", resume: "resume", seek: "seek " + seconds, quit: "quit"}[c])
	}
	if c != quit {
		return ErrUnsupported
	}
	p.proc.signal(syscall.SIGINT)
	return nil
}

// mpvCommand speaks mpv's JSON IPC (mpv(1), JSON IPC).
func mpvCommand(socket string, command []any) error {
	c, err := net.DialTimeout("unix", socket, 2*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if err := json.NewEncoder(c).Encode(map[string]any{"command": command, "request_id": 1}); err != nil {
		return err
	}
	replies := json.NewDecoder(c)
	for {
		var r struct {
			Error     string `json:"error"`
			RequestID int    `json:"request_id"`
		}
		switch err := replies.Decode(&r); {
		case errors.Is(err, io.EOF) && command[0] == "quit":
			return nil // it left without a word
		case err != nil:
			return fmt.Errorf("mpv: %w", err)
		case r.RequestID != 1 || r.Error == "":
			continue // an event
		case r.Error != "success":
			return fmt.Errorf("mpv: %v: %s", command, r.Error)
		}
		return nil
	}
}
