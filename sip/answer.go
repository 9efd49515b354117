package sip

import (
	"strings"

	"scas/session"
)

// answer carries out a yes or a no.
func (o *orders) answer(u *user, who asker, c command) {
	found, code := o.openFor(u, who, c.offer)
	switch {
	case code != "":
		o.refuse(u, who, c, code)
		return
	case len(found) == 0:
		o.result(u, who, Result{State: "failed", Code: codeExpired, Text: "There is no offer to answer."})
		return
	case len(found) > 1:
		o.tell(who, nil, whichOffer(found))
		return
	}
	f, yes := found[0], c.op == opAccept
	if !yes {
		o.mu.Lock()
		f.said = map[string]string{"busy": codeBusy, "unsupported": codeUnsupported}[c.reason]
		o.mu.Unlock()
	}
	err := o.mover.Answer(f.transfer, yes)
	t, known := o.transfers.Transfer(f.transfer)
	if err != nil {
		if !yes || !known || !t.State.Open() { // opening the link was the yes already
			o.log.Info("answer not taken", "transfer", f.transfer, "err", err)
			c.offer, c.session = f.number, f.session
			o.refuse(u, who, c, answerCode(err))
		}
		return
	}
	o.count.add("answers")
	if yes && who.form == formText && known && t.State == session.Armed {
		o.tell(who, nil, "Now open the link, "+f.title+" goes on there:\n"+t.URL+"\n")
	}
}

// answerCode returns the code for an answer or a cancel that the Mover did not take.
func answerCode(err error) string {
	if refused := errOrder(err); refused != nil {
		if refused.Reason == session.Busy {
			return codeExpired // its state does not wait for this any more
		}
		return codeOf(refused.Reason)
	}
	return codeGateway
}

func whichOffer(found []*offer) string {
	var b strings.Builder
	b.WriteString("Which one?\n")
	for _, f := range found {
		b.WriteString(f.number + " " + f.title + ", on " + f.fromOn + "\n")
	}
	b.WriteString("Say: yes " + found[0].number + " or no " + found[0].number + "\n")
	return b.String()
}

// cancel calls a move off, by offer or by session; without a number the only one there is.
func (o *orders) cancel(u *user, who asker, c command) {
	var found []*offer
	u.mu.Lock()
	for number, f := range u.offers {
		if c.offer == "" && c.session == "" || number == strings.TrimLeft(c.offer, "0") ||
			c.session != "" && f.session == strings.TrimLeft(c.session, "0") {
			found = append(found, f)
		}
	}
	u.mu.Unlock()
	if len(found) != 1 {
		code := codeExpired
		if len(found) > 1 {
			code = codeUnknownSession
		}
		o.refuse(u, who, c, code)
		return
	}
	t, err := o.mover.Cancel(found[0].transfer)
	if err != nil {
		c.offer, c.session = found[0].number, found[0].session
		o.refuse(u, who, c, answerCode(err))
		return
	}
	o.changed(t)
}

// setAuto switches the automatic move of a user.
func (o *orders) setAuto(u *user, who asker, on bool) {
	u.mu.Lock()
	u.settings.Auto = on
	u.activity.settle(o.now())
	u.mu.Unlock()
	o.save(u)
	text := "Auto is off: films stay where they are until you say so."
	if on {
		text = "Auto is on: when you are active on another terminal, it is offered to go on there."
	}
	o.result(u, who, Result{State: "done", Code: codeOK, Text: text})
}

// setName names the terminal that asks.
func (o *orders) setName(u *user, who asker, name string) {
	terminals := o.terminals(u)
	if !who.known {
		o.result(u, who, Result{State: "failed", Code: codeUnknownTerminal, Text: "I cannot tell which of your terminals this is."})
		return
	}
	u.mu.Lock()
	ok := u.rename(who.b, name, terminals)
	u.mu.Unlock()
	if !ok {
		o.result(u, who, Result{State: "failed", Code: codeNotAllowed, Text: "Another of your terminals has that name."})
		return
	}
	o.save(u)
	o.result(u, who, Result{State: "done", Code: codeOK, Text: "This terminal is " + name + " now.", On: name})
}
