package splice

import (
	"errors"
	"slices"
	"sync"

	"scas/tracer/mms"
)

// maxTapped bounds what is kept of a connection that is listened to, bytes; maxTappedParts the
// pieces it came in.
const (
	maxTapped      = 512 << 10
	maxTappedParts = 1024
)

// filmTap collects the server's bytes of a watched connection, as far as they come up: in any
// order, some twice, some never. Safe for concurrent use.
type filmTap struct {
	news chan struct{} // gets a value when bytes came

	mu    sync.Mutex // guards what follows
	parts []tapPart  // by sequence number
	size  int
}

type tapPart struct {
	seq  uint32
	data []byte
}

func newFilmTap() *filmTap { return &filmTap{news: make(chan struct{}, 1)} }

// add takes bytes. Beyond the bound they are dropped: their sender sends them again.
func (p *filmTap) add(seq uint32, b []byte) {
	p.mu.Lock()
	if p.size+len(b) <= maxTapped && len(p.parts) < maxTappedParts {
		part := tapPart{seq, slices.Clone(b)}
		i, _ := slices.BinarySearchFunc(p.parts, part, func(a, b tapPart) int { return int(int32(a.seq - b.seq)) })
		p.parts = slices.Insert(p.parts, i, part)
		p.size += len(b)
	}
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// around returns the bytes without a hole around sequence number at, and where they begin. Before
// at there may be none; b is nil when there are none behind it either.
func (p *filmTap) around(at uint32) (from uint32, b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	from = at
	for _, x := range p.parts {
		ahead := int32(x.seq - from - uint32(len(b)))
		if ahead > 0 && int32(x.seq-at) > 0 {
			break // a hole behind at
		}
		switch {
		case ahead > 0 || len(b) == 0 && int32(x.seq-at) < 0:
			from, b = x.seq, slices.Clone(x.data)
		case int(-ahead) < len(x.data):
			b = append(b, x.data[-ahead:]...)
		}
	}
	if int32(from+uint32(len(b))-at) < 0 {
		return at, nil
	}
	return from, b
}

// boundary returns the first place at or behind at where a unit of an MMST server begins: b are
// its bytes from sequence number from on. known, if any, is a place where one begins. It is false
// when b does not reach so far, or does not tell.
func boundary(sig mms.MediaSignature, from uint32, b []byte, at uint32, known *uint32) (uint32, bool) {
	least := int(int32(at - from))
	if known != nil {
		if *known == at {
			return at, true
		}
		if i := int(int32(*known - from)); i >= 0 && i < len(b) {
			if end, ok := unitsTo(b, i, least); ok {
				return from + uint32(end), true
			}
		}
	}
	for i := 0; i+mms.Least <= len(b); i++ {
		if _, _, media := sig.Match(b[i:]); !media && !mms.IsMessage(b[i:]) {
			continue
		}
		if end, ok := unitsTo(b, i, least); ok {
			return from + uint32(end), true
		}
	}
	return 0, false
}

// unitsTo follows the units of b from i on and returns where the first one begins that is not
// before least. It is false when b ends before that, or what follows there is none.
func unitsTo(b []byte, i, least int) (int, bool) {
	for i < least {
		_, n, err := mms.Next(b[i:], mms.ToViewer)
		if err != nil {
			return 0, false
		}
		i += n
	}
	if i > len(b) {
		return 0, false
	}
	_, n, err := mms.Next(b[i:], mms.ToViewer)
	return i, err == nil || errors.Is(err, mms.ErrShort) && n <= mms.MaxMessage
}
