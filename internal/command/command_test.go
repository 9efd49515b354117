package command

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestEnd(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code int
		says string
	}{
		{nil, Done, ""},
		{errors.New("no"), Failed, "x: no\n"},
		{ErrSilent, Failed, ""},
		{fmt.Errorf("a: %w", UsageError("b")), Usage, "x: a: b\nSee x y --help.\n"},
		{fmt.Errorf("a: %w", UnreachableError("b")), Unreachable, "x: a: b\n"},
	} {
		var said strings.Builder
		if code := End(&said, "x", "x y", tt.err); code != tt.code || said.String() != tt.says {
			t.Errorf("%v: %d, %q", tt.err, code, said.String())
		}
	}
}

func TestGetenv(t *testing.T) {
	environ := []string{"A=1", "B", "A=2=3", "AA=4"}
	for name, want := range map[string]string{"A": "2=3", "B": "", "C": "", "AA": "4"} {
		if got := Getenv(environ, name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
}
