package bpf

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// counterNames returns the name of each entry of the counters map, from the enums the object
// describes: "lan_in_stranger", ..., then "ring_full", ... .
func counterNames(types *btf.Spec) ([]string, error) {
	hooks, err := enumNames(types, "hook")
	if err != nil {
		return nil, err
	}
	outcomes, err := enumNames(types, "outcome")
	if err != nil {
		return nil, err
	}
	notes, err := enumNames(types, "note")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, h := range hooks {
		for _, o := range outcomes {
			names = append(names, h+"_"+o)
		}
	}
	return append(names, notes...), nil
}

// enumNames returns the values of an enum in lower case without the enum's own name in front; the
// last one is the count and left out.
func enumNames(types *btf.Spec, enum string) ([]string, error) {
	var e *btf.Enum
	if err := types.TypeByName(enum, &e); err != nil {
		return nil, fmt.Errorf("type %s of the object: %w", enum, err)
	}
	names := make([]string, 0, len(e.Values))
	for i, v := range e.Values[:len(e.Values)-1] {
		if v.Value != uint64(i) {
			return nil, fmt.Errorf("type %s of the object: %s is %d, want %d", enum, v.Name, v.Value, i)
		}
		names = append(names, strings.TrimPrefix(strings.ToLower(v.Name), enum+"_"))
	}
	return names, nil
}

// counter returns one of the counters that Stats returns.
func (g *Gateway) counter(name string) (sum uint64) {
	var perCPU []uint64
	if i := slices.Index(g.names, name); i >= 0 && g.kernel.m("counters").Lookup(uint32(i), &perCPU) == nil {
		for _, n := range perCPU {
			sum += n
		}
	}
	return sum
}

// Stats returns all counters of the kernel half. Each packet of a hook is in exactly one counter
// that begins with the hook's name (lan_in_, lan_out_, wan_in_): their sum is what came by. The
// others count what happened besides.
func (g *Gateway) Stats() Stats {
	s := make(Stats, len(g.names)+8)
	var perCPU []uint64
	cursor := g.kernel.m("counters").Iterate()
	var key uint32
	for cursor.Next(&key, &perCPU) {
		var sum uint64
		for _, n := range perCPU {
			sum += n
		}
		if int(key) < len(g.names) {
			s[g.names[key]] = sum
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s["subscribers"], s["armed"] = 0, 0 // a counter that is not there at 0 is no counter
	for _, t := range g.terminals {
		if t.on {
			s["subscribers"]++
		}
		if t.on && t.armed {
			s["armed"]++
		}
	}
	s["media_flows"] = uint64(len(g.watched))
	s["legs"] = uint64(len(g.legs))
	s["cuts"] = uint64(len(g.cuts))
	s["tcp_flows"] = g.flowCount
	for _, of := range []string{"media", "legs", "cuts"} {
		s[of+"_over_share"] = g.overShare[of]
	}
	if !g.closed {
		s["ring_pending_bytes"] = uint64(g.events.ring.AvailableBytes())
	}
	return s
}
