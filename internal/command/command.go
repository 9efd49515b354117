// Package command knows what the programs have in common as commands: how they read the environment
// they were given, and how they end (DESIGN §7). It knows no flag and no program.
package command

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Exit codes.
const (
	Done        = 0
	Failed      = 1
	Usage       = 2
	Unreachable = 3
)

// UsageError is a command line that cannot be understood.
type UsageError string

func (e UsageError) Error() string { return string(e) }

// UnreachableError says that the other side does not answer.
type UnreachableError string

func (e UnreachableError) Error() string { return string(e) }

// ErrSilent ends a command that has said itself what is wrong.
var ErrSilent = errors.New("failed")

// End tells on w what is wrong and returns the exit code. program opens the line; path is the
// command whose --help a usage error leads to. A nil err is Done, and tells nothing.
func End(w io.Writer, program, path string, err error) int {
	if err == nil {
		return Done
	}
	if !errors.Is(err, ErrSilent) {
		fmt.Fprintf(w, "%s: %v\n", program, err)
	}
	var usage UsageError
	var unreachable UnreachableError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintf(w, "See %s --help.\n", path)
		return Usage
	case errors.As(err, &unreachable):
		return Unreachable
	}
	return Failed
}

// Getenv returns a variable of an environment of NAME=value, the last one of that name; "": none.
func Getenv(environ []string, name string) string {
	value := ""
	for _, entry := range environ {
		if n, v, ok := strings.Cut(entry, "="); ok && n == name {
			value = v
		}
	}
	return value
}
