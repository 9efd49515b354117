package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"scas/internal/command"
	"scas/session"
	"scas/tracer"
)

// defaultEvery is how often scas trace tells positions as JSON.
const defaultEvery = 200 * time.Millisecond

// traceFlags are the flags of scas trace.
type traceFlags struct {
	file, iface string
	every       time.Duration
	out         output
}

func newTrace(e *env) *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:   "trace -r FILE | -i IFACE",
		Short: "Read the sessions and positions out of a capture or off an interface",
		Long: "Reads a pcap or pcapng file, packed by gzip or not, or what passes an interface, and tells each session and where it is.\n" +
			"With -o json: one object a line, of type session, position or summary; t is Unix time of the capture.\n" +
			"Needs no daemon; a file needs no privileges either.",
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case (f.file == "") == (f.iface == ""):
				return command.UsageError("trace: name either a file (-r) or an interface (-i)")
			case f.every < 0:
				return command.UsageError("trace: --every cannot be negative")
			case f.out.json() && !cmd.Flags().Changed("every"):
				f.every = defaultEvery
			}
			return trace(e, &f)
		},
	}
	cmd.Flags().StringVarP(&f.file, "read", "r", "", "the capture `FILE`")
	cmd.Flags().StringVarP(&f.iface, "interface", "i", "", "the `INTERFACE` to listen on")
	cmd.Flags().DurationVar(&f.every, "every", 0, "tell positions so often (json: 200ms when not given; table: not at all)")
	f.out.flag(cmd)
	return cmd
}

// trace prints what tracer finds. A capture that ends in the middle of a packet is told, and
// is no failure: that is what a stopped recorder leaves. One that is damaged is read up to there.
func trace(e *env, f *traceFlags) error {
	var p tracePrinter = &traceTable{w: e.stdout}
	if f.out.json() {
		p = &traceJSON{enc: json.NewEncoder(e.stdout)}
	}
	var stats tracer.Stats
	var err error
	cfg := tracer.Config{AnyPort: true}
	if f.file != "" {
		stats, err = tracer.ReadFile(f.file, cfg, f.every, p)
	} else {
		ctx, _, stop := e.signals()
		defer stop()
		if !f.out.json() {
			fmt.Fprintf(e.stderr, "listening on %s until Ctrl-C\n", clean(f.iface))
		}
		if stats, err = tracer.Capture(ctx, f.iface, cfg, f.every, p); errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w: listening needs root or CAP_NET_RAW", err)
		}
	}
	cut := errors.Is(err, io.ErrUnexpectedEOF) && stats.Packets > 0
	if err != nil && stats.Packets == 0 {
		return err
	}
	if err := p.summary(stats); err != nil {
		return err
	}
	if cut {
		fmt.Fprintln(e.stderr, "scas: the capture ends in the middle of a packet")
		return nil
	}
	return err
}

// tracePrinter prints what a trace finds. The first error of writing is told by summary.
type tracePrinter interface {
	tracer.Report
	summary(tracer.Stats) error
}

// traceJSON prints the lines of DESIGN §7.
type traceJSON struct {
	enc *json.Encoder
	err error
}

func (p *traceJSON) put(v any) {
	if p.err == nil {
		p.err = p.enc.Encode(v)
	}
}

// Session prints a session that changed.
func (p *traceJSON) Session(r session.Record) {
	if r.Tracks == nil {
		r.Tracks = []session.Track{}
	}
	p.put(struct {
		Type string  `json:"type"`
		T    float64 `json:"t"`
		session.Record
		Gateway *string `json:"gateway"` // hides Record's own: a trace is none
	}{"session", unixSeconds(r.Updated), r, nil})
}

// Position prints where a session is.
func (p *traceJSON) Position(id string, pos session.Position) {
	p.put(struct {
		Type     string         `json:"type"`
		T        float64        `json:"t"`
		Session  string         `json:"session"`
		NPT      *float64       `json:"npt"`
		Rendered *float64       `json:"rendered"`
		Error    float64        `json:"error"`
		Source   session.Source `json:"source"`
	}{"position", unixSeconds(pos.At), id, pos.NPT, pos.Rendered, pos.Error, pos.Source})
}

func (p *traceJSON) summary(s tracer.Stats) error {
	p.put(struct {
		Type       string `json:"type"`
		Sessions   uint64 `json:"sessions"`
		Packets    uint64 `json:"packets"`
		Bytes      uint64 `json:"bytes"`
		RTPPackets uint64 `json:"rtp_packets"`
		Media      uint64 `json:"media_packets"` // of MMS
		Undecoded  uint64 `json:"undecoded"`
		Gaps       uint64 `json:"gaps"`
		Fragments  uint64 `json:"fragments"`
		NotIP      uint64 `json:"not_ip"`
	}{"summary", s.Sessions, s.Packets, s.Bytes, s.RTPPackets, s.MediaPackets, s.Undecoded, s.Gaps, s.Fragments, s.NotIP})
	return p.err
}

// unixSeconds returns t in seconds, exact to the microsecond a capture has.
func unixSeconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// traceTable prints lines for people.
type traceTable struct {
	w   io.Writer
	err error
}

func (p *traceTable) line(at time.Time, id, what string) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, "%s  %-6s %s\n", at.Local().Format("15:04:05.000"), clean(id), clean(what))
	}
}

// Session prints a session that changed.
func (p *traceTable) Session(r session.Record) {
	p.line(r.Updated, r.ID, fmt.Sprintf("%-8s %-12s of %-12s %s/%s %s > %s %s", state(r), orDash(position(r)), orDash(length(r)),
		r.Protocol, r.Transport, r.Terminal.IP, r.Server, orNone(r.URL)))
}

// Position prints where a session is.
func (p *traceTable) Position(id string, pos session.Position) {
	p.line(pos.At, id, fmt.Sprintf("position %-12s ± %.2f s by %s", orDash(playTime(pos.NPT)), pos.Error, pos.Source))
}

func (p *traceTable) summary(s tracer.Stats) error {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, "%s in %d packets (%d of media, %d not decoded, %d neither IPv4 nor IPv6, %d later fragments, %d gaps), %d bytes\n",
			plural(s.Sessions, "session"), s.Packets, s.RTPPackets+s.MediaPackets, s.Undecoded, s.NotIP, s.Fragments, s.Gaps, s.Bytes)
	}
	return p.err
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}
