package sip

import (
	"context"
	"errors"
	"log/slog"

	gosip "github.com/emiago/sipgo/sip"
)

// quietHandler takes what sipgo logs: it counts errors and lets texts through at debug level
// only, without their attributes, which hold whole messages and with them credentials.
type quietHandler struct {
	to    slog.Handler
	count *counters
}

func quietLogger(log *slog.Logger, c *counters) *slog.Logger {
	return slog.New(quietHandler{to: log.Handler(), count: c})
}

// Enabled lets errors through to be counted.
func (h quietHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError || level >= slog.LevelInfo && h.to.Enabled(ctx, slog.LevelDebug)
}

// Handle counts and passes on the bare text.
func (h quietHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		if r.Message == "failed to parse" {
			h.count.add("unparsed")
		} else {
			h.count.add("stack_errors")
		}
	}
	if !h.to.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	out := slog.NewRecord(r.Time, slog.LevelDebug, "sip stack", r.PC)
	out.AddAttrs(slog.String("text", r.Message))
	return h.to.Handle(ctx, out)
}

// WithAttrs drops the attributes.
func (h quietHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup drops the group.
func (h quietHandler) WithGroup(string) slog.Handler { return h }

// cause is the innermost error: what is wrapped around it may name a user or an address, and
// neither belongs into the log above debug level.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// lenientParsers are sipgo's header parsers, but what one cannot read stays as text: the
// getter returns nil then and check answers, instead of silence.
func lenientParsers() map[string]gosip.HeaderParser {
	out := map[string]gosip.HeaderParser{}
	for name, parse := range gosip.DefaultHeadersParser() {
		if name == "contact" || name == "m" {
			continue // kept as it came: sipgo puts brackets where there were none
		}
		out[name] = func(key []byte, text string) (h gosip.Header, err error) {
			defer func() { // this runs in the one reader of a socket: it must not end it
				if recover() != nil {
					h, err = gosip.NewHeader(string(key), text), nil
				}
			}()
			h, err = parse(key, text)
			if err == nil || err.Error() == "comma detected" {
				return h, err
			}
			return gosip.NewHeader(string(key), text), nil
		}
	}
	return out
}
