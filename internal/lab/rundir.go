package lab

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// runDir is where namespaces have their names (ip-netns(8)).
const runDir = "/run/netns"

// shareRunDir makes the directory of names a shared mount of its own, as the first `ip netns
// add` does. Were it done later, by somebody else, the names made before would lie below that
// mount, and could not be removed.
func shareRunDir() error {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return err
	}
	dir, err := os.Open(runDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	// iproute2 takes the same lock: two at a time would both mount.
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", runDir, err)
	}
	share := func() error { return unix.Mount("", runDir, "none", unix.MS_SHARED|unix.MS_REC, "") }
	err = share()
	if !errors.Is(err, unix.EINVAL) {
		return err // nil when it is a mount already
	}
	if err := unix.Mount(runDir, runDir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", runDir, err)
	}
	return share()
}
