package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"scas/internal/command"
	"scas/internal/lab"
	"scas/session"
)

const (
	demoWatch = 4 * time.Second  // how long the phone plays before the order
	demoLimit = 55 * time.Second // for all of it
	realLimit = 3 * time.Minute  // with real players: the first time a film is made
)

func newDemo(e *env) *cobra.Command {
	var out output
	var real bool
	protocol := demoProtocol(protocolRTSP)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Play a film on a phone and move it to a TV, in namespaces on this machine",
		Long: "Builds a phone, a TV, a gateway and a media server as network namespaces, runs the whole daemon in the\n" +
			"gateway, plays a film on the phone, moves it to the TV, and tells what happened and when. Removes all of it\n" +
			"again. Exit code 1 when a figure is not what it should be. Needs root.",
		Args: atMost(0),
		RunE: func(*cobra.Command, []string) error {
			if real && protocol != protocolRTSP {
				return command.UsageError(fmt.Sprintf("demo: --real plays RTSP only: leave it out for --protocol %s", protocol))
			}
			if e.euid() != 0 {
				return errors.New("the demo makes network namespaces and loads BPF programs: run it as root")
			}
			ctx, _, stop := e.signals()
			defer stop()
			limit := demoLimit
			if real {
				limit = realLimit
			}
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			defer e.pipes()()
			d := &demo{e: e, real: real, began: e.now(), told: &listener{e.stdout, cancel}, fig: figures{Real: real, Protocol: string(protocol)}}
			if out.json() {
				d.told = io.Discard
			}
			return d.end(d.run(ctx), out)
		},
	}
	cmd.Flags().BoolVar(&real, "real", false, "with GStreamer's server and players (RTSP) instead of the embedded ones")
	cmd.Flags().Var(&protocol, "protocol", "the film comes over rtsp, mms (MMS over TCP) or mmsh (MMS over HTTP)")
	out.flag(cmd)
	return cmd
}

// What the film of a demo comes over.
const (
	protocolRTSP = "rtsp"
	protocolMMS  = "mms"
	protocolMMSH = "mmsh"
)

// demoProtocol is the value of --protocol.
type demoProtocol string

func (p *demoProtocol) String() string { return string(*p) }

// Type names the value in the help.
func (p *demoProtocol) Type() string { return "NAME" }

// Set takes the word of the command line.
func (p *demoProtocol) Set(s string) error {
	words := []string{protocolRTSP, protocolMMS, protocolMMSH}
	if !slices.Contains(words, s) {
		return fmt.Errorf("not one of %s%s", strings.Join(words, ", "), suggestOnly(s, words))
	}
	*p = demoProtocol(s)
	return nil
}

// listener is where the demo tells; when nobody listens any more it need not go on.
type listener struct {
	io.Writer
	cancel func()
}

// Write tells.
func (h *listener) Write(b []byte) (int, error) {
	n, err := h.Writer.Write(b)
	if err != nil {
		h.cancel()
	}
	return n, err
}

// errStopped is how a demo ends that somebody stopped.
var errStopped = errors.New("the demo was stopped; what it had made is gone again")

// demo is one run. Its steps are in demosteps.go.
type demo struct {
	e     *env
	real  bool
	began time.Time
	mu    sync.Mutex // guards told
	told  io.Writer
	fig   figures

	lab    *lab.Lab
	stage  stage
	daemon *demoDaemon
	phone  actor
	tv     actor
	record session.Record // of the phone's session
	opened time.Time      // when the TV opened the URL
	ended  chan ending    // the end of the phone's film, once the move is committed
}

// tell prints a line of the timeline.
func (d *demo) tell(who, format string, args ...any) { d.tellAt(d.e.now(), who, format, args...) }

func (d *demo) tellAt(at time.Time, who, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.told, "%6.2f s  %-10s %s\n", at.Sub(d.began).Seconds(), who, fmt.Sprintf(format, args...))
}

// run builds the network, plays, moves, and takes all of it down again.
func (d *demo) run(ctx context.Context) (err error) {
	if d.lab, err = lab.New(lab.Options{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.lab.Close()) }()
	d.tell("network", "phone %s, TV %s, gateway and media server %s are up", d.lab.Addr(lab.UE1), d.lab.Addr(lab.UE2), d.lab.Addr(lab.MS))
	before, err := d.lab.Snapshot(lab.GW)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "scas-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if d.daemon, err = startDemoDaemon(ctx, d.e, d.lab, dir); errors.Is(ctx.Err(), context.Canceled) {
		if err == nil {
			d.daemon.stop()
		}
		return errStopped
	} else if err != nil {
		return err
	}
	d.tell("gateway", "watches; phone and tv of sip:bob@ims.example are enrolled")
	err = d.play(ctx)
	d.fig.DaemonExit = d.daemon.stop()
	if errors.Is(ctx.Err(), context.Canceled) {
		return errStopped
	}
	if err != nil {
		return fmt.Errorf("%w\nscas serve said:\n%s", err, d.daemon.said.String())
	}
	after, err := d.lab.Snapshot(lab.GW)
	d.fig.LeftBehind = slices.DeleteFunc(after, func(line string) bool { return slices.Contains(before, line) })
	d.tell("gateway", "ended; its network has %d things it had not before", len(d.fig.LeftBehind))
	return err
}

// play is the part with the film.
func (d *demo) play(ctx context.Context) (err error) {
	switch {
	case d.real:
		d.tell("film", "made once, then kept in the cache")
		d.stage, err = newRealStage(ctx, d.lab)
	case d.fig.Protocol == protocolRTSP:
		d.stage, err = newSyntheticStage(d.lab)
	default:
		d.stage, err = newMMSStage(d.lab, d.fig.Protocol)
	}
	if err != nil {
		return err
	}
	defer d.stage.close()
	d.tell("phone", "opens %s", d.stage.url())
	if d.phone, err = d.stage.play(ctx, lab.UE1, d.stage.url()); err != nil {
		return fmt.Errorf("phone: %w", err)
	}
	defer d.phone.quit()
	for _, step := range []func(context.Context) error{d.watch, d.move, d.afterwards} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// end prints the figures and says whether they are right.
func (d *demo) end(err error, out output) error {
	if err != nil {
		return err
	}
	d.fig.Seconds = math.Round(d.e.now().Sub(d.began).Seconds()*10) / 10
	d.fig.judge()
	if out.json() {
		enc := json.NewEncoder(d.e.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(d.fig); err != nil {
			return err
		}
	} else {
		d.fig.write(d.e.stdout)
	}
	if d.fig.OK {
		if !out.json() {
			fmt.Fprintln(d.e.stdout, "\nThe film moved.")
		}
		return nil
	}
	for _, wrong := range d.fig.Wrong {
		fmt.Fprintf(d.e.stderr, "WRONG: %s\n", wrong)
	}
	return fmt.Errorf("the demo failed: %s", plural(uint64(len(d.fig.Wrong)), "wrong figure"))
}
