package splice

import (
	"errors"
	"math"
	"time"

	"scas/tracer/mms"
)

// toTheEnd is the size of a unit that ends with the connection.
const toTheEnd = math.MaxInt64

// maxAdditions bounds the units of ours that wait for a boundary.
const maxAdditions = 16

// rules is what one direction of an MMS protocol does with its units. Its methods run in the
// direction's goroutine.
type rules interface {
	common
	// unit returns the size of the unit at the front of b; mms.ErrShort asks for more bytes. A
	// unit that need not be whole goes on as it comes, and is not asked about again.
	unit(b []byte) (size int64, whole bool, err error)
	// take is called with every unit that had to be whole. The result goes on in its place, by
	// one write; b may be changed. With sent it went on already.
	take(b []byte, sent bool) []byte
	// output takes bytes that go on.
	output(b []byte) error
}

// addition is a unit of ours.
type addition struct {
	build func() []byte // called when all before it has gone on
	done  chan<- struct{}
}

// pieces cuts one direction of an MMS protocol into units. Control units go on whole, by one
// write each: MPlayer fails at a reply that comes in two segments (mms.md 6.3). Media go on as
// they come.
type pieces struct {
	rules
	d *direction

	buf      []byte    // of the unit under way, when it has to be whole
	size     int64     // of it; 0: not known
	sent     int       // bytes of buf that went on before it was whole
	since    time.Time // when its first byte came
	left     int64     // of a unit that goes on as it comes
	dropping bool      // what goes on of the unit under way is thrown away instead
	discard  bool      // so is all from the next boundary on; additions are not
	blind    bool      // bytes that cannot be framed; nothing after them can
	adds     []addition
}

func (p *pieces) kept() time.Time {
	if len(p.buf) == 0 || p.sent > 0 {
		return time.Time{}
	}
	return p.since
}

// boundary reports whether nothing of a unit has gone on that is not whole.
func (p *pieces) boundary() bool { return !p.blind && p.left == 0 && p.sent == 0 }

func (p *pieces) feed(b []byte) error {
	from := 0 // b[from:i] goes on
	for i := 0; i < len(b) && !p.blind; {
		if p.left > 0 {
			n := int(min(p.left, int64(len(b)-i)))
			i, p.left = i+n, p.left-int64(n)
			if p.dropping {
				p.d.r.s.count.dropped.Add(uint64(n))
				from = i
			}
			continue
		}
		if len(p.buf) == 0 && len(p.adds) == 0 && !p.discard {
			size, whole, err := p.unit(b[i:])
			if err == nil && !whole {
				p.left, p.dropping = size, false
				continue
			}
			if err == nil && size <= int64(len(b)-i) {
				if err := p.pass(b[from:i]); err != nil {
					return err
				}
				i += int(size)
				if err := p.whole(b[i-int(size) : i]); err != nil {
					return err
				}
				from = i
				continue
			}
		}
		if err := p.pass(b[from:i]); err != nil {
			return err
		}
		n, err := p.gather(b[i:])
		if err != nil {
			return err
		}
		i += n
		from = i
	}
	if p.blind && p.discard {
		p.d.r.s.count.dropped.Add(uint64(len(b) - from))
		return nil
	}
	if err := p.pass(b[from:]); err != nil || !p.boundary() {
		return err
	}
	return p.add()
}

// gather adds bytes to the unit under way and returns how many it took.
func (p *pieces) gather(b []byte) (n int, err error) {
	if len(p.buf) == 0 {
		if err := p.add(); err != nil {
			return 0, err
		}
		p.since = time.Now()
	}
	had := len(p.buf)
	n = len(b)
	if p.size > 0 {
		n = int(min(int64(n), p.size-int64(had)))
	}
	p.buf = append(p.buf, b[:n]...)
	if p.size == 0 {
		size, whole, err := p.unit(p.buf)
		switch {
		case errors.Is(err, mms.ErrShort):
			return n, p.early()
		case err != nil:
			p.blind, p.dropping = true, p.discard
			p.d.r.s.count.notMMS.Add(1)
			return n, p.flush()
		}
		p.size = size
		if size < int64(len(p.buf)) {
			n -= len(p.buf) - int(size)
			p.buf = p.buf[:size]
		}
		if !whole {
			p.left, p.dropping = size-int64(len(p.buf)), p.discard
			return n, p.flush()
		}
	}
	if int64(len(p.buf)) < p.size {
		return n, p.early()
	}
	unit, sent := p.buf, p.sent
	if sent > 0 {
		p.take(unit, true)
		err = p.emit(unit[sent:])
	} else {
		err = p.whole(unit)
	}
	p.reset()
	if err != nil {
		return n, err
	}
	return n, p.add()
}

// early lets go on what comes of a unit whose beginning was let go on.
func (p *pieces) early() error {
	if p.sent == 0 {
		return nil
	}
	return p.letGo()
}

// emit lets go on a part of the unit under way.
func (p *pieces) emit(b []byte) error {
	if p.dropping {
		p.d.r.s.count.dropped.Add(uint64(len(b)))
		return nil
	}
	return p.pass(b)
}

// whole handles a whole unit, nothing of which went on yet.
func (p *pieces) whole(b []byte) error {
	out := p.take(b, false)
	count := &p.d.r.s.count
	if d := len(out) - len(b); d >= 0 {
		count.inserted.Add(uint64(d))
	} else {
		count.dropped.Add(uint64(-d))
	}
	return p.pass(out)
}

// flush lets go on what was gathered of a unit that need not be whole.
func (p *pieces) flush() error {
	b := p.buf[p.sent:]
	p.reset()
	return p.emit(b)
}

func (p *pieces) reset() {
	p.size, p.sent = 0, 0
	if cap(p.buf) > 8<<10 {
		p.buf = nil
		return
	}
	p.buf = p.buf[:0]
}

// release lets go on what is kept back; the unit is still followed to its end.
func (p *pieces) release() error {
	if len(p.buf) == 0 {
		return nil
	}
	if p.sent == 0 {
		p.dropping = p.discard
	}
	return p.letGo()
}

func (p *pieces) letGo() error {
	b := p.buf[p.sent:]
	p.sent = len(p.buf)
	return p.emit(b)
}

// put sends a unit of ours at the next boundary, which may be now. It is built then; done is
// closed when it has gone on. Where nothing can be framed there is no boundary any more.
func (p *pieces) put(build func() []byte, done chan<- struct{}) error {
	if len(p.adds) < maxAdditions {
		p.adds = append(p.adds, addition{build, done})
	}
	if !p.boundary() {
		return nil
	}
	return p.add()
}

func (p *pieces) add() error {
	for len(p.adds) > 0 {
		a := p.adds[0]
		p.adds = p.adds[1:]
		b := a.build()
		p.d.r.s.count.inserted.Add(uint64(len(b)))
		err := p.pass(b)
		if a.done != nil {
			close(a.done)
		}
		if err != nil {
			return err
		}
	}
	p.adds = nil
	return nil
}

func (p *pieces) pass(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return p.output(b)
}
