package splice

import (
	"net/netip"
	"testing"
)

func TestNeighbour(t *testing.T) {
	const table = `IP address       HW type     Flags       HW address            Mask     Device
10.78.1.2        0x1         0x2         0a:00:00:00:00:01     *        lan0
10.78.1.3        0x1         0x0         00:00:00:00:00:00     *        lan0
10.78.1.21       0x1         0x2         0a:00:00:00:00:21     *        lan1
10.78.1.4        0x1         0x2         nonsense              *        lan0
10.78.1.5        0x1
`
	for _, tt := range []struct{ a, device, mac string }{
		{"10.78.1.2", "lan0", "0a:00:00:00:00:01"}, {"10.78.1.21", "lan1", "0a:00:00:00:00:21"},
		{"10.78.1.3", "", ""}, {"10.78.1.4", "", ""}, {"10.78.1.5", "", ""}, {"10.78.1.9", "", ""},
	} {
		device, mac, ok := neighbour(table, netip.MustParseAddr(tt.a))
		if device != tt.device || mac.String() != tt.mac || ok != (tt.device != "") {
			t.Errorf("%s: %s %v %v", tt.a, device, mac, ok)
		}
	}
}
