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

// keepState writes the sessions now and then, and when ctx ends. That they cannot be written is
// told once, and no reason to end.
func keepState(ctx context.Context, dir string, live *tracer.Live, log *slog.Logger) {
	var last []byte
	told := false
	for over := false; !over; {
		began := time.Now()
		var err error
		over = ctx.Err() != nil
		if last, err = saveState(dir, live, last); err != nil && !told {
			log.Warn("sessions cannot be stored for a restart", "err", err)
		}
		told = err != nil
		select {
		case <-ctx.Done():
		case <-time.After(max(stateEvery, stateShare*time.Since(began))):
		}
	}
}

// saveState writes the sessions unless they are as last; it returns what is in the file now.
func saveState(dir string, live *tracer.Live, last []byte) ([]byte, error) {
	text, err := live.Snapshot()
	if err != nil || bytes.Equal(text, last) {
		return last, err
	}
	if err := replaceFile(filepath.Join(dir, stateName), text); err != nil {
		return last, err
	}
	return text, nil
}

// replaceFile puts text at name, readable by its owner only. Whatever ends this process or the host,
// name holds either the old text or the new one, whole.
func replaceFile(name string, text []byte) error {
	fresh := name + ".new" // one that a crash left is overwritten
	err := writeThrough(fresh, text)
	if err == nil {
		err = os.Rename(fresh, name)
	}
	if err != nil {
		_ = os.Remove(fresh) // it may not have come to be
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// writeThrough writes a file that is on the disk when it returns.
func writeThrough(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}
