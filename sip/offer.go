package sip

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"scas/session"
)

// offer is one open transfer as its user sees it. The fields up to closed do not change.
type offer struct {
	u       *user
	number  string
	session string // number
	sid     string // id of the record
	title   string
	from    recipient // plays it
	fromOn  string    // name
	to      session.Binding
	asker   *asker // who ordered it; nil: presence, or an operator
	trigger session.Trigger
	refer   *referral // progress of a REFER; nil: none
	made    time.Time

	// guarded by orders.mu
	transfer string
	closed   bool
	said     string // code of a decline or of an offer that could not be delivered
}

// open makes the offer of a transfer that has begun; send: it goes to its target.
func (o *orders) open(u *user, who *asker, r session.Record, to session.Binding, t session.Transfer, send bool) {
	terminals := o.terminals(u)
	f := &offer{
		u: u, sid: r.ID, title: titleOf(r), fromOn: where(r, terminals), to: to, asker: who, trigger: t.Trigger,
		from: recipient{aor: identity(u.aor)}, transfer: t.ID, made: o.now(),
	}
	for _, b := range terminals {
		if b.IP == r.Terminal.IP {
			f.from.b, f.from.known = b, true
		}
	}
	u.mu.Lock()
	f.number, f.session = u.numbers.give("o "+t.ID, o.now()), u.numbers.give("s "+r.ID, o.now())
	u.offers[f.number] = f
	form := u.formOf(to)
	u.mu.Unlock()
	if who != nil {
		f.refer = who.refer
		o.taken(u, who.ref, t.ID, "")
	}
	o.mu.Lock()
	o.offers[t.ID] = f
	o.mu.Unlock()
	o.count.add("offers")
	if send {
		o.spawn(func() { o.deliver(f, form, o.body(f, r, t)) })
	}
	if now, ok := o.transfers.Transfer(t.ID); ok {
		o.changed(now) // it may have ended before it could be looked up
	}
}

// body is an offer as the target gets it.
func (o *orders) body(f *offer, r session.Record, t session.Transfer) Offer {
	wait := o.offerTime
	if t.State != session.Offered {
		wait = o.attachTime
	}
	v := Offer{
		V: 1, Op: "offer", Offer: f.number, Session: f.session, Kind: "stream", Title: f.title, From: f.fromOn,
		Position: shown(r), URL: []string{cmp.Or(t.URL, *r.URL)}, Expires: int(wait / time.Second),
		Auto: f.trigger == session.Auto,
	}
	if f.trigger == session.Pull && f.asker != nil {
		v.Ref = f.asker.ref
	}
	v.asked = t.State != session.Offered
	return v
}

// deliver sends an offer to exactly its target. What cannot be delivered is called off, unless
// the target has no SIP: then its user is told by the terminal that asked.
func (o *orders) deliver(f *offer, form form, v Offer) {
	to := recipient{aor: identity(f.u.aor), b: f.to, known: true}
	err := o.sendOffer(to, form, v)
	var refused *errNotDelivered
	if form == formMachine && errors.As(err, &refused) && (refused.code == 415 || refused.code == 488) {
		err = o.sendOffer(to, formText, v)
	}
	switch {
	case err == nil:
	case errors.Is(err, errNoContact):
		if f.asker != nil {
			o.tell(*f.asker, nil, "Now open this on "+f.to.Name+":\n"+v.URL[0]+"\n")
		}
	default:
		o.callOff(f, codeOffline)
	}
}

func (o *orders) sendOffer(to recipient, form form, v Offer) error {
	body := []byte(v.words())
	if form == formMachine {
		raw, err := encode(v)
		if err != nil {
			return err
		}
		body = raw
	}
	return o.send(to, form, body, v.Expires)
}

// callOff cancels the transfer of an offer; code is what its result will say.
func (o *orders) callOff(f *offer, code string) {
	o.mu.Lock()
	f.said = code
	id, closed := f.transfer, f.closed
	o.mu.Unlock()
	if closed {
		return
	}
	t, err := o.mover.Cancel(id)
	if err != nil {
		o.log.Info("transfer goes on", "transfer", id, "err", err)
		return
	}
	o.changed(t)
}

// gone calls off the offers to a terminal that left. What is under way goes on.
func (o *orders) gone(b session.Binding) {
	var lost []*offer
	o.mu.Lock()
	for _, f := range o.offers {
		if f.to.Key == b.Key {
			lost = append(lost, f)
		}
	}
	o.mu.Unlock()
	for _, f := range lost {
		if t, ok := o.transfers.Transfer(f.transfer); ok && t.State == session.Offered {
			o.spawn(func() { o.callOff(f, codeOffline) })
		}
	}
}

// openOffers returns how many offers of a user are open.
func (o *orders) openOffers(u *user) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.offers)
}

// watch follows the transfers until ctx ends.
func (o *orders) watch(ctx context.Context) {
	for first := true; ctx.Err() == nil; first = false {
		round, cancel := context.WithCancel(ctx)
		changes := o.transfers.Watch(round)
		if first {
			o.takeOver()
			close(o.watching)
		}
		o.reread()
		for c := range changes {
			if c.Transfer != nil {
				o.changed(*c.Transfer)
			}
		}
		cancel()
		sleep(ctx, 100*time.Millisecond) // cut off for being slow, or the table is going away
	}
}

// takeOver takes up the transfers that were open before this process began: what was offered
// can still be answered. Nothing is offered again.
func (o *orders) takeOver() {
	all, ok := o.transfers.(interface{ Transfers() []session.Transfer })
	if !ok {
		return
	}
	for _, t := range all.Transfers() {
		if t.State.Open() {
			o.adopt(t, false)
		}
	}
}

// reread looks at every open offer.
func (o *orders) reread() {
	o.mu.Lock()
	var ids []string
	for id := range o.offers {
		ids = append(ids, id)
	}
	o.mu.Unlock()
	for _, id := range ids {
		if t, ok := o.transfers.Transfer(id); ok {
			o.changed(t)
		} else {
			o.changed(session.Transfer{ID: id, State: session.Failed, Reason: session.Ptr(session.DaemonRestart)})
		}
	}
}

// changed takes a new state of a transfer. Offers end with their transfer.
func (o *orders) changed(t session.Transfer) {
	o.mu.Lock()
	f := o.offers[t.ID]
	if f == nil || t.State.Open() || f.closed {
		o.mu.Unlock()
		if f == nil && t.Trigger == session.API && t.State.Open() && t.Times.Attached == nil {
			o.adopt(t, true)
		}
		return
	}
	f.closed = true
	said := f.said
	delete(o.offers, t.ID)
	o.mu.Unlock()
	now := o.now()
	f.u.mu.Lock()
	delete(f.u.offers, f.number)
	f.u.activity.settle(now)
	f.u.numbers.give("o "+t.ID, now) // rests from now on
	f.u.mu.Unlock()
	o.report(f, t, said)
}

// adopt takes up a transfer that somebody else ordered, when its target has a user who can be
// told; send: it is offered to the target.
func (o *orders) adopt(t session.Transfer, send bool) {
	if t.AoR == nil {
		return
	}
	id, err := parseIdentity(*t.AoR)
	aor, ok := o.dir.userOf(id)
	if err != nil || !ok {
		return
	}
	u := o.user(aor)
	terminals := o.terminals(u)
	i := slices.IndexFunc(terminals, func(b session.Binding) bool { return b.IP == t.To.IP })
	if i < 0 || terminals[i].Contact == "" || !offerable(t.URL) {
		return
	}
	r := session.Record{ID: t.Session, URL: &t.URL, Terminal: t.From}
	for _, x := range o.sessions.List() {
		if x.ID == t.Session {
			r = o.fresh(x)
		}
	}
	if r.URL == nil {
		r.URL = &t.URL
	}
	o.open(u, nil, r, terminals[i], t, send)
}

// report tells the result to both terminals, and to the one that asked when it is a third.
func (o *orders) report(f *offer, t session.Transfer, said string) {
	state, code := ended(t)
	if said != "" && t.State != session.Done {
		code = said
	}
	r := Result{
		V: 1, Op: "result", Offer: f.number, Session: f.session, State: state, Code: code, On: f.fromOn,
		Text: resultText(t.State, code, f.title, f.fromOn, f.to.Name),
	}
	if t.State == session.Done {
		r.On = f.to.Name
	}
	o.log.Info("transfer reported", "transfer", t.ID, "state", t.State, "code", code)
	f.refer.end(o, t.State)
	told := map[string]bool{}
	if f.asker != nil {
		mine := r
		mine.Ref = f.asker.ref
		if raw, err := encode(mine); err == nil {
			o.taken(f.u, mine.Ref, t.ID, string(raw))
		}
		if f.asker.refer == nil {
			o.tell(*f.asker, mine, mine.words())
		}
		told[f.asker.b.Key] = f.asker.known // a NOTIFY tells as well
	}
	for _, to := range []recipient{f.from, {aor: identity(f.u.aor), b: f.to, known: true}} {
		if !to.known || told[to.b.Key] || said == codeOffline && to.b.Key == f.to.Key || to.b.Contact == "" {
			continue
		}
		told[to.b.Key] = true
		f.u.mu.Lock()
		form := f.u.formOf(to.b)
		f.u.mu.Unlock()
		o.tell(asker{id: to.aor, b: to.b, known: true, form: form}, r, r.words())
	}
}

// openFor returns the open offers that an answer from a terminal can mean, the oldest first.
// With a number only that one; nil: there is none.
func (o *orders) openFor(u *user, who asker, number string) (found []*offer, code string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if number != "" {
		f := u.offers[strings.TrimLeft(number, "0")]
		switch {
		case f == nil:
			return nil, codeExpired
		case who.known && f.to.Key != who.b.Key:
			return nil, codeNotAllowed
		}
		return []*offer{f}, ""
	}
	for _, f := range u.offers {
		if !who.known || f.to.Key == who.b.Key {
			found = append(found, f)
		}
	}
	slices.SortFunc(found, func(a, b *offer) int { return a.made.Compare(b.made) })
	return found, ""
}
