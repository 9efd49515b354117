package sip

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// subscriber keeps one subscription a key (an AoR) to one event package: it subscribes,
// refreshes, begins anew when the notifier forgot, and hands over what NOTIFYs bring. New
// SUBSCRIBEs are paced, so that a restart does not flood the core. Safe for concurrent use.
type subscriber struct {
	s      *stack
	event  string
	accept string
	life   time.Duration // asked for
	// targetOf says where key is subscribed to.
	targetOf func(key string) (target, bool)
	// notify takes one NOTIFY; those of one key come one after the other, in CSeq order.
	notify func(n notification)

	mu        sync.Mutex // guards what follows
	subs      map[string]*subscription
	byCall    map[string]*subscription
	schedule  *schedule
	tokens    float64
	refilled  time.Time
	rechecked time.Time // the newest recheck

	slots chan struct{} // transactions under way
	wg    sync.WaitGroup
}

// subscription is what is kept of one key.
type subscription struct {
	key      string
	work     sync.Mutex // held while notify runs
	dlg      *dialog    // nil: none
	busy     bool       // a SUBSCRIBE is under way
	again    bool       // another one is wanted after it
	failures int
	answered time.Time // the newest 2xx
	rejected bool      // the notifier does not want us: only a new ensure after a day tries again
}

const (
	subscribeParallel = 64
	retryFirst        = 10 * time.Second
	retryLast         = 10 * time.Minute
	rejectedRest      = time.Hour
	recheckRest       = 5 * time.Second // an answer so fresh is believed
	recheckShare      = 4               // of so many SUBSCRIBEs that the rate allows one is a recheck
)

func newSubscriber(s *stack, n *notifications, event, accept string, life time.Duration) *subscriber {
	sub := &subscriber{
		s: s, event: event, accept: accept, life: life,
		subs: map[string]*subscription{}, byCall: map[string]*subscription{}, schedule: newSchedule(),
		slots: make(chan struct{}, subscribeParallel), tokens: 1, refilled: s.now(),
	}
	n.add(sub)
	return sub
}

// ensure subscribes to key unless there is a subscription.
func (x *subscriber) ensure(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.subs[key] == nil {
		x.subs[key] = &subscription{key: key}
		x.schedule.sooner(key, x.s.now())
	}
}

// refresh asks for the full state of key after a while. Without subscription it begins one.
func (x *subscriber) refresh(key string, after time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	sub := x.subs[key]
	switch {
	case sub == nil:
		x.subs[key] = &subscription{key: key}
	case sub.rejected:
		return
	}
	x.schedule.sooner(key, x.s.now().Add(after))
}

// recheck asks whether the notifier still has the subscription, when there is time for it: it
// may have been restarted. One that was answered lately is not asked again; without
// subscription it begins one.
func (x *subscriber) recheck(key string, after time.Duration) {
	now := x.s.now()
	x.mu.Lock()
	sub := x.subs[key]
	late := sub != nil && (sub.rejected || now.Sub(sub.answered) < recheckRest)
	if !late && now.Sub(x.rechecked) < x.recheckPace() {
		late = true
		x.s.count.add("rechecks_left_out")
	}
	if !late {
		x.rechecked = now
	}
	x.mu.Unlock()
	if !late {
		x.refresh(key, after)
	}
}

// recheckPace is the time between two rechecks: they leave most of the rate to new SUBSCRIBEs.
func (x *subscriber) recheckPace() time.Duration {
	return time.Duration(float64(recheckShare*time.Second) / max(1, x.s.cfg.Limits.SubscribeRate))
}

// works reports whether a NOTIFY of key was heard in its present dialog.
func (x *subscriber) works(key string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	sub := x.subs[key]
	return sub != nil && sub.dlg != nil && sub.dlg.heard
}

// drop forgets key; the notifier learns it when it next notifies.
func (x *subscriber) drop(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if sub := x.subs[key]; sub != nil {
		x.forgetDialog(sub)
		delete(x.subs, key)
		x.schedule.drop(key)
	}
}

// count returns how many keys are subscribed to.
func (x *subscriber) size() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.subs)
}

func (x *subscriber) forgetDialog(sub *subscription) {
	if sub.dlg != nil {
		delete(x.byCall, sub.dlg.callID)
		sub.dlg = nil
	}
}

// run sends what is due until ctx ends.
func (x *subscriber) run(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	defer x.wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, sub := range x.takeDue() {
			select {
			case x.slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			x.wg.Go(func() {
				defer func() { <-x.slots }()
				x.subscribe(ctx, sub)
			})
		}
	}
}

// takeDue returns the subscriptions to work on, as many as the rate allows.
func (x *subscriber) takeDue() []*subscription {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := x.s.now()
	rate := max(1, x.s.cfg.Limits.SubscribeRate)
	x.tokens = min(rate, x.tokens+now.Sub(x.refilled).Seconds()*rate)
	x.refilled = now
	var out []*subscription
	for _, key := range x.schedule.due(now, int(x.tokens)) {
		sub := x.subs[key]
		switch {
		case sub == nil:
			continue
		case sub.busy:
			sub.again = true
			continue
		}
		x.tokens--
		sub.busy = true
		out = append(out, sub)
	}
	return out
}

// subscribe does one SUBSCRIBE transaction, in the dialog when there is one.
func (x *subscriber) subscribe(ctx context.Context, sub *subscription) {
	to, ok := x.targetOf(sub.key)
	if !ok {
		x.drop(sub.key)
		return
	}
	x.mu.Lock()
	if x.subs[sub.key] != sub {
		x.mu.Unlock()
		return
	}
	if sub.dlg == nil {
		sub.dlg = newDialog(x.s.cfg.realm())
		x.byCall[sub.dlg.callID] = sub
	}
	dlg := sub.dlg
	req := dlg.request(x.s, to)
	x.mu.Unlock()

	req.AppendHeader(gosip.NewHeader("Event", x.event))
	req.AppendHeader(gosip.NewHeader("Accept", x.accept))
	req.AppendHeader(gosip.NewHeader("Expires", strconv.Itoa(int(x.life/time.Second))))
	req.AppendHeader(gosip.NewHeader("P-Charging-Vector", `icid-value="`+newToken(12)+`"`))
	req.AppendHeader(x.s.contact(strings.ToLower(req.Transport())))
	x.s.count.add("subscribes_" + x.event)
	res, err := x.s.send(ctx, req)
	if ctx.Err() != nil {
		return
	}
	x.answered(sub, dlg, res, err)
}

// answered decides what comes after the answer to a SUBSCRIBE.
func (x *subscriber) answered(sub *subscription, dlg *dialog, res *gosip.Response, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	sub.busy = false
	if x.subs[sub.key] != sub {
		return
	}
	now := x.s.now()
	code := 408
	if err == nil {
		code = res.StatusCode
	}
	switch {
	case code/100 == 2:
		sub.failures, sub.rejected, sub.answered = 0, false, now
		dlg.confirm(res)
		granted := seconds(headerText(res, "Expires"))
		if granted <= 0 {
			granted = x.life
		}
		x.schedule.sooner(sub.key, now.Add(granted*2/3))
	case sub.dlg == dlg && dlg.localSeq > 1 && (code == 481 || code/100 == 5 && sub.failures == 0):
		sub.failures++
		x.forgetDialog(sub) // the notifier was restarted; Kamailio says it with 500
		x.schedule.set(sub.key, now)
	case code == 423:
		if min := seconds(headerText(res, "Min-Expires")); min > x.life {
			x.life = min
		}
		x.forgetDialog(sub)
		x.schedule.set(sub.key, now.Add(time.Second))
	case code == 480, code == 404:
		x.forgetDialog(sub) // nobody there: the next registration asks again
		delete(x.subs, sub.key)
		x.schedule.drop(sub.key)
		return
	case refusedForGood(code):
		x.s.count.add("subscribes_rejected")
		sub.rejected = true
		x.forgetDialog(sub)
		x.schedule.set(sub.key, now.Add(rejectedRest))
	default:
		x.s.count.add("subscribes_failed")
		sub.failures++
		if code != 408 || !dlg.heard {
			x.forgetDialog(sub)
		}
		x.schedule.set(sub.key, now.Add(min(retryLast, retryFirst<<min(sub.failures-1, 10))))
	}
	if sub.again {
		sub.again = false
		x.schedule.sooner(sub.key, now)
	}
}

// refusedForGood reports an answer that will be the same tomorrow.
func refusedForGood(code int) bool {
	return slices.Contains([]int{401, 403, 405, 407, 489, 501}, code)
}

// handle answers NOTIFY: 481 for a dialog we do not have, 489 for another package, else 200 at
// once; the work comes after the answer.
func (n *notifications) handle(_ context.Context, r *request) reply {
	if !r.trusted {
		return reply{code: 481}
	}
	event, _, _ := strings.Cut(headerText(r, "Event"), ";")
	n.mu.Lock()
	x := n.by[strings.ToLower(strings.TrimSpace(event))]
	n.mu.Unlock()
	if x == nil {
		return reply{code: 489, headers: []gosip.Header{n.events()}}
	}
	return x.notified(r)
}

// notified takes a NOTIFY into its dialog.
func (x *subscriber) notified(r *request) reply {
	x.mu.Lock()
	defer x.mu.Unlock()
	sub := x.byCall[r.CallID().Value()]
	if sub == nil || sub.dlg == nil || !sub.dlg.match(r) {
		x.s.count.add("notifies_unknown")
		return reply{code: 481}
	}
	seq := r.CSeq().SeqNo
	if seq <= sub.dlg.remoteSeq {
		x.s.count.add("notifies_late")
		return reply{code: 200}
	}
	first := sub.dlg.remoteSeq == 0
	sub.dlg.remoteSeq = seq
	x.s.count.add("notifies_" + x.event)
	st := parseSubState(headerText(r, "Subscription-State"))
	n := notification{
		key: sub.key, state: st.state, reason: st.reason,
		contentType: mediaType(headerText(r, "Content-Type")), body: append([]byte(nil), r.Body()...), first: first,
	}
	x.follow(sub, st)
	dlg := sub.dlg
	return reply{code: 200, after: func() {
		sub.work.Lock()
		defer sub.work.Unlock()
		if x.newest(dlg, seq) {
			x.notify(n)
		}
	}}
}

// newest reports whether no later NOTIFY of the dialog has come meanwhile; it carries the
// whole state, or makes a gap that asks for it.
func (x *subscriber) newest(dlg *dialog, seq uint32) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return dlg == nil || dlg.remoteSeq == seq
}

// follow does what Subscription-State asks for (RFC 6665 §4.1.3). x.mu is held.
func (x *subscriber) follow(sub *subscription, st subState) {
	now := x.s.now()
	if st.state != "terminated" {
		if st.expires > 0 {
			x.schedule.sooner(sub.key, now.Add(st.expires*2/3))
		}
		return
	}
	x.forgetDialog(sub)
	switch st.reason {
	case "rejected":
		sub.rejected = true
		x.schedule.set(sub.key, now.Add(24*time.Hour))
	case "noresource", "invariant":
		delete(x.subs, sub.key)
		x.schedule.drop(sub.key)
	case "probation", "giveup":
		x.schedule.set(sub.key, now.Add(max(st.retryAfter, retryFirst)))
	default: // deactivated, timeout, and reasons not known
		x.schedule.set(sub.key, now.Add(max(st.retryAfter, 0)))
	}
}
