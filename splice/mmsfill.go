package splice

import "scas/tracer/mms"

const (
	mostFill        = 50_000 // packets: a film of three hours
	mostWatchedFill = 2_000  // the same where nothing sends again what is lost
)

// filler returns n data packets of a start that hold nothing: the ASF packet has no payload.
// libavformat ends a film when it has as many packets as the header says, and by nothing else; a
// demuxer skips these at no cost.
func filler(incarnation uint8, n int) []byte {
	// error correction, length types, property flags, send time, duration, no payloads
	empty := []byte{0x82, 0, 0, 0x01, 0x5d, 0, 0, 0, 0, 0, 0, 0x80}
	one := mms.Data{Incarnation: incarnation}.Append(nil, empty)
	b := make([]byte, 0, n*len(one))
	for range n {
		b = append(b, one...)
	}
	return b
}

// fill returns how many packets a player has to get before it believes that the film is over; 0: it
// believes EndOfStream.
func (x *ender) fill(most int) int {
	m := x.d.MMS
	if m == nil || !m.Counts || m.Packets > uint64(most) {
		return 0
	}
	return int(m.Packets)
}
