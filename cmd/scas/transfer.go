package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"scas/internal/command"
	"scas/session"
)

// transferFlags are the flags of scas transfer.
type transferFlags struct {
	clientFlags
	out             output
	to, cancel      string
	wait            bool
	requirePosition bool
}

func newTransfer(e *env) *cobra.Command {
	var f transferFlags
	cmd := &cobra.Command{
		Use:   "transfer [SESSION] --to NAME|IP|URI",
		Short: "Move a session to another terminal of its user",
		Long: "Orders a move. The target then has to open the URL that is printed; its player starts where\n" +
			"the film is by then, and the film on the first terminal ends once the target plays.\n" +
			"Without SESSION the newest playing session of the target's user is moved.",
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, words []string) error {
			switch {
			case f.cancel != "" && (f.to != "" || f.wait || len(words) > 0):
				return command.UsageError("transfer: --cancel goes alone")
			case f.cancel != "":
				return cancelTransfer(cmd.Context(), e, &f)
			case f.to == "":
				return command.UsageError("transfer: --to is missing: the name, address or SIP URI of the target")
			case len(words) == 1:
				return orderTransfer(e, &f, words[0])
			}
			return orderTransfer(e, &f, "")
		},
	}
	cmd.Flags().StringVar(&f.to, "to", "", "where to: the `TARGET`'s name, address or SIP URI")
	cmd.Flags().BoolVar(&f.wait, "wait", false, "wait until the transfer has ended; exit code 0 only when it is done")
	cmd.Flags().BoolVar(&f.requirePosition, "require-position", false, "refuse a session that cannot be continued where it is")
	cmd.Flags().StringVar(&f.cancel, "cancel", "", "call the transfer `ID` off instead")
	f.out.flag(cmd)
	f.flags(cmd)
	return cmd
}

func cancelTransfer(ctx context.Context, e *env, f *transferFlags) error {
	raw, err := f.client(e).call(ctx, http.MethodDelete, "/v1/transfers/"+url.PathEscape(f.cancel), nil)
	if err != nil || f.out.json() {
		return orJSON(e, raw, err)
	}
	fmt.Fprintf(e.stdout, "%s: cancelled\n", clean(f.cancel))
	return nil
}

func orderTransfer(e *env, f *transferFlags, id string) error {
	ctx, _, stop := e.signals()
	defer stop()
	c := f.client(e)
	body := map[string]any{"session": id, "to": f.to, "mode": "resume"}
	if f.requirePosition {
		body["require_position"] = true
	}
	raw, err := c.call(ctx, http.MethodPost, "/v1/transfers", body)
	if err != nil {
		return err
	}
	var t session.Transfer
	if err := json.Unmarshal(raw, &t); err != nil {
		return fmt.Errorf("the daemon's answer cannot be read: %w", err)
	}
	if !f.wait {
		if f.out.json() {
			return writeJSON(e.stdout, raw)
		}
		announce(e, t)
		return nil
	}
	if !f.out.json() {
		announce(e, t)
	}
	raw, t, err = waitTransfer(ctx, e, c, t.ID, t.State, f.out.json())
	if err != nil {
		return err
	}
	if f.out.json() {
		err = writeJSON(e.stdout, raw)
	} else {
		err = showTransfer(e.stdout, e.now(), t)
	}
	if err == nil && t.State != session.Done {
		err = fmt.Errorf("the transfer ended %s", transferState(t))
		if text := why(t); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
	}
	return err
}

func announce(e *env, t session.Transfer) {
	fmt.Fprintf(e.stdout, "%s: %s. Now open this on %s:\n%s\n", clean(t.ID), t.State, clean(terminal(t.To)), clean(t.URL))
}

// waitTransfer follows the transfer until it has ended, and tells each new state on stderr
// unless quiet. A stream of events that ends is opened again; the transfer is read first.
func waitTransfer(ctx context.Context, e *env, c *client, id string, last session.TransferState, quiet bool) (json.RawMessage, session.Transfer, error) {
	look := func(raw []byte) (session.Transfer, bool) {
		var t session.Transfer
		if json.Unmarshal(raw, &t) != nil || t.ID != id {
			return t, false
		}
		if t.State != last && !quiet {
			fmt.Fprintf(e.stderr, "%s: %s\n", clean(t.ID), transferState(t))
		}
		last = t.State
		return t, !t.State.Open()
	}
	for {
		events, err := c.watchTransfers(ctx)
		if full := (*apiError)(nil); errors.As(err, &full) && full.status == http.StatusServiceUnavailable {
			events, err = nil, nil // too many follow the events: look now and then
		}
		if err != nil {
			return nil, session.Transfer{}, waitError(ctx, id, err)
		}
		raw, err := c.call(ctx, http.MethodGet, "/v1/transfers/"+url.PathEscape(id), nil)
		if err != nil {
			return nil, session.Transfer{}, waitError(ctx, id, err)
		}
		if t, ended := look(raw); ended {
			return raw, t, nil
		}
		for events != nil {
			raw, ok := <-events
			if !ok {
				break
			}
			if t, ended := look(raw); ended {
				return raw, t, nil
			}
		}
		select { // the daemon cut us off or is going down: not too fast
		case <-ctx.Done():
			return nil, session.Transfer{}, waitError(ctx, id, ctx.Err())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func waitError(ctx context.Context, id string, err error) error {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return fmt.Errorf("stopped waiting; transfer %s goes on", id)
	}
	return err
}
