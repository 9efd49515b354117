package peers

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ASFFilm is the position-coded film for MMS servers: WMV2 320x180 25 fps, a key picture each
// second, WMA mono, in packets of 1400 bytes. NPT tells where a picture is in it.
type ASFFilm struct {
	Dir      string // holds nothing else: it can be served as a whole
	Duration time.Duration
	Name     string // of the file in Dir
}

// ASFMedia returns a film of the given length, made below dir unless it was made before by the
// same recipe. Several callers and processes may share dir. It needs ffmpeg.
func ASFMedia(ctx context.Context, dir string, seconds int) (ASFFilm, error) {
	if most := 1 << cells / Rate; seconds < 1 || seconds > most {
		return ASFFilm{}, fmt.Errorf("film of %d s: picture numbers allow 1 to %d s", seconds, most)
	}
	encode, remux := asfRecipe(seconds)
	sum := sha256.Sum256([]byte(strings.Join(encode, "\x00") + strings.Join(remux, "\x00") + drawing()))
	film := ASFFilm{
		Dir: filepath.Join(dir, fmt.Sprintf("asf-%x", sum[:6])), Duration: time.Duration(seconds) * time.Second, Name: "pos.asf",
	}
	if _, err := os.Stat(film.Dir); err == nil {
		return film, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return ASFFilm{}, fmt.Errorf("film: %w", err)
	}
	work, err := os.MkdirTemp(dir, "making-")
	if err != nil {
		return ASFFilm{}, fmt.Errorf("film: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := ffmpeg(ctx, work, pictures(seconds*Rate), encode); err != nil {
		return ASFFilm{}, err
	}
	if err := ffmpeg(ctx, work, nil, remux); err != nil {
		return ASFFilm{}, err
	}
	if err := errors.Join(os.Remove(filepath.Join(work, "pos.mkv")), os.Chmod(work, 0o755)); err != nil {
		return ASFFilm{}, fmt.Errorf("film: %w", err)
	}
	// Whoever comes second finds the directory taken, and its content the same.
	if err := os.Rename(work, film.Dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return ASFFilm{}, fmt.Errorf("film: %w", err)
	}
	return film, nil
}

// asfRecipe returns the arguments of the two runs of ffmpeg. The WMA encoder's priming moves the
// pictures by 32 ms; the second run moves them to StartOffset.
func asfRecipe(seconds int) (encode, remux []string) {
	const common = "-hide_banner -loglevel error -y"
	tone := fmt.Sprintf("aevalsrc='0.4*sin(2*PI*(400*t+10*t*t))':s=16000:d=%d", seconds)
	encode = strings.Fields(common)
	encode = append(encode, "-f", "rawvideo", "-pix_fmt", "gray",
		"-s", fmt.Sprintf("%dx%d", Width, Height), "-r", fmt.Sprint(Rate), "-i", "-", "-f", "lavfi", "-i", tone)
	encode = append(encode, strings.Fields("-map 0 -map 1 -c:v wmv2 -b:v 100k -g 25 -sc_threshold 1000000000 "+
		"-pix_fmt yuv420p -c:a wmav2 -b:a 24k -ac 1")...)
	encode = append(encode, "-t", fmt.Sprint(seconds), "pos.mkv")
	remux = strings.Fields(common + " -i pos.mkv -itsoffset 0.032 -i pos.mkv -map 1:v -map 0:a -c copy -packet_size 1400 pos.asf")
	return encode, remux
}
