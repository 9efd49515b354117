package sip

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	gosip "github.com/emiago/sipgo/sip"

	"scas/session"
)

// A MESSAGE is answered in these stages: message() admits it, finds who asks from which
// terminal, and answers the request; what it asks for is carried out after the answer
// (order.go), one order of a user at a time, and told by a MESSAGE of our own (tell.go).

// asker is the terminal that an order came from, and how to answer it. Known is false when the
// terminal cannot be told from the user's others.
type asker struct {
	id    identity // the user, as asserted
	b     session.Binding
	known bool
	form  form
	ref   string
	refer *referral // ordered by REFER: progress goes there
}

const acceptTypes = "text/plain, " + MoveType + ", message/cpim"

// message answers MESSAGE (RFC 3428).
func (o *orders) message(_ context.Context, r *request) reply {
	u, terminals, refusal := o.admit(r)
	if refusal != nil {
		return *refusal
	}
	c, form, refusal := o.read(r)
	return o.once(u, r, c.op == opList || c.op == opHelp || refusal != nil, func() reply {
		if refusal != nil {
			return *refusal
		}
		return o.take(u, r, c, form, u.named(terminals))
	})
}

// once answers a request by answer, which runs with u.mu held; its repetition as before; and what
// goes beyond the user's rate by 480. A question, which changes nothing, is not counted with the
// orders: terminals that start ask for the list.
func (o *orders) once(u *user, r *request, question bool, answer func() reply) reply {
	now, key := o.now(), requestKey(r)
	u.mu.Lock()
	defer u.mu.Unlock()
	if old := u.recent.get(key, now); old != nil {
		o.count.add("orders_repeated")
		return *old
	}
	rate, burst := &u.orders, o.cfg.Limits.Messages
	if question {
		rate, burst = &u.questions, 2*burst
	}
	if !rate.take(burst, messagesEvery, now) {
		o.count.add("orders_rate")
		return reply{code: 480, headers: []gosip.Header{gosip.NewHeader("Retry-After", strconv.Itoa(retryAfter))}}
	}
	a := answer()
	u.recent.put(key, reply{code: a.code, reason: a.reason, headers: a.headers}, now)
	return a
}

// requestKey is the same for a request and its repetitions.
func requestKey(r *request) string {
	tag := ""
	if from := r.From(); from != nil {
		tag, _ = from.Params.Get("tag")
	}
	return headerText(r, "Call-ID") + " " + headerText(r, "CSeq") + " " + tag
}

// admit returns the user who asks and the user's terminals, or the refusal (ims-sip 3.2, 5.3).
func (o *orders) admit(r *request) (*user, []session.Binding, *reply) {
	if !o.ours(r) {
		return nil, nil, &reply{code: 404}
	}
	aor, ok := o.dir.userOf(r.asserted)
	if r.asserted == "" || !ok {
		o.count.add("orders_unknown_user")
		return nil, nil, &reply{code: 403}
	}
	terminals := o.dir.terminalsOf(aor)
	if len(terminals) == 0 {
		o.count.add("orders_unregistered")
		return nil, nil, &reply{code: 403}
	}
	return o.user(aor), terminals, nil
}

// ours reports whether the request is for the service and not for somebody behind it.
func (o *orders) ours(r *request) bool {
	me, _ := parseURI(o.cfg.URI)
	u, ok := parseURI(r.Recipient.String())
	if !ok || u.user != "" && !strings.EqualFold(u.user, me.user) {
		return false
	}
	return u.host == me.host || u.addr().IsValid() || u.user == ""
}

// read understands a body; the reply is that to one that is no order.
func (o *orders) read(r *request) (c command, f form, no *reply) {
	kind, body := contentOf(headerText(r, "Content-Type"), r.Body())
	switch {
	case kind == "application/im-iscomposing+xml":
		return c, f, &reply{code: 200}
	case len(body) > maxBody:
		return c, f, &reply{code: 413}
	case kind != "text/plain" && kind != MoveType:
		return c, f, &reply{code: 415, headers: []gosip.Header{gosip.NewHeader("Accept", acceptTypes)}}
	}
	var err error
	if kind == MoveType {
		if c, err = parseMachine(body); err != nil {
			o.count.add("orders_bad")
			return c, f, &reply{code: 400, reason: "Body Not Understood"}
		}
	} else if c, err = parseWords(string(body)); err != nil {
		c = command{op: opHelp}
	}
	return c, formWanted(kind, headers(r, "Accept")), nil
}

// take accepts an order; it is carried out after the answer. u.mu is held.
func (o *orders) take(u *user, r *request, c command, f form, terminals []session.Binding) reply {
	who := asker{id: r.asserted, form: f, ref: c.ref}
	var refusal *reply
	if who.b, who.known, refusal = o.senderOf(r, terminals, c.me); refusal != nil {
		return *refusal
	}
	changed := false
	if who.known {
		u.activity.heard(who.b.Key, o.now())
		u.check = o.now()
		changed = u.wrote(who.b, who.form)
	}
	o.count.add("orders_" + string(c.op))
	code := 202
	if c.op == opList || c.op == opHelp {
		code = 200
	}
	return reply{code: code, after: func() {
		if changed {
			o.save(u)
		}
		o.carryOut(u, who, c)
	}}
}

// contentOf returns the media type and the content of a body; one level of CPIM is taken off
// (RFC 3862). No type counts as text.
func contentOf(contentType string, body []byte) (kind string, content []byte) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil && kind == "" {
		kind, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(contentType)), ";")
	}
	if kind == "" {
		kind = "text/plain"
	}
	if kind != "message/cpim" {
		return kind, body
	}
	body = bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))
	_, rest, ok := bytes.Cut(body, []byte("\n\n"))
	head, content, ok2 := bytes.Cut(rest, []byte("\n\n"))
	if !ok || !ok2 {
		return "message/cpim", body
	}
	inner := "text/plain"
	for line := range strings.SplitSeq(string(head), "\n") {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(strings.TrimSpace(name), "Content-Type") {
			inner = value
		}
	}
	kind, _, err = mime.ParseMediaType(inner)
	if err != nil || kind == "message/cpim" {
		return "message/cpim", content
	}
	return kind, content
}

// formWanted returns the form of the answer: as Accept says, else the form of the request.
func formWanted(kind string, accept []gosip.Header) form {
	if len(accept) == 0 && kind == MoveType {
		return formMachine
	}
	for _, h := range accept {
		for _, t := range splitOutside(h.Value(), ',') {
			t, _, _ = strings.Cut(t, ";")
			if strings.EqualFold(strings.TrimSpace(t), MoveType) {
				return formMachine
			}
		}
	}
	return formText
}

// sender returns the terminal that sent a request: the one the body names when it is the
// user's, else by the address of the bottom Via (ims-sip 3.3).
func sender(r *request, terminals []session.Binding, me string) (session.Binding, bool) {
	if me != "" {
		for _, b := range terminals {
			if sameInstance(b, me) {
				return b, true
			}
		}
	}
	addr := viaSource(r)
	var same []session.Binding
	for _, b := range terminals {
		u, _ := parseURI(b.Contact)
		if addr.Addr().IsValid() && (b.IP == addr.Addr() || u.addr() == addr.Addr()) {
			same = append(same, b)
		}
	}
	if len(same) > 1 {
		for _, b := range same {
			if u, ok := parseURI(b.Contact); ok && (u.port == strconv.Itoa(int(addr.Port())) || u.port == "" && addr.Port() == 5060) {
				return b, true
			}
		}
		return session.Binding{}, false
	}
	if len(same) == 1 {
		return same[0], true
	}
	return session.Binding{}, false
}

// senderOf is sender, and the user's only terminal for a request whose Via hides where it comes
// from. One that comes from where terminals live, but from none of the user's, is refused: the
// core answers a terminal and tells us of it at the same time, and the first order may be here
// before the registration (TS 24.229 §5.4.1.7); it is not another terminal's.
func (o *orders) senderOf(r *request, terminals []session.Binding, me string) (b session.Binding, known bool, refusal *reply) {
	b, known = sender(r, terminals, me)
	if known {
		return b, true, nil
	}
	from := viaSource(r).Addr().Unmap()
	theirs := slices.ContainsFunc(terminals, func(b session.Binding) bool {
		u, _ := parseURI(b.Contact)
		return !b.IP.IsValid() || b.IP == from || u.addr() == from
	})
	if !theirs && o.rules.admits(from) {
		o.count.add("orders_unregistered")
		return b, false, &reply{code: 403}
	}
	if len(terminals) == 1 {
		return terminals[0], true, nil
	}
	return b, false, nil
}

// viaSource is where a request began: received and rport of the bottom Via, else its sent-by;
// with one Via, the peer itself.
func viaSource(r *request) netip.AddrPort {
	bottom, n := bottomVia(r.Request)
	if n <= 1 {
		return r.peer
	}
	port := bottom.Port
	if v, ok := bottom.Params.Get("rport"); ok {
		if p, err := strconv.ParseUint(v, 10, 16); err == nil {
			port = int(p)
		}
	}
	if port <= 0 || port > 65535 {
		port = 5060
	}
	return netip.AddrPortFrom(viaAddr(bottom), uint16(port))
}

// user returns what is kept of a user.
func (o *orders) user(aor string) *user {
	o.mu.Lock()
	defer o.mu.Unlock()
	u := o.users[aor]
	if u == nil {
		u = newUser(aor)
		if kept, ok := o.kept[aor]; ok {
			u.restore(kept, o.now())
			delete(o.kept, aor)
		}
		o.users[aor] = u
	}
	return u
}

// save stores what the user chose. A store that is down costs only a restart's memory.
func (o *orders) save(u *user) {
	u.mu.Lock()
	kept := u.settings.Clone()
	u.mu.Unlock()
	o.renamed(u.aor)
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	if err := o.store.PutUser(ctx, kept); err != nil {
		o.count.add("store_failed")
		o.log.Warn("a user's settings are not stored", "err", err)
	}
}

// storeTime bounds one write to the store.
const storeTime = 5 * time.Second

// errOrder is the Reason of an order that was refused, nil for another error.
func errOrder(err error) *session.OrderError {
	var refused *session.OrderError
	if errors.As(err, &refused) {
		return refused
	}
	return nil
}
