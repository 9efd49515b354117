package bpf

import "github.com/cilium/ebpf"

// Sizes of the addresses map, as in scas.h.
const (
	addressSlots     = 1 << 20
	addressesPerWord = 32
)

// addressBits is what the kernel half's map of address bits is made of: several addresses may share
// a slot, so each bit is counted.
type addressBits struct {
	of     map[scasAddrKey]uint8 // bits set for an address, never 0
	counts map[uint32]*[2]int    // slot -> addresses with each of the two bits
	words  []uint64              // the map
}

func newAddressBits() *addressBits {
	return &addressBits{
		of:     make(map[scasAddrKey]uint8),
		counts: make(map[uint32]*[2]int),
		words:  make([]uint64, addressSlots/addressesPerWord),
	}
}

// addressSlot is the kernel half's address_slot.
func addressSlot(k scasAddrKey) uint32 {
	return (k.Addr[0] ^ k.Addr[1] ^ k.Addr[2] ^ k.Addr[3]) * 0x9e3779b1 >> 12
}

// set makes bits those of the address k, and brings the map in line.
func (a *addressBits) set(k scasAddrKey, bits uint8, m *ebpf.Map) error {
	slot := addressSlot(k)
	n := a.counts[slot]
	if n == nil {
		n = new([2]int)
		a.counts[slot] = n
	}
	var both uint64
	for i := range n {
		n[i] += int(bits>>i&1) - int(a.of[k]>>i&1)
		if n[i] > 0 {
			both |= 1 << i
		}
	}
	if a.of[k] = bits; bits == 0 {
		delete(a.of, k)
	}
	if both == 0 {
		delete(a.counts, slot)
	}
	word, shift := slot/addressesPerWord, slot%addressesPerWord*2
	if a.words[word]>>shift&3 == both {
		return nil
	}
	a.words[word] = a.words[word]&^(3<<shift) | both<<shift
	return m.Put(word, a.words[word])
}
