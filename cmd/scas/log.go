package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"scas/admin"
	"scas/internal/command"
	"scas/session/kv"
)

// history is the store's log as the API asks for it.
type history struct{ store *kv.Store }

// Log returns what was kept.
func (h history) Log(ctx context.Context, f admin.Filter) ([]admin.Entry, error) {
	entries, err := h.store.Log(ctx, kv.Filter(f))
	if err != nil {
		return nil, err
	}
	out := make([]admin.Entry, len(entries))
	for i, x := range entries {
		out[i] = admin.Entry(x)
	}
	return out, nil
}

// logFlags say which entries are wanted.
type logFlags struct {
	since, until, user, terminal, event string
	limit                               int
}

func newLog(e *env) *cobra.Command {
	var out output
	var f clientFlags
	var want logFlags
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show what played and what was moved, from the history",
		Long: "Shows the history, the oldest first: who played what when, and what was moved where.\n" +
			"It is kept for state.keep, with the section sip in the configuration.",
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := want.query(e.now())
			if err != nil {
				return err
			}
			var list []admin.Entry
			raw, err := f.client(e).get(cmd.Context(), "/v1/log?"+query, &list)
			if err != nil || out.json() {
				return orJSON(e, raw, err)
			}
			if len(list) == 0 {
				fmt.Fprintln(e.stderr, "nothing of that is in the history")
				return nil
			}
			rows := make([][]string, 0, len(list))
			for _, x := range list {
				rows = append(rows, entryRow(e.now(), x))
			}
			return writeTable(e.stdout, []string{"WHEN", "WHAT", "USER", "TERMINAL", "POSITION", "FILM"}, rows)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&want.since, "since", "", "only from then on: how long ago (2h), or a time (2026-07-01T20:00:00Z)")
	flags.StringVar(&want.until, "until", "", "only before then, in the same forms")
	flags.StringVar(&want.user, "user", "", "only of this user (sip:USER@DOMAIN)")
	flags.StringVar(&want.terminal, "terminal", "", "only of this terminal (name or address)")
	flags.StringVar(&want.event, "event", "", "only play, end or transfer")
	flags.IntVar(&want.limit, "limit", 1000, "the newest so many, at most 10000")
	out.flag(cmd)
	f.flags(cmd)
	return cmd
}

// query writes the flags as the API wants them.
func (f logFlags) query(now time.Time) (string, error) {
	switch {
	case f.limit < 1 || f.limit > 10000:
		return "", command.UsageError("log: --limit: want 1 to 10000")
	case !slices.Contains([]string{"", "play", "end", "transfer"}, f.event):
		return "", command.UsageError(fmt.Sprintf("log: --event %q: want play, end or transfer", f.event))
	}
	q := url.Values{"limit": {strconv.Itoa(f.limit)}}
	for name, text := range map[string]string{"since": f.since, "until": f.until} {
		if text == "" {
			continue
		}
		at, err := moment(now, text)
		if err != nil {
			return "", command.UsageError(fmt.Sprintf("log: --%s %q: want how long ago, as 2h, or a time, as 2026-07-01T20:00:00Z", name, text))
		}
		q.Set(name, at.Format(time.RFC3339Nano))
	}
	for name, text := range map[string]string{"aor": f.user, "terminal": f.terminal, "event": f.event} {
		if text != "" {
			q.Set(name, text)
		}
	}
	return q.Encode(), nil
}

// moment reads how long ago something was, or when.
func moment(now time.Time, text string) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d.Abs()), nil
	}
	return time.Parse(time.RFC3339Nano, text)
}

func entryRow(now time.Time, x admin.Entry) []string {
	row := []string{clockTime(now, &x.At), x.Event, user(x.AoR), "", "", ""}
	switch {
	case x.Transfer != nil:
		t := x.Transfer
		row[1], row[3], row[4], row[5] = transferState(*t), t.From.Name+" > "+t.To.Name, playTime(t.Position), t.URL
	case x.Session != nil:
		r := x.Session
		if row[3], row[5] = r.Terminal.Name, orNone(r.URL); r.Position != nil {
			row[4] = playTime(r.Position.NPT)
		}
	}
	return row
}
