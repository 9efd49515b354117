package splice

import (
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A target may open the film more than once at a time: a player that looks at it first, or two of
// them. Each start request is an attempt, and the first that plays is the target.

const (
	// hearing is how long a terminal that is on may be silent: it is asked each second.
	hearing = 1500 * time.Millisecond
	// absent is how long it may be until it counts as switched off.
	absent = 10 * time.Second
)

// attempt makes x the newest start request.
func (m *move) attempt(x *attempt) {
	for _, y := range slices.Clone(m.tries) {
		if y.r == x.r || !y.left.IsZero() {
			m.drop(y)
		}
	}
	m.try = x
	m.tries = append(m.tries, x)
	x.attend()
}

func (m *move) drop(x *attempt) {
	if i := slices.Index(m.tries, x); i >= 0 {
		m.tries = slices.Delete(m.tries, i, i+1)
		x.leave()
	}
}

// leave ends the questions to the target whether it is there.
func (x *attempt) leave() {
	_ = x.r.terminal.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}) // as it was
}

// numbered returns the attempt with a number, nil when it does not matter any more.
func (m *move) numbered(n int) *attempt {
	for _, x := range m.tries {
		if x.number == n {
			return x
		}
	}
	return nil
}

// on returns the newest attempt on a connection, nil when there is none.
func (m *move) on(r *relay) *attempt {
	for i := len(m.tries) - 1; i >= 0; i-- {
		if m.tries[i].r == r {
			return m.tries[i]
		}
	}
	return nil
}

// quits notes that the player has left an attempt. One that goes on counts from then on; it is false
// when there is none.
func (m *move) quits(x *attempt, now time.Time) bool {
	x.left = now
	for i := len(m.tries) - 1; i >= 0; i-- {
		if y := m.tries[i]; y.left.IsZero() {
			m.drop(x)
			if x == m.try {
				m.goOn(y)
			}
			return true
		}
	}
	return false
}

// goOn makes x the attempt that counts.
func (m *move) goOn(x *attempt) {
	m.try = x
	m.figures()
}

// figures shows those of the attempt that counts.
func (m *move) figures() {
	m.t.Position, m.t.StartedAt = m.try.position, m.try.startedAt
	m.s.table.PutTransfer(m.t)
}

// attend has the kernel ask a terminal that says nothing each second whether it is there, and not
// give it up for that while a transfer waits for it.
func (x *attempt) attend() {
	const most = 60
	_ = x.r.terminal.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: most})
} // an error means that the connection has ended

// silence returns how long nothing came from a terminal, its TCP's own answers included.
func silence(c *net.TCPConn) (d time.Duration) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = control(raw, func(fd int) error { // of a connection that has ended: it is told elsewhere
		i, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			d = time.Duration(min(i.Last_ack_recv, i.Last_data_recv)) * time.Millisecond
		}
		return err
	})
	return d
}
