package sip

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// serve answers a request to the terminal.
func (c *Client) serve(req *gosip.Request, tx gosip.ServerTransaction) {
	defer func() {
		if p := recover(); p != nil {
			c.cfg.Log.Error("a handler panicked", "panic", p)
		}
	}()
	if req.IsAck() {
		return
	}
	code, reason, in := c.decide(req)
	res := gosip.NewResponseFromRequest(req, code, reason, nil)
	switch code {
	case 405:
		res.AppendHeader(gosip.NewHeader("Allow", "MESSAGE, OPTIONS"))
	case 415:
		res.AppendHeader(gosip.NewHeader("Accept", MoveType+", text/plain"))
	}
	if err := tx.Respond(res); err != nil {
		c.cfg.Log.Debug("answer not sent", "err", err)
	}
	if in == nil {
		return
	}
	select {
	case c.in <- *in:
	case <-c.ctx.Done():
	}
}

// decide returns the answer to a request and what it brought. Only the first hop is heard:
// anybody else could offer a URL of his own.
func (c *Client) decide(req *gosip.Request) (code int, reason string, in *Incoming) {
	peer, err := netip.ParseAddrPort(req.Source())
	from := req.From()
	switch {
	case err != nil || peer.Addr().Unmap() != c.proxy.Addr().Unmap():
		return 403, "Forbidden", nil
	case from == nil || req.CallID() == nil || req.CSeq() == nil:
		return 400, "Bad Request", nil
	case req.Method == gosip.OPTIONS:
		return 200, "OK", nil
	case req.Method != gosip.MESSAGE:
		return 405, "Method Not Allowed", nil
	}
	if !sameURI(from.Address.String(), c.cfg.Service) {
		return 403, "Forbidden", nil
	}
	kind, body := contentOf(headerText(req, "Content-Type"), req.Body())
	switch kind {
	case "text/plain":
		return 200, "OK", &Incoming{Text: string(body)}
	case MoveType:
		in = parseIncoming(body)
		if in == nil {
			return 400, "Bad Request", nil
		}
		return 200, "OK", in
	}
	return 415, "Unsupported Media Type", nil
}

// maxIncoming is the longest body a terminal reads.
const maxIncoming = 16 << 10

// parseIncoming reads the machine form as a terminal gets it; nil when it is none.
func parseIncoming(body []byte) *Incoming {
	var head struct {
		V  int    `json:"v"`
		Op string `json:"op"`
	}
	if len(body) > maxIncoming || json.Unmarshal(body, &head) != nil || head.V != 1 {
		return nil
	}
	var in Incoming
	var err error
	switch head.Op {
	case "offer":
		in.Offer = &Offer{}
		err = json.Unmarshal(body, in.Offer)
		if err == nil && (len(in.Offer.URL) == 0 || !validNumber(in.Offer.Offer)) {
			return nil
		}
	case "result":
		in.Result = &Result{}
		err = json.Unmarshal(body, in.Result)
	case "sessions":
		in.Sessions = &SessionList{}
		err = json.Unmarshal(body, in.Sessions)
	default:
		return nil
	}
	if err != nil {
		return nil
	}
	return &in
}

// dispatch hands what arrives to the caller, one by one.
func (c *Client) dispatch() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case in := <-c.in:
			if c.cfg.Received != nil {
				c.cfg.Received(in)
			}
		}
	}
}

// Presence is what a terminal says of its user.
type Presence struct {
	Active    bool
	LastInput time.Time // zero: not said
	Activity  string    // RPID activity, "tv", "away", "on-the-phone"; empty: none
}

// publishPause is the pause before a PUBLISH is repeated.
const publishPause = 700 * time.Millisecond

// pause waits; false when ctx or the client ended.
func (c *Client) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-c.ctx.Done():
	}
	return false
}

// publishFor is the life of a publication asked for.
const publishFor = 120 * time.Second

// Publish publishes presence and keeps it published until Close (RFC 3903). A refusal is a
// *StatusError.
func (c *Client) Publish(ctx context.Context, p Presence) error {
	c.pubMu.Lock()
	granted, err := c.publish(ctx, &p)
	for range 2 { // a presence server that is busy with its database
		var refused *StatusError
		if !errors.As(err, &refused) || refused.Code/100 != 5 || !c.pause(ctx, publishPause) {
			break
		}
		granted, err = c.publish(ctx, &p)
	}
	c.pubMu.Unlock()
	if err != nil {
		return err
	}
	c.mu.Lock()
	first := c.published == nil
	c.published = &p
	c.mu.Unlock()
	if first {
		c.wg.Go(func() { c.republish(granted) })
	}
	return nil
}

// republish refreshes the publication until Close.
func (c *Client) republish(granted time.Duration) {
	for {
		timer := time.NewTimer(max(granted/2, time.Second))
		select {
		case <-c.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		ctx, cancel := context.WithTimeout(c.ctx, sendTime)
		c.pubMu.Lock()
		again, err := publishFor, c.ctx.Err()
		if err == nil {
			again, err = c.publish(ctx, nil)
		}
		c.pubMu.Unlock()
		cancel()
		if err != nil {
			c.cfg.Log.Warn("presence not refreshed", "err", err)
			again = 10 * time.Second
		}
		granted = again
	}
}

// publish sends one PUBLISH: p, or a refresh when p is nil. An unknown entity tag starts anew
// with the whole document. c.pubMu is held.
func (c *Client) publish(ctx context.Context, p *Presence) (time.Duration, error) {
	for range 2 {
		c.mu.Lock()
		etag := c.etag
		if etag == "" && p == nil {
			p = c.published
		}
		c.mu.Unlock()
		res, err := c.sendPublish(ctx, p, etag, publishFor)
		switch {
		case err != nil:
			return 0, err
		case res.StatusCode == 412 && etag != "":
			c.mu.Lock()
			c.etag = ""
			c.mu.Unlock()
			continue
		case res.StatusCode >= 300:
			return 0, &StatusError{Method: "PUBLISH", Code: res.StatusCode, Reason: res.Reason}
		}
		c.mu.Lock()
		c.etag = headerText(res, "SIP-ETag")
		c.mu.Unlock()
		granted := publishFor
		if n, err := strconv.Atoi(headerText(res, "Expires")); err == nil && n > 0 {
			granted = min(granted, time.Duration(n)*time.Second)
		}
		return granted, nil
	}
	return 0, &StatusError{Method: "PUBLISH", Code: 412, Reason: "Conditional Request Failed"}
}

// sendPublish sends one PUBLISH with credentials; without p it has no body.
func (c *Client) sendPublish(ctx context.Context, p *Presence, etag string, expires time.Duration) (*gosip.Response, error) {
	callID := newToken(12)
	return c.do(ctx, func() *gosip.Request {
		req := c.request("PUBLISH", c.cfg.AoR, c.cfg.AoR, callID)
		req.AppendHeader(gosip.NewHeader("Event", "presence"))
		req.AppendHeader(gosip.NewHeader("Expires", deltaSeconds(expires)))
		if etag != "" {
			req.AppendHeader(gosip.NewHeader("SIP-If-Match", etag))
		}
		if p != nil {
			req.AppendHeader(gosip.NewHeader("Content-Type", PresenceType))
			req.SetBody(presenceOf(c.cfg.AoR, c.cfg.Instance, c.Contact(), p.Active, p.LastInput,
				strings.ToLower(p.Activity), c.cfg.Now()))
		}
		return req
	})
}

// unpublish withdraws the publication.
func (c *Client) unpublish(ctx context.Context) error {
	c.pubMu.Lock()
	defer c.pubMu.Unlock()
	c.mu.Lock()
	etag := c.etag
	c.etag = ""
	c.mu.Unlock()
	res, err := c.sendPublish(ctx, nil, etag, 0)
	if err == nil && res.StatusCode >= 300 && res.StatusCode != 412 {
		err = &StatusError{Method: "PUBLISH", Code: res.StatusCode, Reason: res.Reason}
	}
	return err
}
