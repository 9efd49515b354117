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
	o.spawn(func() { _ = o.send(who.to(), f, body, 0) })
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
	err := o.sendTo(t, to, f, body, expires)
	if err != nil {
		o.count.add("messages_failed")
		o.log.Debug("message not delivered", "aor", to.aor, "terminal", to.b.Name, "err", err)
		return fmt.Errorf("message to %s: %w", to.aor, err)
	}
	o.count.add("messages_sent")
	return nil
}

// sendTo sends along the whole Path. Some cores want only its last hop, the P-CSCF: they look
// for a contact among their users and find nobody (Kamailio 5.6.3; ims-sip 3.3). What worked
// is tried first the next time.
func (o *orders) sendTo(t target, to recipient, f form, body []byte, expires int) error {
	if len(t.Route) < 2 || t.Address.IsValid() {
		return o.sendOnce(t, to, f, body, expires)
	}
	last := t
	last.Route = t.Route[len(t.Route)-1:]
	first, second := t, last
	if o.lastHop.Load() {
		first, second = last, t
	}
	err := o.sendOnce(first, to, f, body, expires)
	var refused *errNotDelivered
	if !errors.As(err, &refused) || refused.code != 480 && refused.code != 404 {
		return err
	}
	if err2 := o.sendOnce(second, to, f, body, expires); err2 == nil {
		o.lastHop.Store(!o.lastHop.Load())
		return nil
	}
	return err
}

func (o *orders) sendOnce(t target, to recipient, f form, body []byte, expires int) error {
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
	return err
}
