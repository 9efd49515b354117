package sip

import (
	"context"
	"net/url"
	"slices"
	"strings"

	gosip "github.com/emiago/sipgo/sip"

	"scas/session"
)

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
	var refusal *reply
	if who.b, who.known, refusal = o.senderOf(r, terminals, ""); refusal != nil {
		return *refusal
	}
	if who.known {
		who.form = u.formOf(who.b)
	}
	quiet := strings.EqualFold(headerText(r, "Refer-Sub"), "false")
	a := reply{code: 200}
	if quiet {
		a.headers = []gosip.Header{gosip.NewHeader("Refer-Sub", "false")}
	} else if who.refer = o.newReferral(r, u.aor); who.refer == nil {
		return reply{code: 400, reason: "No Contact"}
	} else {
		a.headers = []gosip.Header{o.stack.contact(r.transport)}
	}
	o.count.add("orders_refer")
	a.after = func() {
		who.refer.begin(o)
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
			return sameInstance(b, gr) && o.about(b.AoR, bareAoR(head))
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
