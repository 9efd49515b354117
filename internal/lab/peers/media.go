package peers

import (
	"context"
	"crypto/sha256"
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

// StartOffset is the media time of picture 0: the first AAC frame (1024 samples at 16 kHz) is
// the encoder's priming and moves the whole film.
const StartOffset = 64 * time.Millisecond

// Film is one position-coded film in two containers: H.264 320x180 25 fps without B-frames,
// one closed group of pictures per second, and AAC mono 16 kHz, whose tone at second t has
// 400 + 20 t Hz.
type Film struct {
	Dir      string // holds nothing else: it can be served as a whole
	Duration time.Duration
	MP4, MKV string // file names in Dir
}

// CacheDir is where films are kept between runs.
func CacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "scas-films")
}

// NPT returns the media time, in seconds, of picture n.
func NPT(n int) float64 { return float64(n)/Rate + StartOffset.Seconds() }

// Media returns a film of the given length, made below dir unless it was made before by the
// same recipe. Several callers and processes may share dir. It needs ffmpeg with libx264.
func Media(ctx context.Context, dir string, seconds int) (Film, error) {
	if most := 1 << cells / Rate; seconds < 1 || seconds > most {
		return Film{}, fmt.Errorf("film of %d s: picture numbers allow 1 to %d s", seconds, most)
	}
	encode, remux := recipe(seconds)
	sum := sha256.Sum256([]byte(strings.Join(encode, "\x00") + strings.Join(remux, "\x00") + drawing()))
	film := Film{
		Dir:      filepath.Join(dir, fmt.Sprintf("film-%x", sum[:6])),
		Duration: time.Duration(seconds) * time.Second,
		MP4:      "pos.mp4",
		MKV:      "pos.mkv",
	}
	if _, err := os.Stat(film.Dir); err == nil {
		return film, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Film{}, fmt.Errorf("film: %w", err)
	}
	work, err := os.MkdirTemp(dir, "making-")
	if err != nil {
		return Film{}, fmt.Errorf("film: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := ffmpeg(ctx, work, pictures(seconds*Rate), encode); err != nil {
		return Film{}, err
	}
	if err := ffmpeg(ctx, work, nil, remux); err != nil {
		return Film{}, err
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return Film{}, fmt.Errorf("film: %w", err)
	}
	// Whoever comes second finds the directory taken, and its content the same.
	if err := os.Rename(work, film.Dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return Film{}, fmt.Errorf("film: %w", err)
	}
	return film, nil
}

// recipe returns the arguments of the two runs of ffmpeg: pictures on stdin to pos.mkv, and
// the same streams to pos.mp4.
func recipe(seconds int) (encode, remux []string) {
	const common = "-hide_banner -loglevel error -y"
	tone := fmt.Sprintf("aevalsrc='0.4*sin(2*PI*(400*t+10*t*t))':s=16000:d=%d", seconds)
	encode = strings.Fields(common)
	encode = append(encode, "-f", "rawvideo", "-pix_fmt", "gray",
		"-s", fmt.Sprintf("%dx%d", Width, Height), "-r", fmt.Sprint(Rate), "-i", "-", "-f", "lavfi", "-i", tone)
	encode = append(encode, strings.Fields("-map 0 -map 1 -c:v libx264 -profile:v main -preset veryfast -crf 33 "+
		"-g 25 -keyint_min 25 -sc_threshold 0 -bf 0 -pix_fmt yuv420p -c:a aac -b:a 24k -ac 1")...)
	encode = append(encode, "-t", fmt.Sprint(seconds), "pos.mkv")
	remux = strings.Fields(common + " -i pos.mkv -map 0 -c copy -movflags +faststart pos.mp4")
	return encode, remux
}

// drawing stands for the code of draw in the hash of the recipe.
func drawing() string {
	buf := make([]byte, Width*Height)
	draw(buf, 0x5a3c)
	return string(buf)
}

// pictures returns a stream of the first count pictures.
func pictures(count int) io.Reader {
	r, w := io.Pipe()
	go func() {
		buf := make([]byte, Width*Height)
		for n := range count {
			draw(buf, n)
			if _, err := w.Write(buf); err != nil {
				return // the reader is gone
			}
		}
		_ = w.Close()
	}()
	return r
}

func ffmpeg(ctx context.Context, dir string, in io.Reader, args []string) error {
	cmd := exec.CommandContext(ctx, "ffmpeg", args...)
	cmd.Dir, cmd.Stdin = dir, in
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if c, ok := in.(io.Closer); ok {
		c.Close() // lets the painter end when ffmpeg did not take all
	}
	if err != nil {
		return fmt.Errorf("film: ffmpeg: %w: %s", err, out)
	}
	return nil
}
