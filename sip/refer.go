package sip

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"

	gosip "github.com/emiago/sipgo/sip"

	"scas/session"
)

// referral is the implicit subscription of a REFER (RFC 3515 §2.4): its progress goes back as
// sipfrag. Nil takes everything and does nothing.
type referral struct {
	template *gosip.Request // NOTIFY without CSeq and body

	mu   sync.Mutex // guards what follows; held while a NOTIFY is sent, so that they keep order
	cseq uint32
	over bool
}

// refer answers REFER: a push to one of the user's own terminals (ims-sip 3.6).
func (o *orders) refer(_ context.Context, r *request) reply {
	u, bindings, refusal := o.admit(r)
	if refusal != nil {
		return *refusal
	}
	return o.once(u, r, false, func() reply { return o.readRefer(u, r, u.named(bindings)) })
}

// readRefer understands a REFER. u.mu is held.
func (o *orders) readRefer(u *user, r *request, terminals []session.Binding) reply {
	refers := headers(r, "Refer-To")
	if len(refers) != 1 {
		return reply{code: 400, reason: "Exactly One Refer-To"}
	}
	if to := r.To(); to != nil && to.Params.Has("tag") {
		return reply{code: 481} // we have no dialog
	}
	to, number, ok := o.referTo(refers[0].Value(), terminals)
	if !ok {
		o.count.add("refer_refused")
		return reply{code: 403}
	}
	if r.GetHeader("Target-Dialog") != nil || r.GetHeader("Replaces") != nil {
		return reply{code: 481} // of a call; none is anchored here
	}
	who := asker{id: r.asserted, form: formText}
	who.b, who.known = sender(r, terminals, "")
	if who.known {
		who.form = u.formOf(who.b)
	}
	quiet := strings.EqualFold(headerText(r, "Refer-Sub"), "false")
	a := reply{code: 200}
	if quiet {
		a.headers = []gosip.Header{gosip.NewHeader("Refer-Sub", "false")}
	} else if who.refer = o.newReferral(r); who.refer == nil {
		return reply{code: 400, reason: "No Contact"}
	} else {
		a.headers = []gosip.Header{o.stack.contact(r.transport)}
	}
	o.count.add("orders_refer")
	a.after = func() {
		who.refer.notify(o, "SIP/2.0 100 Trying", false)
		u.work.Lock()
		defer u.work.Unlock()
		o.move(u, who, command{op: opPush, session: number, to: to.Key})
	}
	return a
}

// referTo returns the terminal of the user that a Refer-To names, by GRUU, contact, instance or
// as NAME at our domain, and the number of the session in Subject. Anything else is refused: an
// AS that follows any Refer-To is a relay for attacks.
func (o *orders) referTo(value string, terminals []session.Binding) (to session.Binding, number string, ok bool) {
	uri := addrSpec(value)
	u, ok := parseURI(uri)
	if !ok || len(uri) > maxURI {
		return to, "", false
	}
	head, query, _ := strings.Cut(uri, "?")
	for h := range strings.SplitSeq(query, "&") {
		name, v, _ := strings.Cut(h, "=")
		if strings.EqualFold(name, "Subject") {
			number, _ = url.PathUnescape(v)
		}
		if strings.EqualFold(name, "Replaces") {
			return to, "", false
		}
	}
	if number != "" && !validNumber(number) {
		return to, "", false
	}
	me, _ := parseURI(o.cfg.URI)
	gr := param(u.params, "gr")
	i := slices.IndexFunc(terminals, func(b session.Binding) bool {
		switch {
		case b.GRUU != nil && sameGRUU(*b.GRUU, head):
			return true
		case gr != "":
			return b.Instance != nil && strings.EqualFold(bareInstance(*b.Instance), gr) && o.about(b.AoR, bareAoR(head))
		case b.Contact != "" && sameURI(b.Contact, head):
			return true
		}
		return u.host == me.host && strings.EqualFold(u.user, b.Name)
	})
	if i < 0 {
		return to, "", false
	}
	return terminals[i], number, true
}

func bareAoR(uri string) string {
	head, _, _ := strings.Cut(uri, ";")
	return head
}

// sameGRUU compares two GRUUs: as AoR, and their gr parameters.
func sameGRUU(a, b string) bool {
	x, xok := parseURI(a)
	y, yok := parseURI(b)
	return xok && yok && x.user == y.user && x.host == y.host &&
		param(x.params, "gr") != "" && strings.EqualFold(param(x.params, "gr"), param(y.params, "gr"))
}

// newReferral makes the subscription of a REFER; it gives its To the tag that the answer and
// the NOTIFYs carry. Nil when the REFER has no contact to notify.
func (o *orders) newReferral(r *request) *referral {
	contact, from, to := r.Contact(), r.From(), r.To()
	if contact == nil || from == nil || to == nil {
		return nil
	}
	to.Params.Add("tag", newToken(8))
	var route []string
	for _, h := range r.GetHeaders("Record-Route") {
		route = append(route, h.Value())
	}
	t := target{URI: contact.Address.String(), Route: route, Transport: r.transport, Listener: r.listener}
	if len(route) == 0 && !r.trusted {
		t.Address = r.peer
	}
	req := o.stack.newRequest("NOTIFY", t)
	for _, name := range []string{"From", "To", "Call-ID"} {
		req.RemoveHeader(name)
	}
	req.AppendHeader(gosip.NewHeader("From", to.Value()))
	req.AppendHeader(gosip.NewHeader("To", from.Value()))
	req.AppendHeader(gosip.NewHeader("Call-ID", headerText(r, "Call-ID")))
	req.AppendHeader(gosip.NewHeader("Event", "refer"))
	req.AppendHeader(gosip.NewHeader("Content-Type", "message/sipfrag;version=2.0"))
	req.AppendHeader(o.stack.contact(r.transport))
	return &referral{template: req}
}

// end tells how a transfer ended.
func (f *referral) end(o *orders, state session.TransferState) {
	line := "SIP/2.0 500 Server Internal Error"
	switch state {
	case session.Done:
		line = "SIP/2.0 200 OK"
	case session.Declined:
		line = "SIP/2.0 603 Decline"
	case session.Expired:
		line = "SIP/2.0 408 Request Timeout"
	case session.Cancelled:
		line = "SIP/2.0 487 Request Terminated"
	}
	f.finish(o, line)
}

// finish sends the last NOTIFY.
func (f *referral) finish(o *orders, line string) {
	if f != nil {
		o.spawn(func() { f.notify(o, line, true) })
	}
}

// notify sends one NOTIFY; after the last one nothing more is sent.
func (f *referral) notify(o *orders, line string, last bool) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return
	}
	f.over = last
	f.cseq++
	req := f.template.Clone()
	req.RemoveHeader("CSeq")
	req.AppendHeader(&gosip.CSeqHeader{SeqNo: f.cseq, MethodName: "NOTIFY"})
	state := "active;expires=300"
	if last {
		state = "terminated;reason=noresource"
	}
	req.AppendHeader(gosip.NewHeader("Subscription-State", state))
	req.SetBody([]byte(line + "\r\n"))
	ctx, cancel := context.WithTimeout(o.background, sendTime)
	defer cancel()
	if res, err := o.stack.send(ctx, req); err != nil || res.StatusCode >= 300 {
		o.count.add("refer_notify_failed")
	}
}
