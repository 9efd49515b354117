package sip

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"scas/session"
)

// directory tells whose terminals are whose.
type directory interface {
	// userOf returns the AoR of the user with that identity; false when the service has no such user.
	userOf(id identity) (aor string, ok bool)
	// terminalsOf returns the live bindings of a user.
	terminalsOf(aor string) []session.Binding
	// targetOf returns how exactly this terminal is reached; false when it has no contact.
	targetOf(b session.Binding) (target, bool)
}

// orders is the service that users talk to: it understands what they want, asks the Mover, and
// tells both terminals how it went. Safe for concurrent use.
//
// Locks, in the order they may be held together: user.work, user.mu, referral.mu, orders.mu.
type orders struct {
	cfg        Config
	rules      addressRules
	log        *slog.Logger
	count      *counters
	now        func() time.Time
	stack      *stack
	dir        directory
	mover      Mover
	sessions   Sessions
	transfers  Transfers
	store      Store
	renamed    func(aor string) // told when a user's terminals may have got other names
	presence   *subscriber      // nil: no presence server
	offerTime  time.Duration    // an offer waits so long for a yes; told as Expires
	attachTime time.Duration    // the target has so long to open the URL
	wg         sync.WaitGroup
	slots      chan struct{} // bounds the messages on their way
	lastHop    atomic.Bool   // the core wants the last hop of a Path only
	watching   chan struct{} // closed when transfers are followed
	background context.Context
	stop       context.CancelFunc

	mu        sync.Mutex // guards what follows
	ended     bool
	users     map[string]*user
	kept      map[string]session.User // from the store, of users not seen yet
	offers    map[string]*offer       // open, by transfer
	referrals map[string]*referral    // by dialog
}

// moveTime bounds one call of the Mover.
const moveTime = 10 * time.Second

// carryOut does what a user wants and tells the result.
func (o *orders) carryOut(u *user, who asker, c command) {
	u.work.Lock()
	defer u.work.Unlock()
	if c.ref != "" && o.again(u, who) {
		return
	}
	switch c.op {
	case opList:
		o.list(u, who, "")
	case opPush, opPull:
		o.move(u, who, c)
	case opAccept, opDecline:
		o.answer(u, who, c)
	case opCancel:
		o.cancel(u, who, c)
	case opAuto:
		o.setAuto(u, who, c.auto)
	case opName:
		o.setName(u, who, c.name)
	default:
		o.tell(who, nil, helpText)
	}
}

// again answers an order that was taken before, and reports whether it was.
func (o *orders) again(u *user, who asker) bool {
	now, key := o.now(), u.aor+" "+who.ref
	u.mu.Lock()
	seen := u.refs.get(who.ref, now)
	if seen != nil {
		seen = session.Ptr(*seen)
	}
	u.mu.Unlock()
	if seen == nil {
		ctx, cancel := context.WithTimeout(o.background, storeTime)
		defer cancel()
		t, ok, err := o.store.Taken(ctx, key)
		if err != nil {
			o.log.Warn("orders taken before cannot be read", "err", err)
		}
		if err == nil && ok && now.Before(t.Expires) {
			seen = &t
		}
	}
	if seen == nil {
		o.taken(u, who.ref, "", "")
		return false
	}
	o.count.add("orders_repeated")
	if seen.Answer != "" {
		o.spawn(func() { _ = o.send(who.to(), formMachine, []byte(seen.Answer), 0) })
	}
	return true
}

// taken keeps that an order was taken, what it began and how it was answered.
func (o *orders) taken(u *user, ref, transfer, answer string) {
	if ref == "" {
		return
	}
	now := o.now()
	t := session.Taken{
		Key: u.aor + " " + ref, At: now, Expires: now.Add(refLife), Code: 202, Answer: answer, Transfer: transfer,
	}
	u.mu.Lock()
	u.refs.put(ref, t, now)
	u.mu.Unlock()
	ctx, cancel := context.WithTimeout(o.background, storeTime)
	defer cancel()
	if err := o.store.PutTaken(ctx, t); err != nil {
		o.count.add("store_failed")
	}
}

// terminals returns the user's terminals with their names.
func (o *orders) terminals(u *user) []session.Binding {
	bs := o.dir.terminalsOf(u.aor)
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.named(bs)
}

// move carries out a push or a pull.
func (o *orders) move(u *user, who asker, c command) {
	terminals := o.terminals(u)
	to, ok := who.b, who.known
	if c.op == opPush {
		to, ok = find(terminals, c.to)
	}
	if !ok {
		o.refuse(u, who, c, codeUnknownTerminal)
		return
	}
	r, code := o.choose(u, who, c, to)
	switch {
	case code == codeSeveral:
		o.list(u, who, "Which one?\n")
		return
	case code == "" && !to.IP.IsValid():
		code = codeOffline
	case code == "" && (r.URL == nil || !offerable(*r.URL)):
		code = codeUnsupported
	case code == "" && o.openOffers(u) >= maxOffers:
		code = codeRate
	}
	if code != "" {
		o.refuse(u, who, c, code)
		return
	}
	trigger := session.Pull
	if c.op == opPush {
		trigger = session.Push
	}
	if code = o.begin(u, &who, r, to, trigger); code != "" {
		o.refuse(u, who, c, code)
	}
}

// codeSeveral: more than one session can be meant. Never sent.
const codeSeveral = "several"

// find returns the terminal with a name, an instance or a key.
func find(terminals []session.Binding, word string) (session.Binding, bool) {
	for _, b := range terminals {
		if b.Key == word || strings.EqualFold(b.Name, word) || sameInstance(b, word) {
			return b, true
		}
	}
	return session.Binding{}, false
}

// choose returns the session that an order means: the one it names, else the only one playing,
// on the asking terminal first, else the only paused one.
func (o *orders) choose(u *user, who asker, c command, to session.Binding) (session.Record, string) {
	records := o.records(u)
	if c.session != "" {
		u.mu.Lock()
		id := u.numbers.meant(c.session)
		u.mu.Unlock()
		i := slices.IndexFunc(records, func(r session.Record) bool { return "s "+r.ID == id })
		switch {
		case i < 0:
			return session.Record{}, codeUnknownSession
		case records[i].Terminal.IP == to.IP:
			return records[i], codeSameTerminal
		}
		return records[i], ""
	}
	there := len(records)
	records = slices.DeleteFunc(records, func(r session.Record) bool { return r.Terminal.IP == to.IP || r.Opaque })
	for _, state := range []session.State{session.Playing, session.Paused} {
		var here, all []session.Record
		for _, r := range records {
			if r.State != state {
				continue
			}
			all = append(all, r)
			if c.op == opPush && who.known && r.Terminal.IP == who.b.IP {
				here = append(here, r)
			}
		}
		switch {
		case len(here) == 1:
			return here[0], ""
		case len(all) == 1:
			return all[0], ""
		case len(all) > 1:
			return session.Record{}, codeSeveral
		}
	}
	if there > len(records) {
		return session.Record{}, codeSameTerminal
	}
	return session.Record{}, codeUnknownSession
}

// begin asks the Mover and makes the offer. It returns the code of a refusal, "" when the move
// has begun. u.work is held.
func (o *orders) begin(u *user, who *asker, r session.Record, to session.Binding, trigger session.Trigger) string {
	ctx, cancel := context.WithTimeout(o.background, moveTime)
	defer cancel()
	t, err := o.mover.Move(ctx, session.Order{
		Session: r.ID, To: to.Terminal(), Trigger: trigger, Confirm: trigger != session.Pull,
	})
	if refused := errOrder(err); refused != nil {
		o.log.Info("order refused", "session", r.ID, "reason", refused.Reason)
		return codeOf(refused.Reason)
	}
	if err != nil {
		o.log.Error("order failed", "session", r.ID, "err", cause(err))
		return codeGateway
	}
	u.mu.Lock()
	u.activity.settle(o.now())
	u.mu.Unlock()
	o.open(u, who, r, to, t, true)
	return ""
}

// list tells the user's sessions and terminals, after a line of its own in plain form.
func (o *orders) list(u *user, who asker, first string) {
	if who.refer != nil {
		who.refer.finish(o, "SIP/2.0 485 Ambiguous")
		return
	}
	l := o.overview(u, who)
	l.Ref = who.ref
	o.tell(who, l, first+l.words())
}

// overview is the list as the asking terminal sees it, cut to what fits one message.
func (o *orders) overview(u *user, who asker) SessionList {
	terminals, records := o.terminals(u), o.records(u)
	u.mu.Lock()
	defer u.mu.Unlock()
	now := o.now()
	active := u.activity.active(terminals, "", now)
	l := SessionList{V: 1, Op: "sessions", Items: []Item{}, Terminals: []Place{}}
	for _, b := range terminals {
		l.Terminals = append(l.Terminals, Place{
			Name: b.Name, Me: who.known && b.Key == who.b.Key, Active: b.Key == active,
		})
	}
	for _, r := range records {
		it := Item{
			Session: u.numbers.give("s "+r.ID, now), Kind: "stream", Proto: string(r.Protocol), Title: titleOf(r),
			On: where(r, terminals), State: itemState(r.State), Position: shown(r), Duration: r.Duration,
		}
		l.Items = append(l.Items, it)
		if raw, err := encode(l); err != nil || len(raw) > budget-16 || len(l.words()) > budget {
			l.Items, l.More = l.Items[:len(l.Items)-1], true
			break
		}
	}
	return l
}

func itemState(s session.State) string {
	switch s {
	case session.Playing:
		return "playing"
	case session.Paused:
		return "paused"
	}
	return "ready"
}

// where returns the name of the terminal a session is on.
func where(r session.Record, terminals []session.Binding) string {
	for _, b := range terminals {
		if b.IP == r.Terminal.IP {
			return b.Name
		}
	}
	if name := clean(r.Terminal.Name, maxName); name != "" {
		return name
	}
	return r.Terminal.IP.String()
}

// shown is the position on the screen, to a tenth of a second; nil when unknown or live.
func shown(r session.Record) *float64 {
	if r.Position == nil || r.Live {
		return nil
	}
	p := r.Position.Rendered
	if p == nil {
		p = r.Position.NPT
	}
	if p == nil {
		return nil
	}
	return session.Ptr(float64(int(*p*10)) / 10)
}

// refuse tells that an order is not carried out.
func (o *orders) refuse(u *user, who asker, c command, code string) {
	o.count.add("orders_refused")
	text := "Not done: " + codeText(code) + "."
	if code == codeUnknownTerminal && c.op == opPull {
		text = "I cannot tell which of your terminals this is. Say on which it shall go on: push NAME."
	}
	o.result(u, who, Result{Session: c.session, Offer: c.offer, State: "failed", Code: code, Text: text})
}

// result tells how an order went that ended at once.
func (o *orders) result(u *user, who asker, r Result) {
	if who.refer != nil {
		line := "SIP/2.0 500 Server Internal Error"
		switch r.Code {
		case codeNotAllowed:
			line = "SIP/2.0 403 Forbidden"
		case codeUnknownSession, codeUnknownTerminal:
			line = "SIP/2.0 404 Not Found"
		case codeOffline:
			line = "SIP/2.0 480 Temporarily Unavailable"
		case codeBusy, codeSameTerminal, codeRate:
			line = "SIP/2.0 486 Busy Here"
		}
		who.refer.finish(o, line)
		return
	}
	r.V, r.Op, r.Ref = 1, "result", who.ref
	if raw, err := encode(r); err == nil {
		o.taken(u, who.ref, "", string(raw))
	}
	o.tell(who, r, r.words())
}
