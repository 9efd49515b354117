package peers

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed mms_player.c
var mmsPlayerSource string

// LibmmsState is what libmms knows, and what it has read.
type LibmmsState struct {
	Seconds    float64 // length, with the preroll
	Bytes      int64   // length
	PacketSize int
	Seekable   bool
	HeaderSize int

	Packets  int       // read so far
	Position int64     // in the file, behind the newest packet, as libmms says
	Last     time.Time // of the newest packet
	Seeks    []string  // what the seeks returned
	Ended    bool      // libmms said that the film has ended
}

// LibmmsProgram returns the program of Libmms, compiled below dir unless it was before. It needs
// gcc and libmms-dev.
func LibmmsProgram(ctx context.Context, dir string) (string, error) {
	sum := sha256.Sum256([]byte(mmsPlayerSource))
	program := filepath.Join(dir, fmt.Sprintf("libmms-%x", sum[:6]))
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	made, err := os.CreateTemp(dir, "making-")
	if err != nil {
		return "", err
	}
	made.Close()
	defer os.Remove(made.Name())
	cmd := exec.CommandContext(ctx, "gcc", "-O1", "-x", "c", "-o", made.Name(), "-", "-lmms")
	cmd.Stdin = strings.NewReader(mmsPlayerSource)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("libmms player (gcc, libmms-dev): %w: %s", err, out)
	}
	if err := os.Rename(made.Name(), program); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return program, nil
}

// libmmsPlayer is the program on libmms, and a decoder behind it.
type libmmsPlayer struct {
	p      *Player
	state  LibmmsState // guarded by p.mu
	header []byte
	decode *decoder
}

func (l *libmmsPlayer) start(ctx context.Context, stdin *os.File) error {
	p := l.p
	program, err := LibmmsProgram(ctx, CacheDir())
	if err != nil {
		return err
	}
	cmd := p.cfg.Start(context.WithoutCancel(ctx), p.cfg.NS, program, append(p.cfg.Args, p.cfg.URL)...)
	cmd.Stdin = stdin
	p.begun = time.Now()
	out, err := launch(cmd, p.cfg.Log, &p.proc)
	if err != nil {
		return err
	}
	go l.follow(out)
	return nil
}

// follow reads the records of mms_player.c.
func (l *libmmsPlayer) follow(out io.ReadCloser) {
	hurry()
	defer l.p.news.end()
	defer close(l.p.over)
	defer out.Close()
	r := bufio.NewReaderSize(out, 1<<16)
	for {
		var head [13]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			break
		}
		data := make([]byte, min(binary.LittleEndian.Uint32(head[1:]), 1<<16))
		if _, err := io.ReadFull(r, data); err != nil {
			break
		}
		l.record(head[0], int64(binary.LittleEndian.Uint64(head[5:])), data)
	}
	l.decode.end()
	<-l.p.proc.done
}

func (l *libmmsPlayer) record(kind byte, pos int64, data []byte) {
	l.p.mu.Lock()
	s := &l.state
	switch kind {
	case 'O':
		seekable := 0
		_, _ = fmt.Sscan(string(data), &s.Seconds, &s.Bytes, &s.PacketSize, &seekable)
		s.Seekable = seekable != 0
	case 'H':
		s.HeaderSize, l.header = len(data), data
	case 'P':
		s.Packets++
		s.Position, s.Last = pos, time.Now()
	case 'S':
		s.Seeks = append(s.Seeks, string(data))
		s.Position = pos
	case 'E':
		s.Ended = true
	}
	l.p.mu.Unlock()
	switch kind {
	case 'S': // what comes now has nothing to do with what came
		l.decode.end()
		l.decode = nil
	case 'P':
		if l.decode == nil {
			l.decode = startDecoder(l.p, l.header)
		}
		l.decode.write(data)
	}
	l.p.news.tell()
}

// decoder is an ffmpeg that is fed with ASF.
type decoder struct {
	proc *Process
	in   *os.File
	done chan struct{}
}

// startDecoder returns a decoder that has its header; nil when ffmpeg cannot be started.
func startDecoder(p *Player, header []byte) *decoder {
	r, w, err := os.Pipe()
	if err != nil {
		return nil
	}
	defer r.Close()
	cmd := exec.Command("ffmpeg", "-hide_banner", "-loglevel", "error", "-fflags", "nobuffer", "-analyzeduration", "0",
		"-probesize", "32", "-f", "asf", "-i", "-", "-map", "0:v:0", "-fps_mode", "passthrough", "-pix_fmt", "gray", "-f", "rawvideo", "-")
	cmd.Stdin = r
	d := &decoder{in: w, done: make(chan struct{})}
	out, err := launch(cmd, "", &d.proc)
	if err != nil {
		w.Close()
		return nil
	}
	go func() {
		defer close(d.done)
		defer out.Close()
		frame := make([]byte, Width*Height)
		at := func(x, y int) byte { return frame[y*Width+x] }
		for {
			if _, err := io.ReadFull(out, frame); err != nil {
				return
			}
			if n, ok := FramePos(at); ok {
				p.note(time.Now(), n)
			}
		}
	}()
	d.write(header)
	return d
}

func (d *decoder) write(b []byte) {
	if d != nil {
		_, _ = d.in.Write(b) // the error of a decoder that ended shows in the pictures
	}
}

// end lets the decoder show what it has and ends it.
func (d *decoder) end() {
	if d == nil {
		return
	}
	d.in.Close()
	<-d.done
	d.proc.Stop(time.Second)
}
