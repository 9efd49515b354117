package peers

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// Traffic is what an interface counted since it was made.
type Traffic struct {
	RxBytes, RxPackets, TxBytes, TxPackets uint64
}

// NetDev returns what one interface counted, from the table at path: /proc/<pid>/net/dev for
// the namespace of a process, /proc/thread-self/net/dev for that of a thread (lab.Do).
func NetDev(path, iface string) (Traffic, error) {
	f, err := os.Open(path)
	if err != nil {
		return Traffic{}, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, rest, ok := strings.Cut(strings.TrimSpace(lines.Text()), ":")
		if !ok || name != iface {
			continue
		}
		var t Traffic
		var skip uint64
		// proc(5): eight columns received, eight sent; each starts with bytes and packets.
		_, err := fmt.Sscan(rest, &t.RxBytes, &t.RxPackets, &skip, &skip, &skip, &skip, &skip, &skip, &t.TxBytes, &t.TxPackets)
		if err != nil {
			return Traffic{}, fmt.Errorf("%s: %s: %w", path, iface, err)
		}
		return t, nil
	}
	return Traffic{}, fmt.Errorf("%s: no interface %s", path, iface)
}
