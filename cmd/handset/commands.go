package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"scas/internal/command"
	"scas/sip"
)

// playFlags are the flags of what can start a player.
type playFlags struct {
	players players
	login   string
}

func (f *playFlags) flags(cmd *cobra.Command, e *env) {
	f.players = players{"": {"mpv", "{url}"}}
	cmd.Flags().Var(f.players, "player", "command that plays a URL, for one scheme or for all others; {url} stands for it; default mpv {url}")
	cmd.Flags().StringVar(&f.login, "url-user", e.getenv("HANDSET_URL_USER"), "`NAME[:PASSWORD]` put into URLs, for servers with digest (HANDSET_URL_USER)")
}

func newList(e *env, a *account) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "What plays where, and the terminals", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return carryOut(cmd.Context(), e, a, &playFlags{}, request{Order: &sip.Order{Op: "list"}})
		},
	}
}

func newPush(e *env, a *account) *cobra.Command {
	noWait := false
	cmd := &cobra.Command{
		Use: "push [SESSION] TERMINAL", Short: "Move what plays here to another terminal",
		Long: "The other terminal is asked. The command ends with the move, or when it is refused.",
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, words []string) error {
			o := &sip.Order{Op: "push", To: words[len(words)-1]}
			if len(words) == 2 {
				o.Session = words[0]
			}
			return carryOut(cmd.Context(), e, a, &playFlags{}, request{Order: o, Wait: !noWait})
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "end as soon as the service has taken the order")
	return cmd
}

func newPull(e *env, a *account) *cobra.Command {
	f := &playFlags{}
	wait := false
	cmd := &cobra.Command{
		Use: "pull [SESSION]", Short: "Go on here with what plays on another terminal", Args: args(cobra.MaximumNArgs(1)),
		Long: "Starts the player. Where no handset runs, the command stays until the player ends.",
		RunE: func(cmd *cobra.Command, words []string) error {
			o := &sip.Order{Op: "pull"}
			if len(words) == 1 {
				o.Session = words[0]
			}
			return carryOut(cmd.Context(), e, a, f, request{Order: o, Wait: wait})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "end with the move; exit code 0 only when it is done")
	f.flags(cmd, e)
	return cmd
}

func newAuto(e *env, a *account) *cobra.Command {
	return &cobra.Command{
		Use: "auto on|off", Short: "Whether films follow you by themselves", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, words []string) error {
			if words[0] != "on" && words[0] != "off" {
				return command.UsageError("auto: want on or off")
			}
			return carryOut(cmd.Context(), e, a, &playFlags{}, request{Order: &sip.Order{Op: "auto", Mode: words[0]}})
		},
	}
}

func newName(e *env, a *account) *cobra.Command {
	return &cobra.Command{
		Use: "name NAME", Short: "Name this terminal", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, words []string) error {
			return carryOut(cmd.Context(), e, a, &playFlags{}, request{Order: &sip.Order{Op: "name", Name: words[0]}})
		},
	}
}

func newCancel(e *env, a *account) *cobra.Command {
	return &cobra.Command{
		Use: "cancel OFFER", Short: "Call a move off", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, words []string) error {
			return carryOut(cmd.Context(), e, a, &playFlags{}, request{Order: &sip.Order{Op: "cancel", Offer: words[0]}})
		},
	}
}

func newAnswer(e *env, a *account, word string) *cobra.Command {
	short := map[string]string{"yes": "Accept an offer and start the player", "no": "Decline an offer"}[word]
	return &cobra.Command{
		Use: word + " [OFFER]", Short: short, Args: args(cobra.MaximumNArgs(1)),
		Long: short + ". Only where a handset runs: the offer is with it.",
		RunE: func(cmd *cobra.Command, words []string) error {
			r := request{Answer: word}
			if len(words) == 1 {
				r.Offer = words[0]
			}
			ctx, stop := e.signals()
			defer stop()
			return through(ctx, e, a, r)
		},
	}
}

func newPresence(e *env, a *account) *cobra.Command {
	activity := ""
	cmd := &cobra.Command{
		Use: "presence active|idle", Short: "Publish whether you are at this terminal", Args: args(cobra.ExactArgs(1)),
		Long: "Publishes through the handset that runs, which keeps it published.",
		RunE: func(cmd *cobra.Command, words []string) error {
			if words[0] != "active" && words[0] != "idle" {
				return command.UsageError("presence: want active or idle")
			}
			ctx, stop := e.signals()
			defer stop()
			return through(ctx, e, a, request{Presence: &presence{Active: words[0] == "active", Activity: activity}})
		},
	}
	cmd.Flags().StringVar(&activity, "activity", "", "RPID `WORD`: tv, away, on-the-phone ...")
	return cmd
}

// through carries out a request by the handset that runs.
func through(ctx context.Context, e *env, a *account, r request) error {
	out := &printer{w: e.stdout, json: a.output == "json"}
	failed := false
	err := ask(ctx, a.path(e), r, func(v event) {
		failed = failed || v.failed()
		out.print(v)
	})
	if err == nil && failed {
		err = command.ErrSilent
	}
	return err
}

// carryOut carries out an order by the handset that runs, else by one of its own.
func carryOut(_ context.Context, e *env, a *account, f *playFlags, r request) error {
	ctx, stop := e.signals()
	defer stop()
	err := through(ctx, e, a, r)
	var unreachable command.UnreachableError
	if !errors.As(err, &unreachable) || a.aor == "" {
		return err
	}
	return alone(ctx, e, a, f, r)
}

// alone carries out an order with a registration of its own, and stays while its player runs.
func alone(ctx context.Context, e *env, a *account, f *playFlags, r request) (err error) {
	out := &printer{w: e.stdout, json: a.output == "json"}
	g := &agent{play: f.players, login: f.login, noise: io.Discard, print: func(v event) {
		if v.kind == kindPlayer || v.kind == kindError {
			out.print(v)
		}
	}}
	if err := startAgent(ctx, e, a, g); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	failed := false
	err = g.do(ctx, r, func(v event) {
		failed = failed || v.failed()
		out.print(v)
	})
	if err != nil {
		return err
	}
	if failed {
		return command.ErrSilent
	}
	if r.Order.Op == "pull" {
		done := make(chan struct{})
		go func() { g.stage.wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
	return nil
}
