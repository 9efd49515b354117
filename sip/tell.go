package sip

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	gosip "github.com/emiago/sipgo/sip"

	"scas/session"
)

// recipient is whom a MESSAGE of ours goes to: one terminal, or when that cannot be told, the
// user, which reaches all of the user's terminals.
type recipient struct {
	aor   identity
	b     session.Binding
	known bool
}

func (a asker) to() recipient { return recipient{aor: a.id, b: a.b, known: a.known} }

// tell answers who asked, in the form wanted: v as JSON, or text. A nil v has no machine form;
// it is sent as text.
func (o *orders) tell(who asker, v any, text string) {
	f, body := who.form, []byte(text)
	if f == formMachine && v != nil {
		raw, err := encode(v)
		if err != nil {
			o.log.Error("answer not written", "err", err)
			return
		}
		body = raw
	} else {
		f = formText
	}
	o.spawn(func() { o.send(who.to(), f, body, 0) })
}

// spawn runs what waits for the network. When too much is on its way, or the service is about
// to end, it is left undone and counted.
func (o *orders) spawn(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return
	}
	select {
	case o.slots <- struct{}{}:
	default:
		o.count.add("messages_dropped")
		return
	}
	o.wg.Go(func() {
		defer func() { <-o.slots }()
		f()
	})
}

// errNotDelivered: a MESSAGE was refused, with the status.
type errNotDelivered struct{ code int }

func (e *errNotDelivered) Error() string { return "answered " + strconv.Itoa(e.code) }

// errNoContact: the terminal is known without SIP.
var errNoContact = errors.New("no contact")

// send sends one MESSAGE and waits for its final answer; expires in seconds, 0 for none. An
// answer other than 2xx is *errNotDelivered.
func (o *orders) send(to recipient, f form, body []byte, expires int) error {
	t := target{URI: string(to.aor)}
	if to.known {
		var ok bool
		if t, ok = o.dir.targetOf(to.b); !ok {
			return errNoContact
		}
	}
	req := o.stack.newRequest("MESSAGE", t)
	req.ReplaceHeader(gosip.NewHeader("To", "<"+string(to.aor)+">"))
	kind := "text/plain;charset=UTF-8"
	if f == formMachine {
		kind = MoveType
	}
	req.AppendHeader(gosip.NewHeader("Content-Type", kind))
	if expires > 0 {
		req.AppendHeader(gosip.NewHeader("Expires", strconv.Itoa(expires)))
	}
	req.SetBody(body)
	ctx, cancel := context.WithTimeout(o.background, sendTime)
	defer cancel()
	res, err := o.stack.sendFrom(ctx, req, t.Listener)
	if err == nil && res.StatusCode >= 300 {
		err = &errNotDelivered{code: res.StatusCode}
	}
	if err != nil {
		o.count.add("messages_failed")
		o.log.Info("message not delivered", "aor", to.aor, "terminal", to.b.Name, "err", err)
		return fmt.Errorf("message to %s: %w", to.aor, err)
	}
	o.count.add("messages_sent")
	return nil
}
