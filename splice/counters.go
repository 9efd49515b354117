package splice

import (
	"sync/atomic"

	"scas/session"
)

// counters are the splicer's own; Stats names them.
type counters struct {
	accepted, acceptErrors, notSteered             atomic.Uint64
	refused, overShare                             atomic.Uint64
	unreachable, asTerminal, asRouter, fellBack    atomic.Uint64
	fromTerminal, toServer, fromServer, toTerminal atomic.Uint64
	dropped, inserted, undelivered                 atomic.Uint64
	notRTSP, notMMS, requestsReleased              atomic.Uint64
	starts, startsAgain, startsUnread, mismatches  atomic.Uint64
	repliesHeld, repliesRepaired, repliesLate      atomic.Uint64
	byes, byesFailed, cutsFailed                   atomic.Uint64
	teardowns, teardownRefused, teardownFailed     atomic.Uint64
	forged, forgeFailed                            atomic.Uint64
	streamsEnded, stops, stopsFailed               atomic.Uint64
	funnelsRefused, pipelinesRefused, cured        atomic.Uint64
	orders, ordersRefused                          atomic.Uint64
	done, failed, declined, expired, cancelled     atomic.Uint64
}

// ended counts a transfer that reached an end.
func (c *counters) ended(s session.TransferState) {
	switch s {
	case session.Done:
		c.done.Add(1)
	case session.Failed:
		c.failed.Add(1)
	case session.Declined:
		c.declined.Add(1)
	case session.Expired:
		c.expired.Add(1)
	case session.Cancelled:
		c.cancelled.Add(1)
	}
}

// Stats returns all counters by name. connections_open and transfers_open are the only two
// that go down. bytes_from_terminal + bytes_from_server + bytes_inserted = bytes_to_server +
// bytes_to_terminal + bytes_dropped + bytes_undelivered once nothing is open.
func (s *Splicer) Stats() map[string]uint64 {
	c := &s.count
	s.mu.Lock()
	open, moves := len(s.relays), 0
	for _, m := range s.moves {
		if !m.over.Load() {
			moves++
		}
	}
	s.mu.Unlock()
	m := map[string]uint64{"connections_open": uint64(open), "transfers_open": uint64(moves)}
	for name, v := range map[string]*atomic.Uint64{
		"connections_accepted": &c.accepted, "accept_errors": &c.acceptErrors,
		"connections_not_steered": &c.notSteered, "connections_refused": &c.refused,
		"connections_over_share": &c.overShare,
		"upstream_unreachable":   &c.unreachable, "upstream_terminal": &c.asTerminal,
		"upstream_router": &c.asRouter, "upstream_fallback": &c.fellBack,
		"bytes_from_terminal": &c.fromTerminal, "bytes_to_server": &c.toServer,
		"bytes_from_server": &c.fromServer, "bytes_to_terminal": &c.toTerminal,
		"bytes_dropped": &c.dropped, "bytes_inserted": &c.inserted, "bytes_undelivered": &c.undelivered,
		"directions_not_rtsp": &c.notRTSP, "directions_not_mms": &c.notMMS, "requests_released": &c.requestsReleased,
		"starts_rewritten": &c.starts, "starts_rewritten_again": &c.startsAgain,
		"starts_not_rewritable": &c.startsUnread, "url_mismatch": &c.mismatches,
		"replies_held": &c.repliesHeld, "replies_repaired": &c.repliesRepaired, "replies_late": &c.repliesLate,
		"byes_sent": &c.byes, "byes_failed": &c.byesFailed, "cuts_failed": &c.cutsFailed,
		"teardowns_sent": &c.teardowns, "teardown_refused": &c.teardownRefused, "teardown_failed": &c.teardownFailed,
		"streams_ended": &c.streamsEnded, "stops_sent": &c.stops, "stop_failed": &c.stopsFailed,
		"funnels_refused": &c.funnelsRefused, "pipelines_refused": &c.pipelinesRefused, "packets_cured": &c.cured,
		"segments_forged": &c.forged, "segments_failed": &c.forgeFailed,
		"orders": &c.orders, "orders_refused": &c.ordersRefused,
		"transfers_done": &c.done, "transfers_failed": &c.failed, "transfers_declined": &c.declined,
		"transfers_expired": &c.expired, "transfers_cancelled": &c.cancelled,
	} {
		m[name] = v.Load()
	}
	return m
}
