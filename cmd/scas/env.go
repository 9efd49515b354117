package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"scas/internal/command"
)

// env is the outside world of one run of the program; a test can replace all of it.
type env struct {
	args           []string // without the program's name
	environ        []string // NAME=value
	stdout, stderr io.Writer
	now            func() time.Time
	hostname       func() string
	euid           func() int
	readFile       func(name string, limit int64) ([]byte, error)
	// signals returns a context that ends with the first SIGINT or SIGTERM, and a second one
	// that ends with the second.
	signals func() (first, second context.Context, stop func())
	// pipes makes writing to a reader that has gone an error until stop; else it ends the program.
	pipes func() (stop func())
}

func newEnv() *env {
	return &env{
		args: os.Args[1:], environ: os.Environ(), stdout: os.Stdout, stderr: os.Stderr, now: time.Now,
		hostname: func() string {
			name, _ := os.Hostname() // "" is refused where a name is needed
			return name
		},
		euid:     os.Geteuid,
		readFile: readFile,
		signals:  catchSignals,
		pipes:    catchPipes,
	}
}

func (e *env) getenv(name string) string { return command.Getenv(e.environ, name) }

// readFile reads a regular file of at most limit bytes.
func readFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return text, nil
}

func catchSignals() (first, second context.Context, stop func()) {
	first, endFirst := context.WithCancel(context.Background())
	second, endSecond := context.WithCancel(context.Background())
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for _, end := range []func(){endFirst, endSecond} {
			select {
			case <-ch:
				end()
			case <-done:
				return
			}
		}
	}()
	return first, second, func() {
		signal.Stop(ch)
		close(done)
		<-gone
		endFirst()
		endSecond()
	}
}

// catchPipes takes SIGPIPE. It is not ignored: what is started would inherit that.
func catchPipes() (stop func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGPIPE)
	return func() { signal.Stop(ch) }
}

// run runs the program and returns its exit code.
func run(e *env) int {
	root := newRoot(e)
	root.SetArgs(e.args)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	cmd, err := root.ExecuteC()
	return command.End(e.stderr, "scas", cmd.CommandPath(), err)
}
