package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// Bytes before the network header.
const (
	ethernetHeader = 14
	noHeader       = 0
)

// Names of the programs, as in scas.bpf.c.
const (
	progLANIn   = "lan_in"
	progLANOut  = "lan_out"
	progWANIn   = "wan_in"
	progCommand = "run_command"
)

// kernel is what was loaded: one collection for Ethernet devices that owns the maps, and a second
// one of the traffic programs alone when there are devices without a link header.
type kernel struct {
	ethernet *ebpf.Collection
	bare     *ebpf.Collection
	command  *ebpf.Program
	legs     *ebpf.Variable
	version  *ebpf.Variable // of subscribers
}

// specFor returns the programs and maps with the configuration written in.
func specFor(cfg Config, header uint32) (*ebpf.CollectionSpec, error) {
	spec, err := loadScas()
	if err != nil {
		return nil, err
	}
	for name, size := range map[string]uint32{
		"subscribers": cfg.MaxSubscribers,
		"shares":      2 * cfg.MaxSubscribers,
		"flows":       cfg.MaxFlows,
		"media_flows": cfg.MaxFlows,
		"ring":        cfg.RingBytes,
	} {
		spec.Maps[name].MaxEntries = size
	}
	for name, value := range map[string]any{
		"link_header":   header,
		"ipv6_mask":     maskOf(cfg.IPv6Prefix),
		"mark_bit":      cfg.Mark,
		"sample_ns":     uint64(cfg.SampleInterval),
		"copy_rate":     cfg.CopyRate,
		"flow_share":    uint32(cfg.flowShare()),
		"event_share":   cfg.eventShare(),
		"steer_always":  boolWord(cfg.SteerAlways),
		"service_ports": servicePorts(cfg.Services),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	return spec, nil
}

func boolWord(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// servicePorts returns two bits for each port.
func servicePorts(services map[uint16]Service) (bits [16384]uint8) {
	for port, s := range services {
		bits[port>>2] |= uint8(s&3) << (port & 3 * 2)
	}
	return bits
}

func load(cfg Config, needBare bool) (*kernel, error) {
	spec, err := specFor(cfg, ethernetHeader)
	if err != nil {
		return nil, err
	}
	k := &kernel{}
	if k.ethernet, err = ebpf.NewCollection(spec); err != nil {
		return nil, fmt.Errorf("load programs: %w", err)
	}
	k.command = k.ethernet.Programs[progCommand]
	k.legs = k.ethernet.Variables["legs_active"]
	k.version = k.ethernet.Variables["subscribers_version"]
	if !needBare {
		return k, nil
	}
	if err := k.loadBare(cfg); err != nil {
		k.close()
		return nil, fmt.Errorf("load programs for devices without link header: %w", err)
	}
	return k, nil
}

func (k *kernel) loadBare(cfg Config) error {
	spec, err := specFor(cfg, noHeader)
	if err != nil {
		return err
	}
	delete(spec.Programs, progCommand)
	shared := make(map[string]*ebpf.Map)
	for name := range spec.Maps {
		if m := k.ethernet.Maps[name]; m != nil && name != ".rodata" {
			shared[name] = m
		}
	}
	k.bare, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	return err
}

// program returns the program of that name for a device.
func (k *kernel) program(name string, bare bool) *ebpf.Program {
	if bare {
		return k.bare.Programs[name]
	}
	return k.ethernet.Programs[name]
}

func (k *kernel) m(name string) *ebpf.Map { return k.ethernet.Maps[name] }

func (k *kernel) close() {
	if k.bare != nil {
		k.bare.Close()
	}
	k.ethernet.Close()
}
