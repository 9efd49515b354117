package main

import (
	"context"
	"slices"
	"time"

	"scas/session"
)

// Bounds on what is kept of transfers that are over.
const (
	keepTransfers  = 1000
	keepAtLeast    = time.Hour // however many there are
	forgetInterval = time.Minute
)

// forgetTransfers keeps the table from growing with each order, until ctx ends.
func forgetTransfers(ctx context.Context, table *session.Table, now func() time.Time) {
	tick := time.NewTicker(forgetInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, id := range surplus(table.Transfers(), now()) {
				table.ForgetTransfer(id)
			}
		}
	}
}

// surplus returns the ids of transfers that ended long ago, beyond the newest keepTransfers.
func surplus(all []session.Transfer, now time.Time) []string {
	over := slices.DeleteFunc(all, func(t session.Transfer) bool { return t.State.Open() || t.Times.Ended == nil })
	slices.SortFunc(over, func(a, b session.Transfer) int { return a.Times.Ended.Compare(*b.Times.Ended) })
	var ids []string
	for _, t := range over[:max(0, len(over)-keepTransfers)] {
		if now.Sub(*t.Times.Ended) > keepAtLeast {
			ids = append(ids, t.ID)
		}
	}
	return ids
}
