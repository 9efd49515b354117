package bpf

import (
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"time"
)

// Config is what Open needs to know. The zero value is not valid; start from DefaultConfig.
type Config struct {
	LAN            []string           // interfaces towards the terminals, at least one; the device that has the address (the VLAN device, the bridge)
	WAN            []string           // interfaces towards the servers, at least one
	Services       map[uint16]Service // service ports; default 554 and 8554 rtsp, 1755 mms, 80 mmsh
	IPv6Prefix     int                // length a terminal's IPv6 address is cut to before it is looked up, 1 to 128; default 64
	Mark           uint32             // the one bit of the packet mark that is ours; default 0x20000000
	Table          int                // routing table of ours; default 8470
	RulePriority   int                // priority of our ip rules; default 8470
	SampleInterval time.Duration      // between two samples of one media flow, 10 ms to 1 min; default 200 ms
	SteerAlways    bool               // steer every subscriber, not only armed ones
	MaxSubscribers uint32             // default 65536
	MaxFlows       uint32             // of TCP connections, of which one terminal gets 1/64, and as many of UDP media flows, 1/256; default 131072
	RingBytes      uint32             // of the ring buffer, a power of two of at least 64 KiB; default 8 MiB
	CopyRate       uint32             // bytes of server payload copied in a second, node-wide, and sixteen times what is sent up for one terminal; default 64 MiB
	Attach         Attach             // how programs are put on devices; default AttachAuto
	Log            *slog.Logger       // nil: slog.Default
}

// Attach is a way of putting programs on devices.
type Attach int

// Ways of attaching. AttachAuto is TCX where the kernel has it (6.6), else clsact.
const (
	AttachAuto Attach = iota
	AttachTCX
	AttachClsact
)

// DefaultConfig returns the documented defaults; LAN and WAN are for the caller to fill in.
func DefaultConfig() Config {
	return Config{
		Services: map[uint16]Service{
			554: ServiceRTSP, 8554: ServiceRTSP, 1755: ServiceMMS, 80: ServiceMMSH,
		},
		IPv6Prefix:     64,
		Mark:           0x20000000,
		Table:          8470,
		RulePriority:   8470,
		SampleInterval: 200 * time.Millisecond,
		MaxSubscribers: 65536,
		MaxFlows:       131072,
		RingBytes:      8 << 20,
		CopyRate:       64 << 20,
	}
}

// Validate returns all that is wrong with c, joined; nil: Open will not refuse it for its form.
func (c Config) Validate() error {
	var errs []error
	for _, x := range []struct {
		bad  bool
		text string
	}{
		{len(c.LAN) == 0, "lan: no interface named"},
		{len(c.WAN) == 0, "wan: no interface named"},
		{len(c.Services) == 0, "services: no port named"},
		{c.IPv6Prefix < 1 || c.IPv6Prefix > 128, fmt.Sprintf("ipv6 prefix: %d is not in 1..128", c.IPv6Prefix)},
		{bits.OnesCount32(c.Mark) != 1, fmt.Sprintf("mark: %#x is not exactly one bit", c.Mark)},
		{c.Table < 1 || c.Table >= 253 && c.Table <= 255, fmt.Sprintf("table: %d is not a table of our own", c.Table)},
		{c.RulePriority < 1 || c.RulePriority > 32765, fmt.Sprintf("rule priority: %d is not in 1..32765", c.RulePriority)},
		{c.SampleInterval < 10*time.Millisecond || c.SampleInterval > time.Minute, fmt.Sprintf("sample interval: %v is not in 10ms..1m", c.SampleInterval)},
		{c.MaxSubscribers == 0 || c.MaxFlows == 0 || c.CopyRate == 0, "map sizes and copy rate: must not be 0"},
		{c.Attach < AttachAuto || c.Attach > AttachClsact, fmt.Sprintf("attach: %d is not a way of attaching", c.Attach)},
		{c.RingBytes < 64<<10 || bits.OnesCount32(c.RingBytes) != 1, fmt.Sprintf("ring: %d is not a power of two of at least 65536", c.RingBytes)},
	} {
		if x.bad {
			errs = append(errs, errors.New(x.text))
		}
	}
	for port, s := range c.Services {
		if port == 0 || s < ServiceRTSP || s > ServiceMMSH {
			errs = append(errs, fmt.Errorf("services: port %d: %v is not a service", port, s))
		}
	}
	return errors.Join(errs...)
}
