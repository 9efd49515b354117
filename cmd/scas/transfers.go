package main

import (
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"scas/session"
)

func newTransfers(e *env) *cobra.Command {
	var out output
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "transfers [ID]",
		Short: "Show the moves that were ordered, and how far they came",
		Args:  atMost(1),
		RunE: func(cmd *cobra.Command, words []string) error {
			c := f.client(e)
			if len(words) == 1 {
				var t session.Transfer
				raw, err := c.get(cmd.Context(), "/v1/transfers/"+url.PathEscape(words[0]), &t)
				if err != nil || out.json() {
					return orJSON(e, raw, err)
				}
				return showTransfer(e.stdout, e.now(), t)
			}
			var list []session.Transfer
			raw, err := c.get(cmd.Context(), "/v1/transfers", &list)
			if err != nil || out.json() {
				return orJSON(e, raw, err)
			}
			if len(list) == 0 {
				fmt.Fprintln(e.stderr, "no film was moved yet")
				return nil
			}
			rows := make([][]string, 0, len(list))
			for _, t := range list {
				rows = append(rows, []string{t.ID, t.Session, user(t.AoR), t.From.Name, t.To.Name, transferState(t), playTime(t.Position),
					seconds(t.Repeated), clockTime(e.now(), ordered(t))})
			}
			return writeTable(e.stdout, []string{"ID", "SESSION", "USER", "FROM", "TO", "STATE", "POSITION", "SEEN TWICE", "ORDERED"}, rows)
		},
	}
	out.flag(cmd)
	f.flags(cmd)
	return cmd
}

func showTransfer(w io.Writer, now time.Time, t session.Transfer) error {
	fields := []string{
		"transfer", t.ID, "session", t.Session, "user", user(t.AoR), "from", terminal(t.From), "to", terminal(t.To),
		"asked by", string(t.Trigger), "state", transferState(t),
	}
	if text := why(t); text != "" {
		fields = append(fields, "why", text)
	}
	return writeFields(w, append(fields,
		"URL", t.URL, "position asked for", playTime(t.Position), "position given", playTime(t.StartedAt),
		"seen twice", seconds(t.Repeated), "silence", seconds(t.Silence), "origin has data left", yesNo(t.OriginBuffered),
		"offered", clockTime(now, t.Times.Offered), "armed", clockTime(now, t.Times.Armed), "attached", clockTime(now, t.Times.Attached),
		"committed", clockTime(now, t.Times.Committed), "ended", clockTime(now, t.Times.Ended))...)
}

// transferState shows the state, and the reason of one that went wrong.
func transferState(t session.Transfer) string {
	if t.Reason == nil {
		return string(t.State)
	}
	return fmt.Sprintf("%s (%s)", t.State, *t.Reason)
}

// ordered returns when t began.
func ordered(t session.Transfer) *time.Time {
	for _, at := range []*time.Time{t.Times.Offered, t.Times.Armed, t.Times.Attached, t.Times.Ended} {
		if at != nil {
			return at
		}
	}
	return nil
}
