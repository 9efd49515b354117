package peers

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestFramePos(t *testing.T) {
	buf := make([]byte, Width*Height)
	at := func(x, y int) byte { return buf[y*Width+x] }
	for _, n := range []int{0, 1, 24, 25, 0x5555, 0xaaaa, 4499, 65535} {
		draw(buf, n)
		if got, ok := FramePos(at); !ok || got != n {
			t.Errorf("picture %d: read %d, %v", n, got, ok)
		}
	}
}

func TestFramePosRefuses(t *testing.T) {
	torn := make([]byte, Width*Height)
	draw(torn, 1000)
	upper := make([]byte, Width*Height)
	draw(upper, 1001)
	copy(torn, upper[:cellBand*Width])
	tests := []struct {
		name string
		buf  []byte
	}{
		{"blank", make([]byte, Width*Height)},
		{"torn between the bands", torn},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if n, ok := FramePos(func(x, y int) byte { return tt.buf[y*Width+x] }); ok {
				t.Errorf("read %d", n)
			}
		})
	}
}

// A film is made once, and its pictures, as ffmpeg decodes them, are where NPT says.
func TestMedia(t *testing.T) {
	need(t, "ffmpeg", "ffprobe")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	film, err := Media(ctx, dir, 3)
	if err != nil {
		t.Fatal(err)
	}
	made := stat(t, filepath.Join(film.Dir, film.MP4)).ModTime()
	again, err := Media(ctx, dir, 3)
	if err != nil {
		t.Fatal(err)
	}
	if again != film || !stat(t, filepath.Join(film.Dir, film.MP4)).ModTime().Equal(made) {
		t.Errorf("made twice: %+v, %+v", film, again)
	}
	for _, name := range []string{film.MP4, film.MKV} {
		t.Run(name, func(t *testing.T) { checkFilm(ctx, t, filepath.Join(film.Dir, name), 3*Rate) })
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left in the cache: %v, %v; want one film", left, err)
	}
}

func checkFilm(ctx context.Context, t *testing.T, file string, count int) {
	t.Helper()
	out, err := exec.CommandContext(ctx, "ffmpeg", "-loglevel", "error", "-i", file, "-map", "0:v",
		"-fps_mode", "passthrough", "-pix_fmt", "gray", "-f", "rawvideo", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	if len(out) != count*Width*Height {
		t.Fatalf("%d bytes of pictures, want %d pictures", len(out), count)
	}
	for n := range count {
		p := out[n*Width*Height:]
		if got, ok := FramePos(func(x, y int) byte { return p[y*Width+x] }); !ok || got != n {
			t.Errorf("picture %d: read %d, %v", n, got, ok)
		}
	}
	out, err = exec.CommandContext(ctx, "ffprobe", "-loglevel", "error", "-select_streams", "v",
		"-show_entries", "packet=pts_time,flags", "-of", "csv=p=0", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	for n, line := range strings.Fields(string(out)) {
		at, flags, _ := strings.Cut(line, ",")
		pts, err := strconv.ParseFloat(at, 64)
		if d := pts - NPT(n); err != nil || d < -0.002 || d > 0.002 {
			t.Errorf("picture %d is at %s, want %.3f", n, at, NPT(n))
		}
		if key := strings.HasPrefix(flags, "K"); key != (n%Rate == 0) {
			t.Errorf("picture %d: key picture %v", n, key)
		}
	}
}

func stat(t *testing.T, file string) os.FileInfo {
	t.Helper()
	fi, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return fi
}

// need skips the test when a program is missing; with SCAS_PRIV=1 that is a failure.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			unmet(t, err.Error())
		}
	}
}

func unmet(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("SCAS_PRIV") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}
