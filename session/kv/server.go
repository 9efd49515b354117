package kv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startTimeout is how long the embedded server may take to read its files.
const startTimeout = 30 * time.Second

// embedded is a nats-server in this process, reached without a port.
type embedded struct {
	*server.Server
	lock *os.File
}

// startEmbedded starts a server on the files in dir. Only one process may have them open.
func startEmbedded(ctx context.Context, cfg Config, log *slog.Logger) (*embedded, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	quiet := &serverLog{log: log}
	srv, err := server.NewServer(&server.Options{
		ServerName: token(cfg.Node), DontListen: true, NoSigs: true, NoSystemAccount: true,
		JetStream: true, StoreDir: cfg.Dir, DisableJetStreamBanner: true,
		JetStreamMaxMemory: 16 << 20, JetStreamMaxStore: storeBytes(cfg),
		// Written to the disk after this long at most: what a power cut may cost. What a killed
		// process wrote is in the page cache and stays.
		SyncInterval: 5 * time.Second,
	})
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("store in %s: %w", cfg.Dir, err)
	}
	srv.SetLoggerV2(quiet, false, false, false)
	srv.Start()
	e := &embedded{srv, lock}
	deadline := time.Now().Add(startTimeout)
	for !srv.ReadyForConnections(50 * time.Millisecond) {
		if ctx.Err() == nil && srv.Running() && time.Now().Before(deadline) {
			continue
		}
		err := errors.Join(ctx.Err(), quiet.last())
		e.stop()
		return nil, fmt.Errorf("store in %s does not start: %w", cfg.Dir, err)
	}
	if !srv.JetStreamEnabled() {
		err := quiet.last()
		e.stop()
		return nil, fmt.Errorf("store in %s cannot be opened: %w", cfg.Dir, err)
	}
	return e, nil
}

func (e *embedded) stop() {
	e.Shutdown()
	e.WaitForShutdown()
	e.lock.Close()
}

// lockDir keeps other processes out until the returned file is closed; the server itself
// would let a second one destroy the files.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("store in %s is open in another process: %w", dir, err)
	}
	return f, nil
}

// serverLog passes on what the server warns of.
type serverLog struct {
	log *slog.Logger

	mu   sync.Mutex
	text string // of the newest error
}

// Noticef drops what is no news to an operator.
func (l *serverLog) Noticef(string, ...any) {}

// Debugf drops.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef drops.
func (l *serverLog) Tracef(string, ...any) {}

// Warnf logs.
func (l *serverLog) Warnf(format string, v ...any) {
	l.log.Warn("store server", "text", strings.TrimSpace(fmt.Sprintf(format, v...)))
}

// Errorf logs, and keeps the text for the error of a failed start.
func (l *serverLog) Errorf(format string, v ...any) {
	text := strings.TrimSpace(fmt.Sprintf(format, v...))
	l.mu.Lock()
	l.text = text
	l.mu.Unlock()
	l.log.Error("store server", "text", text)
}

// Fatalf does not end the process: a gateway lives without its store.
func (l *serverLog) Fatalf(format string, v ...any) { l.Errorf(format, v...) }

func (l *serverLog) last() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text == "" {
		return errors.New("no reason given")
	}
	return errors.New(l.text)
}
