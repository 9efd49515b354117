package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"scas/session"
)

func newSessions(e *env) *cobra.Command {
	var out output
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "sessions [ID]",
		Short: "Show what plays, where, and how far it is",
		Args:  atMost(1),
		RunE: func(cmd *cobra.Command, words []string) error {
			if len(words) == 1 {
				return showSession(cmd, e, f.client(e), words[0], out)
			}
			var list []session.Record
			raw, err := f.client(e).get(cmd.Context(), "/v1/sessions", &list)
			if err != nil || out.json() {
				return orJSON(e, raw, err)
			}
			if len(list) == 0 {
				fmt.Fprintln(e.stderr, "nothing plays on an enrolled terminal")
				return nil
			}
			rows := make([][]string, 0, len(list))
			for _, r := range list {
				rows = append(rows, []string{r.ID, user(r.AoR), terminal(r.Terminal), state(r), position(r), length(r),
					string(r.Protocol) + "/" + string(r.Transport), age(e.now(), r.Started), orNone(r.URL)})
			}
			return writeTable(e.stdout, []string{"ID", "USER", "TERMINAL", "STATE", "POSITION", "OF", "VIA", "AGE", "URL"}, rows)
		},
	}
	out.flag(cmd)
	f.flags(cmd)
	return cmd
}

// orJSON ends a command that has an error or prints the answer as it is.
func orJSON(e *env, raw []byte, err error) error {
	if err != nil {
		return err
	}
	return writeJSON(e.stdout, raw)
}

func showSession(cmd *cobra.Command, e *env, c *client, id string, out output) error {
	var r session.Record
	raw, err := c.get(cmd.Context(), "/v1/sessions/"+url.PathEscape(id), &r)
	if err != nil || out.json() {
		return orJSON(e, raw, err)
	}
	rendered, accuracy := "", ""
	if p := r.Position; p != nil {
		rendered = playTime(p.Rendered)
		accuracy = fmt.Sprintf("± %.2f s by %s at %s", p.Error, p.Source, clockTime(e.now(), &p.At))
	}
	server := ""
	if r.Server.IsValid() {
		server = r.Server.String()
	}
	err = writeFields(e.stdout,
		"session", r.ID, "gateway", r.Gateway, "user", user(r.AoR), "terminal", terminal(r.Terminal), "state", state(r),
		"position", position(r), "on the screen", rendered, "accuracy", accuracy, "of", length(r), "seekable", yesNo(r.Seekable),
		"URL", orNone(r.URL), "server", server, "player", orNone(r.UserAgent), "via", string(r.Protocol)+"/"+string(r.Transport),
		"started", clockTime(e.now(), &r.Started), "updated", clockTime(e.now(), &r.Updated))
	if err != nil || len(r.Tracks) == 0 {
		return err
	}
	rows := make([][]string, 0, len(r.Tracks))
	for _, t := range r.Tracks {
		ssrc := ""
		if t.SSRC != nil {
			ssrc = fmt.Sprintf("%08x", *t.SSRC)
		}
		rows = append(rows, []string{strconv.Itoa(t.ID), t.Media, t.Codec, strconv.Itoa(int(t.ClockRate)), orNone(t.Language), ssrc,
			strconv.FormatUint(t.Packets, 10), strconv.FormatInt(t.Lost, 10), fmt.Sprintf("%.1f ms", t.Jitter*1000)})
	}
	fmt.Fprintln(e.stdout)
	return writeTable(e.stdout, []string{"TRACK", "MEDIA", "CODEC", "RATE", "LANGUAGE", "SSRC", "PACKETS", "LOST", "JITTER"}, rows)
}

func terminal(t session.Terminal) string {
	switch {
	case t.Name == "":
		return t.IP.String()
	case !t.IP.IsValid():
		return t.Name
	}
	return t.Name + " (" + t.IP.String() + ")"
}

// state shows the state with what an operator should know besides.
func state(r session.Record) string {
	words := []string{string(r.State)}
	for _, mark := range []struct {
		on   bool
		word string
	}{{r.Steered, "steered"}, {r.Lossy, "lossy"}, {r.Opaque, "opaque"}} {
		if mark.on {
			words = append(words, mark.word)
		}
	}
	return strings.Join(words, ",")
}

func position(r session.Record) string {
	if r.Position == nil {
		return ""
	}
	return playTime(r.Position.NPT)
}

func length(r session.Record) string {
	if r.Live {
		return "live"
	}
	return playTime(r.Duration)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
