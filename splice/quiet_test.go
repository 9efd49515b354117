package splice

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// What an error of the network says of addresses stays out of the log.
func TestCause(t *testing.T) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 10, 1, 3), Port: 4000},
		Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 80), Port: 554}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, err := range []error{dial, fmt.Errorf("leg: %w", dial), errors.Join(errors.New("10.10.1.3: first try"), dial),
		fmt.Errorf("%w: %w", errors.New("10.10.1.3"), dial)} {
		if got := cause(err); !errors.Is(got, syscall.ECONNREFUSED) || strings.Contains(got.Error(), "10.") {
			t.Errorf("%v becomes %v", err, got)
		}
	}
	if plain := errors.New("no media"); cause(plain) != plain {
		t.Error(cause(plain))
	}
}
