package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"scas/internal/command"
	"scas/sip"
)

// runFlags are the flags of handset run.
type runFlags struct {
	playFlags
	accept, words, noisy bool
	presence, activity   string
}

func newRun(e *env, a *account) *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use: "run", Short: "Register this terminal and stay", Args: args(cobra.NoArgs),
		Long: "Registers, shows offers and starts the player for one that is accepted: by --accept, by a\n" +
			"line yes or no on the standard input, or by handset yes. The same lines as commands are\n" +
			"understood: list, push, pull, yes, no, auto, name, cancel, presence, quit.",
		RunE: func(*cobra.Command, []string) error {
			if f.presence != "" && f.presence != "active" && f.presence != "idle" {
				return command.UsageError("--presence: want active or idle")
			}
			return stay(e, a, f)
		},
	}
	cmd.Flags().BoolVar(&f.accept, "accept", false, "accept every offer without asking")
	cmd.Flags().BoolVar(&f.words, "stdin", true, "read lines from the standard input")
	cmd.Flags().BoolVar(&f.noisy, "player-output", false, "show what players write")
	cmd.Flags().StringVar(&f.presence, "presence", "", "publish `active|idle` from the start")
	cmd.Flags().StringVar(&f.activity, "activity", "", "RPID `WORD` published with it: tv, away ...")
	f.flags(cmd, e)
	return cmd
}

// stay runs the agent until a signal or quit.
func stay(e *env, a *account, f *runFlags) (err error) {
	ctx, stop := e.signals()
	defer stop()
	out := &printer{w: e.stdout, json: a.output == "json"}
	g := &agent{accept: f.accept, play: f.players, login: f.login, print: out.print, noise: io.Discard}
	if f.noisy {
		g.noise = e.stderr
	}
	if err := startAgent(ctx, e, a, g); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	inner, end := context.WithCancel(ctx)
	defer end()
	wait, err := serveControl(inner, a.path(e), g)
	if err != nil {
		return err
	}
	defer wait()
	defer end()
	// The service learns from it that this terminal reads the machine form.
	if err := g.do(ctx, request{Order: &sip.Order{Op: "list"}}, func(event) {}); err != nil {
		out.print(newEvent(kindError, message{Text: err.Error()}))
	}
	if f.presence != "" {
		p := &presence{Active: f.presence == "active", Activity: f.activity}
		if err := g.do(ctx, request{Presence: p}, out.print); err != nil {
			out.print(newEvent(kindError, message{Text: err.Error()}))
		}
	}
	if f.words {
		go g.lines(ctx, e.stdin, end) // ends with the process: a read cannot be called off
	}
	<-inner.Done()
	return nil
}

// lines carries out what is typed. The end of the input is not the end of the handset.
func (g *agent) lines(ctx context.Context, in io.Reader, quit func()) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		if words[0] == "quit" {
			quit()
			return
		}
		r, err := typed(words)
		if err == nil {
			err = g.do(ctx, r, func(event) {}) // printed as it arrives
		}
		if err != nil && ctx.Err() == nil {
			g.print(newEvent(kindError, message{Text: err.Error()}))
		}
	}
}

// typed understands one line.
func typed(words []string) (request, error) {
	arg := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	n, o := len(words), sip.Order{Op: strings.ToLower(words[0])}
	bad := errors.New("want: list, push [SESSION] TERMINAL, pull [SESSION], yes [OFFER], no [OFFER], auto on|off, name NAME, cancel OFFER, presence active|idle, quit")
	switch o.Op {
	case "list":
		if n != 1 {
			return request{}, bad
		}
	case "push":
		if n < 2 || n > 3 {
			return request{}, bad
		}
		o.To = words[n-1]
		if n == 3 {
			o.Session = words[1]
		}
	case "pull":
		o.Session = arg(1)
	case "yes", "no":
		return request{Answer: o.Op, Offer: arg(1)}, nil
	case "auto":
		o.Mode = arg(1)
	case "name":
		o.Name = arg(1)
	case "cancel":
		o.Offer = arg(1)
	case "presence":
		if n < 2 || arg(1) != "active" && arg(1) != "idle" {
			return request{}, bad
		}
		return request{Presence: &presence{Active: arg(1) == "active", Activity: arg(2)}}, nil
	default:
		return request{}, bad
	}
	return request{Order: &o}, nil
}
