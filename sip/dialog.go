package sip

import (
	"strconv"
	"strings"
	"sync"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// dialog is the state of one SUBSCRIBE dialog, our side (RFC 6665 §4.4.1, RFC 3261 §12).
type dialog struct {
	callID    string
	localTag  string
	remoteTag string   // empty before the first answer or NOTIFY
	localSeq  uint32   // of our newest SUBSCRIBE
	remoteSeq uint32   // of the newest NOTIFY
	target    string   // the notifier's Contact
	routes    []string // in the order of Route
	heard     bool     // a NOTIFY came
}

func newDialog(domain string) *dialog {
	return &dialog{callID: newToken(12) + "@" + domain, localTag: newToken(8)}
}

// confirm takes what the 2xx to a SUBSCRIBE says. A NOTIFY may have said it before.
func (d *dialog) confirm(res *gosip.Response) {
	if d.remoteTag == "" && res.To() != nil {
		d.remoteTag, _ = res.To().Params.Get("tag")
	}
	if c := res.Contact(); c != nil {
		d.target = c.Address.String()
	}
	if len(d.routes) == 0 {
		for _, h := range res.GetHeaders("Record-Route") {
			d.routes = append([]string{h.Value()}, d.routes...)
		}
	}
}

// match reports whether a NOTIFY belongs to the dialog, and takes over what it brings.
func (d *dialog) match(r *request) bool {
	from, to := r.From(), r.To()
	if from == nil || to == nil {
		return false
	}
	toTag, _ := to.Params.Get("tag")
	fromTag, _ := from.Params.Get("tag")
	if toTag != d.localTag || fromTag == "" || (d.remoteTag != "" && d.remoteTag != fromTag) {
		return false
	}
	if d.remoteTag == "" {
		d.remoteTag = fromTag
		for _, h := range r.GetHeaders("Record-Route") {
			d.routes = append(d.routes, h.Value())
		}
	}
	if c := r.Contact(); c != nil {
		d.target = c.Address.String()
	}
	d.heard = true
	return true
}

// request writes the next SUBSCRIBE of the dialog to uri.
func (d *dialog) request(s *stack, to target) *gosip.Request {
	d.localSeq++
	hop := to
	if d.target != "" {
		hop.URI = d.target
		if len(d.routes) > 0 {
			hop.Route = d.routes
		}
	}
	req := s.newRequest("SUBSCRIBE", hop)
	toText := "<" + toURI(to.URI) + ">"
	if d.remoteTag != "" {
		toText += ";tag=" + d.remoteTag
	}
	callID := gosip.CallIDHeader(d.callID)
	req.ReplaceHeader(gosip.NewHeader("From", "<"+s.cfg.URI+">;tag="+d.localTag))
	req.ReplaceHeader(gosip.NewHeader("To", toText))
	req.ReplaceHeader(&callID)
	req.ReplaceHeader(&gosip.CSeqHeader{SeqNo: d.localSeq, MethodName: "SUBSCRIBE"})
	return req
}

// notification is one NOTIFY of a subscription.
type notification struct {
	key         string // what was subscribed to
	state       string // active, pending or terminated
	reason      string // of terminated
	contentType string // media type, lower case
	body        []byte // nil: none
	first       bool   // of its dialog
}

// subState is what a Subscription-State header says (RFC 6665 §4.1.3).
type subState struct {
	state, reason string
	expires       time.Duration // 0: not said
	retryAfter    time.Duration
}

func parseSubState(text string) subState {
	state, params, _ := strings.Cut(text, ";")
	out := subState{state: strings.ToLower(strings.TrimSpace(state)), reason: strings.ToLower(param(params, "reason"))}
	out.expires = seconds(param(params, "expires"))
	out.retryAfter = seconds(param(params, "retry-after"))
	return out
}

// seconds reads delta-seconds; 0 when there are none, at most ten years.
func seconds(text string) time.Duration {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	if err != nil {
		return 0
	}
	return time.Duration(min(n, 315360000)) * time.Second
}

// notifications hands NOTIFYs to the subscriber of their event package.
type notifications struct {
	mu sync.Mutex
	by map[string]*subscriber
}

func newNotifications(s *stack) *notifications {
	n := &notifications{by: map[string]*subscriber{}}
	s.handle("NOTIFY", n.handle)
	return n
}

func (n *notifications) add(sub *subscriber) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.by[sub.event] = sub
}

// events lists the packages for Allow-Events.
func (n *notifications) events() gosip.Header {
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	for name := range n.by {
		names = append(names, name)
	}
	return gosip.NewHeader("Allow-Events", strings.Join(names, ", "))
}
