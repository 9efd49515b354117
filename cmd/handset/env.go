package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Exit codes, as of scas.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
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

func (e *env) getenv(name string) string {
	value := ""
	for _, entry := range e.environ {
		if n, v, ok := strings.Cut(entry, "="); ok && n == name {
			value = v
		}
	}
	return value
}

// usageError is a command line that cannot be understood.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// unreachableError says that the other side does not answer.
type unreachableError struct{ text string }

func (e *unreachableError) Error() string { return e.text }

// errSilent ends a command that has said itself what is wrong.
var errSilent = errors.New("failed")

// run runs the program and returns its exit code.
func run(e *env) int {
	root := newRoot(e)
	root.SetArgs(e.args)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	err := root.Execute()
	if err == nil {
		return exitDone
	}
	if !errors.Is(err, errSilent) {
		fmt.Fprintf(e.stderr, "handset: %v\n", err)
	}
	var usage *usageError
	var unreachable *unreachableError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintln(e.stderr, "See handset --help.")
		return exitUsage
	case errors.As(err, &unreachable):
		return exitUnreachable
	}
	return exitFailed
}
