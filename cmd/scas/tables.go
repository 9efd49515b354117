package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"
)

// writeTable writes rows below heads in aligned columns. What a terminal or a server made up
// is cleaned of characters that would reach beyond its cell.
func writeTable(w io.Writer, heads []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{heads}, rows...) {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(tw, "\t")
			}
			fmt.Fprint(tw, clean(cell))
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

// writeFields writes names and values, one pair a line.
func writeFields(w io.Writer, pairs ...string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(tw, "%s\t%s\n", pairs[i], clean(pairs[i+1]))
	}
	return tw.Flush()
}

// writeJSON writes a daemon's answer as it is, on lines of its own.
func writeJSON(w io.Writer, raw json.RawMessage) error {
	_, err := fmt.Fprintf(w, "%s\n", strings.TrimSpace(string(raw)))
	return err
}

// clean returns s without control characters, which could rewrite the operator's screen, and
// with an en dash for nothing.
func clean(s string) string {
	if s == "" {
		return "–"
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// playTime shows seconds of media time as h:mm:ss.s.
func playTime(seconds *float64) string {
	if seconds == nil {
		return ""
	}
	tenths := int64(max(0, *seconds)*10 + 0.5)
	return fmt.Sprintf("%d:%02d:%02d.%d", tenths/36000, tenths/600%60, tenths/10%60, tenths%10)
}

// seconds shows a length of time in seconds.
func seconds(s *float64) string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf("%.1f s", *s)
}

// age shows how long ago t was in the two largest units.
func age(now, t time.Time) string {
	d := now.Sub(t).Round(time.Second)
	switch {
	case t.IsZero():
		return ""
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

// clockTime shows t in local time; with the day when it is not now's.
func clockTime(now time.Time, t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	local, today := t.Local(), now.Local()
	if local.YearDay() == today.YearDay() && local.Year() == today.Year() {
		return local.Format("15:04:05")
	}
	return local.Format("2006-01-02 15:04:05")
}

func orNone(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// user shows an address of record without its scheme.
func user(aor *string) string { return strings.TrimPrefix(orNone(aor), "sip:") }

// are is plural with its verb.
func are(n int, what string) string {
	if n == 1 {
		return "1 " + what + " is"
	}
	return fmt.Sprintf("%d %ss are", n, what)
}

func plural(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
