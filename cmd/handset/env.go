package main

import (
	"context"
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
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time
	readFile       func(name string) ([]byte, error)
	signals        func() (context.Context, context.CancelFunc) // ends with SIGINT, SIGTERM, SIGHUP
}

func newEnv() *env {
	return &env{
		args: os.Args[1:], environ: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		now: time.Now, readFile: os.ReadFile,
		signals: func() (context.Context, context.CancelFunc) {
			return signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
		},
	}
}

func (e *env) getenv(name string) string { return command.Getenv(e.environ, name) }

// run runs the program and returns its exit code.
func run(e *env) int {
	root := newRoot(e)
	root.SetArgs(e.args)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	return command.End(e.stderr, "handset", "handset", root.Execute())
}
