package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/cilium/ebpf"
)

// subscriberOn is the flag of an entry in the kernel's map of subscribers without which it admits
// nobody (SUB_ON in bpf/scas.h).
const subscriberOn = 1

// kernelAdmits fails the test when the kernel's own map of the running gateway does not hold
// exactly these addresses.
func (s *site) kernelAdmits(t *testing.T, when string, want ...netip.Addr) {
	t.Helper()
	m := s.subscribersMap(t)
	defer m.Close()
	got := []netip.Addr{}
	var key [16]byte
	var value [4]byte
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if binary.NativeEndian.Uint32(value[:])&subscriberOn != 0 {
			got = append(got, netip.AddrFrom16(key).Unmap())
		}
	}
	if err := entries.Err(); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, netip.Addr.Compare)
	slices.SortFunc(want, netip.Addr.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("%s: the kernel admits %v, want %v", when, got, want)
	}
}

// subscribersMap finds the map among the files of the gateway's process.
func (s *site) subscribersMap(t *testing.T) *ebpf.Map {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", s.daemon.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		found := regexp.MustCompile(`(?m)^map_id:\s*(\d+)$`).FindSubmatch(text)
		if err != nil || found == nil {
			continue
		}
		id, err := strconv.ParseUint(string(found[1]), 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		m, err := ebpf.NewMapFromID(ebpf.MapID(id))
		if err != nil {
			t.Fatal(err)
		}
		if info, err := m.Info(); err == nil && info.Name == "subscribers" {
			return m
		}
		m.Close()
	}
	t.Fatal("the gateway has no map of subscribers")
	return nil
}
