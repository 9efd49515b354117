package lab

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value of linux/ethtool.h.
type ethtoolValue struct{ cmd, data uint32 }

// ethtoolIfreq is struct ifreq with ifr_data (linux/if.h), 40 bytes.
type ethtoolIfreq struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// offloadsOff switches segmentation, coalescing and checksum offload of an interface of the
// calling thread's namespace off, as `ethtool -K` does. What a driver lacks is no error.
func offloadsOff(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, cmd := range []uint32{unix.ETHTOOL_SGSO, unix.ETHTOOL_STSO, unix.ETHTOOL_SGRO, unix.ETHTOOL_STXCSUM} {
		v := ethtoolValue{cmd: cmd}
		if err := ethtool(fd, name, unsafe.Pointer(&v)); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("ethtool %#x on %s: %w", cmd, name, err)
		}
	}
	return nil
}

// offloads tells whether any of the offloads of offloadsOff is on.
func offloads(name string) (bool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	for _, cmd := range []uint32{unix.ETHTOOL_GGSO, unix.ETHTOOL_GTSO, unix.ETHTOOL_GGRO, unix.ETHTOOL_GTXCSUM} {
		v := ethtoolValue{cmd: cmd}
		if err := ethtool(fd, name, unsafe.Pointer(&v)); err != nil {
			return false, fmt.Errorf("ethtool %#x on %s: %w", cmd, name, err)
		}
		if v.data != 0 {
			return true, nil
		}
	}
	return false, nil
}

// ethtool asks the kernel once; arg points to a structure that starts with the command.
func ethtool(fd int, name string, arg unsafe.Pointer) error {
	req := ethtoolIfreq{data: arg}
	copy(req.name[:], bytes.TrimRight([]byte(name), "\x00"))
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return errno
	}
	return nil
}
