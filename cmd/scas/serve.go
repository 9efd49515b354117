package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"scas/internal/command"
)

// serveFlags are the flags of scas serve.
type serveFlags struct {
	configFlags
	drain    time.Duration
	logLevel string
	logForm  string
}

func newServe(e *env) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway, the application server, or both",
		Long: "Watches the sessions of the users and moves them when asked; what this process is of that, roles says.\n" +
			"On SIGTERM or SIGINT no film is moved any more, and the gateway ends: films that are watched go on\n" +
			"by themselves; those that were moved end, unless --drain gives them time to. A second signal ends at once.",
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.fromEnviron(e, cmd); err != nil {
				return err
			}
			log, err := f.logger(e)
			if err != nil {
				return err
			}
			c, err := f.load(e)
			if err != nil {
				return err
			}
			return serve(e, c, f.drain, log)
		},
	}
	f.flags(cmd)
	cmd.Flags().DurationVar(&f.drain, "drain", 0, "how long moved films may go on after the first signal (or $SCAS_DRAIN)")
	cmd.Flags().StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error (or $SCAS_LOG_LEVEL)")
	cmd.Flags().StringVar(&f.logForm, "log-format", "text", "text or json (or $SCAS_LOG_FORMAT)")
	return cmd
}

// fromEnviron takes SCAS_DRAIN and the like for flags that were not given.
func (f *serveFlags) fromEnviron(e *env, cmd *cobra.Command) error {
	for flag, name := range map[string]string{"drain": "SCAS_DRAIN", "log-level": "SCAS_LOG_LEVEL", "log-format": "SCAS_LOG_FORMAT"} {
		value := e.getenv(name)
		if value == "" || cmd.Flags().Changed(flag) {
			continue
		}
		if err := cmd.Flags().Set(flag, value); err != nil {
			return command.UsageError(name + ": " + err.Error())
		}
	}
	if f.drain < 0 {
		return command.UsageError("serve: --drain cannot be negative")
	}
	return nil
}

func (f *serveFlags) logger(e *env) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, command.UsageError(fmt.Sprintf("serve: --log-level %q: want debug, info, warn or error", f.logLevel))
	}
	opts := &slog.HandlerOptions{Level: level}
	switch f.logForm {
	case "text":
		return slog.New(slog.NewTextHandler(e.stderr, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(e.stderr, opts)), nil
	}
	return nil, command.UsageError(fmt.Sprintf("serve: --log-format %q: want text or json", f.logForm))
}

// serve runs the gateway until a signal ends it or a part of it breaks.
func serve(e *env, c config, drain time.Duration, log *slog.Logger) error {
	asked, atOnce, stop := e.signals()
	defer stop()
	n, err := openNode(e, c, log)
	if err != nil {
		if c.watches() {
			err = explain(err)
		}
		return err
	}
	running, broken := context.WithCancelCause(context.Background())
	defer broken(nil)
	n.start(broken)
	n.announce(log)

	select {
	case <-asked.Done():
		log.Info("asked to end", "drain", drain)
		ctx, cancel := context.WithTimeout(atOnce, drain)
		n.drain(ctx)
		cancel()
	case <-running.Done():
	}
	why := context.Cause(running)
	broken(nil)
	err = errors.Join(why, n.close())
	if err != nil {
		log.Error(n.what()+" is down", "err", err)
		return err
	}
	log.Info(n.what() + " is down")
	return nil
}
