package sip

import (
	"errors"
	"strings"
	"time"

	"scas/session"
)

// presenceLife is the time a presence subscription is asked for.
const presenceLife = time.Hour

// watchPresence subscribes to the presence of users at the configured presence server
// (RFC 6665, RFC 3856). Without one it does nothing; then only what terminals send themselves
// tells where their user is.
func (o *orders) watchPresence(n *notifications) {
	if o.cfg.Presence == "" {
		return
	}
	o.presence = newSubscriber(o.stack, n, "presence", PresenceType, presenceLife)
	route := []string{"<" + looseRoute(o.cfg.Presence) + ">"}
	o.presence.targetOf = func(aor string) (target, bool) {
		if !strings.HasPrefix(aor, "sip:") || len(o.dir.terminalsOf(aor)) == 0 {
			return target{}, false
		}
		return target{URI: aor, Route: route}, true
	}
	o.presence.notify = o.presenceNotified
}

// presenceNotified takes one NOTIFY. The first one may have no body.
func (o *orders) presenceNotified(n notification) {
	if len(n.body) == 0 {
		return
	}
	if n.contentType != PresenceType {
		o.count.add("presence_other_type")
		return
	}
	doc, err := parsePIDF(n.body)
	if err == nil && doc.entity != "" && !o.about(n.key, doc.entity) {
		err = errors.New("about another user")
	}
	if err != nil {
		o.count.add("presence_bad")
		o.log.Debug("presence document refused", "aor", n.key, "err", err)
		return
	}
	o.observe(n.key, doc)
}

// about reports whether an entity ("sip:" or "pres:" URI) is the user.
func (o *orders) about(aor, entity string) bool {
	if rest, ok := strings.CutPrefix(entity, "pres:"); ok {
		entity = "sip:" + rest
	}
	id, err := parseIdentity(entity)
	if err != nil {
		return false
	}
	owner, ok := o.dir.userOf(id)
	return ok && owner == aor
}

// arrived takes note of a terminal that registered.
func (o *orders) arrived(b session.Binding) {
	if o.presence != nil {
		o.presence.ensure(b.AoR)
	}
}

// left takes note of a terminal that went: offers to it are called off. What is under way goes
// on.
func (o *orders) left(b session.Binding) {
	o.gone(b)
	if len(o.dir.terminalsOf(b.AoR)) > 0 {
		return
	}
	if o.presence != nil {
		o.presence.drop(b.AoR)
	}
}
