package peers

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// sampleEvery is how often a screen is looked at: four times per picture.
const sampleEvery = 10 * time.Millisecond

// screen is an X server of our own, without hardware, whose picture is a file.
//
// It runs outside the players' namespaces: they reach it by the socket below /tmp/.X11-unix,
// which libxcb tries after the abstract one (abstract names belong to a network namespace).
type screen struct {
	proc    *Process
	dir     string
	display string
	file    *os.File
	pixels  int64 // offset of the first row
	stride  int
	stop    chan struct{}
	stopped chan struct{}
}

// startScreen starts an X server and calls show, from one goroutine, for each picture of a
// film that it sees.
func startScreen(show func(at time.Time, n int)) (*screen, error) {
	dir, err := os.MkdirTemp("", "peers-screen-")
	if err != nil {
		return nil, err
	}
	s := &screen{dir: dir, stop: make(chan struct{}), stopped: make(chan struct{})}
	if err := s.open(); err != nil {
		close(s.stopped)
		s.close()
		return nil, fmt.Errorf("screen: %w", err)
	}
	go s.watch(show)
	return s, nil
}

func (s *screen) open() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		w.Close()
		return err
	}
	defer log.Close()
	// -displayfd 3: it takes a free display and tells which.
	cmd := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", fmt.Sprintf("%dx%dx24", Width, Height),
		"-ac", "-nolisten", "tcp", "-fbdir", s.dir)
	cmd.ExtraFiles, cmd.Stderr = []*os.File{w}, log
	s.proc, err = StartProcess(cmd)
	w.Close()
	if err != nil {
		return err
	}
	if err := r.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	number, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		return fmt.Errorf("no display: %w%s", err, tail(log.Name()))
	}
	s.display = ":" + strings.TrimSpace(number)
	return s.openFile()
}

// openFile finds the pixels in Xvfb's file, which is in X Window Dump form, version 7
// (XWDFile.h: 25 big-endian words, a name up to header_size, 12 bytes per colour).
func (s *screen) openFile() error {
	var err error
	if s.file, err = os.Open(filepath.Join(s.dir, "Xvfb_screen0")); err != nil {
		return err
	}
	var h [25]uint32
	if err := binary.Read(io.NewSectionReader(s.file, 0, 100), binary.BigEndian, &h); err != nil {
		return err
	}
	version, width, height, bits := h[1], h[4], h[5], h[11]
	if version != 7 || width != Width || height != Height || bits != 32 {
		return fmt.Errorf("unexpected screen: version %d, %dx%d, %d bits", version, width, height, bits)
	}
	s.stride, s.pixels = int(h[12]), int64(h[0])+12*int64(h[19])
	return nil
}

// watch looks at the screen until close.
func (s *screen) watch(show func(at time.Time, n int)) {
	hurry()
	defer close(s.stopped)
	rows := make([]byte, 2*cellBand*s.stride)
	at := func(x, y int) byte { return rows[y*s.stride+4*x+1] } // green of blue, green, red, unused
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		now := time.Now()
		if _, err := s.file.ReadAt(rows, s.pixels); err != nil {
			return
		}
		if n, ok := FramePos(at); ok {
			show(now, n)
		}
	}
}

// environ makes a program show its pictures here.
func (s *screen) environ() []string {
	return []string{"DISPLAY=" + s.display}
}

// key presses a key as the user of the program that fills the screen would.
func (s *screen) key(name string) error {
	cmd := exec.Command("xdotool", "key", name)
	cmd.Env = append(os.Environ(), s.environ()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("xdotool: %w: %s", err, out)
	}
	return nil
}

func (s *screen) close() {
	close(s.stop)
	<-s.stopped
	if s.proc != nil {
		s.proc.Stop(2 * time.Second) // on SIGTERM it removes its lock and its socket
	}
	if s.file != nil {
		s.file.Close()
	}
	_ = os.RemoveAll(s.dir)
}
