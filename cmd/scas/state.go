package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"scas/tracer"
)

// stateName is the file in state.dir that holds the running sessions for the next start.
const stateName = "sessions.json"

const (
	stateEvery = 2 * time.Second // between two writes, at least
	stateShare = 50              // and at least so many times as long as one write takes
	maxState   = 1 << 30
)

// restoreState reads the sessions that ran when the last daemon ended. A file that cannot be
// read costs those sessions their position until their next PLAY, and is told.
func restoreState(dir string, live *tracer.Live, now time.Time, log *slog.Logger) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("state.dir: %w", err)
	}
	text, err := readFile(filepath.Join(dir, stateName), maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = live.Restore(text, now)
	}
	if err != nil {
		log.Warn("stored sessions cannot be read; running ones are found again by themselves", "err", err)
	}
	return nil
}

// keepState writes the sessions now and then, and when ctx ends.
func keepState(ctx context.Context, dir string, live *tracer.Live, log *slog.Logger) error {
	var last []byte
	told := false
	for {
		began := time.Now()
		text, err := live.Snapshot()
		if err == nil && !bytes.Equal(text, last) {
			err = replaceFile(filepath.Join(dir, stateName), text)
			last = text
		}
		if err != nil && !told {
			log.Warn("sessions cannot be stored for a restart", "err", err)
		}
		told = err != nil
		if ctx.Err() != nil {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(max(stateEvery, stateShare*time.Since(began))):
		}
	}
}

// replaceFile puts text at name, readable by its owner only; name holds either the old text
// or the new one, whole.
func replaceFile(name string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
