package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"scas/session"
)

// What the demo's gateway is configured with; the bounds below follow from it.
const (
	demoOverlap = time.Second
	demoSettle  = 2 * time.Second
	demoGOP     = time.Second // both films have a key picture each second
)

// Bounds on the figures.
const (
	maxTraced   = 0.25 // seconds: position delivered, against what the player has
	maxRendered = 0.5  // seconds: position on the screen
	maxStrays   = 5    // packets to the phone in a second of silence: ARP and the end of a connection
)

// figures is what a demo measured. Seconds; nil: not measured.
type figures struct {
	OK    bool     `json:"ok"`
	Wrong []string `json:"wrong"` // each figure that is not what it should be
	Real  bool     `json:"real"`

	Protocol string `json:"protocol"` // rtsp, mms or mmsh

	Samples       int      `json:"samples"`        // positions compared with the phone
	TracedError   *float64 `json:"traced_error"`   // median |npt - newest picture delivered|; nil with real players, who do not tell
	RenderedError *float64 `json:"rendered_error"` // median |rendered - picture on the screen|

	Transfer *session.Transfer `json:"transfer"`

	Asked        string   `json:"asked"`          // by the start request that reached the server from the TV, in the protocol's words
	LeftAt       *float64 `json:"left_at"`        // last picture the phone showed, in the film
	WentOnAt     *float64 `json:"went_on_at"`     // first picture the TV showed
	SeenTwice    *float64 `json:"seen_twice"`     // seconds of film on both screens; negative: missed
	SeenTwiceMax float64  `json:"seen_twice_max"` // overlap, GOP, settling over UDP, the phone's buffer, and 2 s
	TVAfter      *float64 `json:"tv_after"`       // from opening the URL to the first picture on the TV's screen
	PhoneEnded   *float64 `json:"phone_ended"`    // from committed to the phone's end
	PhoneEndMax  float64  `json:"phone_end_max"`  // its buffer and 5 s
	PhoneClean   bool     `json:"phone_clean"`    // it ended as at the end of a film
	Missing      int      `json:"missing"`        // pictures that neither screen showed in their turn
	Sessions     int      `json:"server_sessions"`
	Strays       int      `json:"packets_to_phone_afterwards"` // in one second
	DaemonExit   int      `json:"daemon_exit"`
	LeftBehind   []string `json:"left_behind"` // what the gateway's network had changed after the daemon
	Seconds      float64  `json:"seconds"`
}

// judge notes each figure that is not what it should be.
func (f *figures) judge() {
	f.Wrong = []string{}
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			f.Wrong = append(f.Wrong, fmt.Sprintf(format, args...))
		}
	}
	over := func(v *float64, limit float64) bool { return v == nil || math.IsNaN(*v) || *v > limit }
	bad(f.Samples < 3, "only %d positions were traced", f.Samples)
	bad(!f.Real && over(f.TracedError, maxTraced), "the traced position is %s off, more than %.2f s", shown(f.TracedError), maxTraced)
	bad(over(f.RenderedError, maxRendered), "the position on the screen is %s off, more than %.2f s", shown(f.RenderedError), maxRendered)
	if f.Transfer == nil {
		bad(true, "no transfer")
	} else {
		bad(f.Transfer.State != session.Done, "the transfer ended %s", transferState(*f.Transfer))
		bad(f.Transfer.Position == nil, "no position was written into the TV's request")
	}
	bad(f.SeenTwice == nil, "the TV showed nothing")
	if f.SeenTwice != nil {
		bad(*f.SeenTwice < 0, "%.2f s of the film were missed", -*f.SeenTwice)
		bad(*f.SeenTwice > f.SeenTwiceMax, "%.2f s of the film were seen twice, more than %.1f s", *f.SeenTwice, f.SeenTwiceMax)
	}
	bad(over(f.PhoneEnded, f.PhoneEndMax), "the phone ended %s after the TV played, later than %.1f s", shown(f.PhoneEnded), f.PhoneEndMax)
	bad(!f.PhoneClean, "the phone's player did not end as at the end of a film")
	bad(f.Missing > 0, "%d pictures are missing", f.Missing)
	bad(f.Sessions != 1, "the server holds %d sessions, not one", f.Sessions)
	bad(f.Strays > maxStrays, "%d packets still reached the phone", f.Strays)
	bad(f.DaemonExit != 0, "the daemon ended with exit code %d", f.DaemonExit)
	bad(len(f.LeftBehind) > 0, "the gateway left behind: %q", f.LeftBehind)
	f.OK = len(f.Wrong) == 0
}

func shown(v *float64) string {
	if v == nil {
		return "unknown"
	}
	return fmt.Sprintf("%.2f s", *v)
}

// write writes the figures for people.
func (f *figures) write(w io.Writer) {
	line := func(name, value, bound string) {
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("  %-34s %-12s %s", name, value, bound), " "))
	}
	fmt.Fprintln(w, "\nFigures")
	if f.TracedError != nil {
		line("position traced, off by", shown(f.TracedError), fmt.Sprintf("median of %d, at most %.2f s", f.Samples, maxTraced))
	}
	line("position on the screen, off by", shown(f.RenderedError), fmt.Sprintf("at most %.2f s", maxRendered))
	if t := f.Transfer; t != nil {
		line("written into the TV's request", orDash(playTime(t.Position)), "the server got "+orDash(f.Asked))
		line("the server started at", orDash(playTime(t.StartedAt)), "")
	}
	line("first picture on the TV", shown(f.TVAfter), "after it opened the URL")
	line("seen twice", shown(f.SeenTwice), fmt.Sprintf("0 to %.1f s", f.SeenTwiceMax))
	line("phone ended", shown(f.PhoneEnded), fmt.Sprintf("after the TV played, at most %.1f s", f.PhoneEndMax))
	line("pictures missing", fmt.Sprint(f.Missing), "0")
	line("sessions the server holds", fmt.Sprint(f.Sessions), "1")
	line("packets to the phone afterwards", fmt.Sprint(f.Strays), fmt.Sprintf("in a second, at most %d", maxStrays))
	line("left behind by the gateway", fmt.Sprint(len(f.LeftBehind)), "0")
	line("all of it took", fmt.Sprintf("%.1f s", f.Seconds), "")
}
