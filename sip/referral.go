package sip

import (
	"context"
	"strings"
	"sync"
	"time"

	gosip "github.com/emiago/sipgo/sip"

	"scas/session"
)

// referral is the implicit subscription of a REFER (RFC 3515 §2.4): its progress goes back as
// sipfrag. The terminal may refresh it or end it by SUBSCRIBE (RFC 6665 §4.2.1). Nil takes
// everything and does nothing.
type referral struct {
	aor      string         // who referred
	key      string         // of the dialog
	template *gosip.Request // NOTIFY without CSeq and body

	sending sync.Mutex // held while a NOTIFY is on its way, so that they keep order; taken before mu

	mu     sync.Mutex // guards what follows
	cseq   uint32     // of the newest NOTIFY
	remote uint32     // CSeq of the newest SUBSCRIBE
	line   string     // progress, as told last
	until  time.Time
	over   bool
}

// referLife is how long a REFER is subscribed to, and the longest that a refresh gets: longer
// than an offer and its opening take.
const referLife = 5 * time.Minute

// trying is the progress of an order that is under way.
const trying = "SIP/2.0 100 Trying"

// newReferral makes the subscription of a REFER; it gives its To the tag that the answer and
// the NOTIFYs carry. Nil when the REFER has no contact to notify.
func (o *orders) newReferral(r *request, aor string) *referral {
	contact, from, to := r.Contact(), r.From(), r.To()
	if contact == nil || from == nil || to == nil {
		return nil
	}
	tag := newToken(8)
	to.Params.Add("tag", tag)
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
	f := &referral{
		aor: aor, key: headerText(r, "Call-ID") + " " + tag, template: req,
		remote: r.CSeq().SeqNo, line: trying, until: o.now().Add(referLife),
	}
	o.mu.Lock()
	o.referrals[f.key] = f
	o.mu.Unlock()
	return f
}

// subscribe answers the SUBSCRIBE by which a terminal refreshes or ends the subscription that its
// REFER made. There are no others.
func (o *orders) subscribe(_ context.Context, r *request) reply {
	event, _, _ := strings.Cut(headerText(r, "Event"), ";")
	tag := ""
	if to := r.To(); to != nil {
		tag, _ = to.Params.Get("tag")
	}
	switch {
	case !strings.EqualFold(strings.TrimSpace(event), "refer"):
		return reply{code: 489, headers: []gosip.Header{gosip.NewHeader("Allow-Events", "refer")}}
	case tag == "":
		return reply{code: 403} // only a REFER makes one (RFC 3515 §2.4.4)
	}
	o.mu.Lock()
	f := o.referrals[headerText(r, "Call-ID")+" "+tag]
	o.mu.Unlock()
	aor, known := o.dir.userOf(r.asserted)
	if f == nil || !known || f.aor != aor {
		return reply{code: 481}
	}
	life, said := expiresOf(r.Request)
	if life > referLife || !said {
		life = referLife
	}
	now := o.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.over || now.After(f.until):
		return reply{code: 481}
	case r.CSeq().SeqNo <= f.remote:
		return reply{code: 500, reason: "Late Request"} // RFC 3261 §12.2.2
	}
	f.remote, f.until = r.CSeq().SeqNo, now.Add(life)
	line := f.line
	return reply{
		code: 200, headers: []gosip.Header{gosip.NewHeader("Expires", deltaSeconds(life)), o.stack.contact(r.transport)},
		after: func() { f.notify(o, line, life == 0, "timeout") },
	}
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
		o.spawn(func() { f.notify(o, line, true, "noresource") })
	}
}

// begin sends the first NOTIFY.
func (f *referral) begin(o *orders) {
	if f != nil {
		f.notify(o, trying, false, "")
	}
}

// notify sends one NOTIFY; after the last one, or what the terminal does not know any more,
// nothing more is sent.
func (f *referral) notify(o *orders, line string, last bool, reason string) {
	f.sending.Lock()
	defer f.sending.Unlock()
	req := f.next(o.now(), line, last, reason)
	if req == nil {
		o.forget(f)
		return
	}
	ctx, cancel := context.WithTimeout(o.background, sendTime)
	defer cancel()
	res, err := o.stack.send(ctx, req)
	if err != nil || res.StatusCode >= 300 {
		o.count.add("refer_notify_failed")
	}
	if last || err == nil && res.StatusCode == 481 {
		o.forget(f)
	}
}

// next writes the next NOTIFY, nil when there is none any more.
func (f *referral) next(now time.Time, line string, last bool, reason string) *gosip.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	ranOut := !now.Before(f.until) && reason != "timeout"
	if f.over || ranOut {
		return nil
	}
	f.line, f.over = line, last
	f.cseq++
	req := f.template.Clone()
	req.RemoveHeader("CSeq")
	req.AppendHeader(&gosip.CSeqHeader{SeqNo: f.cseq, MethodName: "NOTIFY"})
	state := "active;expires=" + deltaSeconds(f.until.Sub(now))
	if last {
		state = "terminated;reason=" + reason
	}
	req.AppendHeader(gosip.NewHeader("Subscription-State", state))
	req.SetBody([]byte(line + "\r\n"))
	return req
}

// forget ends a subscription.
func (o *orders) forget(f *referral) {
	f.mu.Lock()
	f.over = true
	f.mu.Unlock()
	o.mu.Lock()
	delete(o.referrals, f.key)
	o.mu.Unlock()
}

// sweepReferrals forgets the subscriptions that ran out.
func (o *orders) sweepReferrals(now time.Time) {
	o.mu.Lock()
	var all []*referral
	for _, f := range o.referrals {
		all = append(all, f)
	}
	o.mu.Unlock()
	for _, f := range all {
		f.mu.Lock()
		old := now.After(f.until)
		f.mu.Unlock()
		if old {
			o.forget(f)
		}
	}
}
