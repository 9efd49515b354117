package sip

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	gosip "github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// maxAttempts of one request: unauthenticated, with a nonce, and once more when that is not
// good any more.
const maxAttempts = 3

// afterTwo is how long a second challenge in a row is let alone before it is answered: an
// S-CSCF may see the answer before it has noted the challenge (Kamailio 5.6.3), and challenge
// anew.
const afterTwo = 100 * time.Millisecond

// do sends what build makes, again with credentials when it is challenged, and returns the
// final response.
func (c *Client) do(ctx context.Context, build func() *gosip.Request) (*gosip.Response, error) {
	for attempt := 1; ; attempt++ {
		req := build()
		c.mu.Lock()
		c.cseq++
		req.AppendHeader(&gosip.CSeqHeader{SeqNo: c.cseq, MethodName: req.Method})
		err := c.authorize(req)
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		req.SetDestination(c.proxy.String())
		req.SetTransport(strings.ToUpper(c.network))
		if req.Body() == nil {
			req.SetBody(nil)
		}
		res, err := c.cli.Do(ctx, req)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", req.Method, err)
		}
		if res.StatusCode != 401 && res.StatusCode != 407 || attempt == maxAttempts {
			return res, nil
		}
		if !c.challenged(res) {
			return res, nil
		}
		if attempt == maxAttempts-1 {
			select {
			case <-time.After(afterTwo):
			case <-ctx.Done():
				return nil, fmt.Errorf("%s: %w", req.Method, ctx.Err())
			}
		}
	}
}

// challenged takes a challenge and reports whether it is worth another attempt.
func (c *Client) challenged(res *gosip.Response) bool {
	asked, answer := "WWW-Authenticate", "Authorization"
	if res.StatusCode == 407 {
		asked, answer = "Proxy-Authenticate", "Proxy-Authorization"
	}
	for _, h := range res.GetHeaders(asked) {
		chal, err := digest.ParseChallenge(h.Value())
		if err != nil {
			continue
		}
		chal.Algorithm = strings.ToUpper(chal.Algorithm)
		for i, q := range chal.QOP {
			chal.QOP[i] = strings.TrimSpace(q)
		}
		if !digest.CanDigest(chal) || len(chal.QOP) > 0 && !chal.SupportsQOP("auth") {
			continue
		}
		c.mu.Lock()
		old := c.challenges[answer]
		c.challenges[answer] = &challenge{Challenge: chal}
		c.mu.Unlock()
		// A new nonce is worth another attempt even when the old one is not called stale: an
		// S-CSCF keeps one for each private identity, and another terminal of the user may just
		// have taken it (Kamailio 5.6.3).
		return c.cfg.Password != "" && (old == nil || old.Nonce != chal.Nonce)
	}
	return false
}

// authorize adds credentials for the challenges known. c.mu is held.
func (c *Client) authorize(req *gosip.Request) error {
	for name, chal := range c.challenges {
		chal.count++
		cred, err := digest.Digest(chal.Challenge, digest.Options{
			Method: string(req.Method), URI: req.Recipient.String(), Count: chal.count,
			Username: c.cfg.User, Password: c.cfg.Password,
		})
		if err != nil {
			return fmt.Errorf("%s: %w", req.Method, err)
		}
		req.AppendHeader(gosip.NewHeader(name, cred.String()))
	}
	return nil
}

// request returns a request of the terminal, without CSeq.
func (c *Client) request(method, uri, to, callID string) *gosip.Request {
	var u gosip.Uri
	_ = gosip.ParseUri(uri, &u) // checked when the client was made
	req := gosip.NewRequest(gosip.RequestMethod(method), u)
	c.mu.Lock()
	route := c.route
	c.mu.Unlock()
	if method != "REGISTER" && len(route) > 0 {
		hop := fmt.Sprintf("<sip:%s;transport=%s;lr>", c.proxy, c.network)
		req.AppendHeader(gosip.NewHeader("Route", hop))
		for _, r := range route {
			req.AppendHeader(gosip.NewHeader("Route", r))
		}
	}
	id, forwards := gosip.CallIDHeader(callID), gosip.MaxForwardsHeader(70)
	req.AppendHeader(gosip.NewHeader("From", "<"+c.cfg.AoR+">;tag="+c.tag))
	req.AppendHeader(gosip.NewHeader("To", "<"+to+">"))
	req.AppendHeader(&id)
	req.AppendHeader(&forwards)
	req.AppendHeader(gosip.NewHeader("User-Agent", c.cfg.UserAgent))
	return req
}

// Register registers the terminal and keeps it registered until Close. A refusal is a
// *StatusError.
func (c *Client) Register(ctx context.Context) error {
	c.regMu.Lock()
	granted, err := c.register(ctx, c.cfg.Expires)
	c.regMu.Unlock()
	if err != nil {
		return err
	}
	c.wg.Go(func() { c.refresh(granted) })
	return nil
}

// refresh repeats the registration in time; after a failure with growing pauses.
func (c *Client) refresh(granted time.Duration) {
	wait := refreshAfter(granted)
	pause := 2 * time.Second
	for {
		timer := time.NewTimer(wait)
		select {
		case <-c.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		ctx, cancel := context.WithTimeout(c.ctx, sendTime)
		c.regMu.Lock()
		granted, err := time.Duration(0), c.ctx.Err()
		if err == nil {
			granted, err = c.register(ctx, c.cfg.Expires)
		}
		c.regMu.Unlock()
		cancel()
		if err != nil {
			c.cfg.Log.Warn("registration not refreshed", "err", err)
			wait, pause = pause, min(2*pause, time.Minute)
			continue
		}
		wait, pause = refreshAfter(granted), 2*time.Second
	}
}

// refreshAfter leaves time for a few attempts (TS 24.229 §5.1.1.4.1: half, or 600 s before).
func refreshAfter(granted time.Duration) time.Duration {
	if granted > 1200*time.Second {
		return granted - 600*time.Second
	}
	return max(granted/2, time.Second)
}

// register sends one REGISTER and returns the time granted. c.regMu is held.
func (c *Client) register(ctx context.Context, expires time.Duration) (time.Duration, error) {
	contact := fmt.Sprintf(`<%s>;+sip.instance="<%s>";reg-id=1;expires=%s`, c.Contact(), c.cfg.Instance, deltaSeconds(expires))
	for range 2 {
		res, err := c.do(ctx, func() *gosip.Request {
			req := c.request("REGISTER", "sip:"+c.domain, c.cfg.AoR, c.callID)
			req.AppendHeader(gosip.NewHeader("Contact", contact))
			req.AppendHeader(gosip.NewHeader("Expires", deltaSeconds(expires)))
			req.AppendHeader(gosip.NewHeader("Supported", "path, gruu, outbound"))
			req.AppendHeader(gosip.NewHeader("Allow", "MESSAGE, OPTIONS"))
			return req
		})
		if err != nil {
			return 0, err
		}
		least, aerr := strconv.Atoi(headerText(res, "Min-Expires"))
		if res.StatusCode == 423 && aerr == nil && least > 0 && least < 86400 && expires > 0 {
			expires = time.Duration(least) * time.Second
			c.cfg.Expires = max(c.cfg.Expires, expires)
			contact = fmt.Sprintf(`<%s>;+sip.instance="<%s>";reg-id=1;expires=%s`, c.Contact(), c.cfg.Instance, deltaSeconds(expires))
			continue
		}
		if res.StatusCode >= 300 {
			return 0, &StatusError{Method: "REGISTER", Code: res.StatusCode, Reason: res.Reason}
		}
		return c.granted(res, expires), nil
	}
	return 0, errors.New("REGISTER: the registrar grants no expiry")
}

// granted reads the answer to a REGISTER.
func (c *Client) granted(res *gosip.Response, asked time.Duration) time.Duration {
	granted := asked
	if n, err := strconv.Atoi(headerText(res, "Expires")); err == nil {
		granted = time.Duration(n) * time.Second
	}
	var route []string
	for _, h := range res.GetHeaders("Service-Route") {
		route = append(route, splitOutside(h.Value(), ',')...)
	}
	gruu := ""
	for _, h := range headers(res, "Contact") {
		for _, one := range splitOutside(h.Value(), ',') {
			if !sameURI(one, c.Contact()) {
				continue
			}
			_, params, _ := strings.Cut(one, ">")
			if n, err := strconv.Atoi(param(params, "expires")); err == nil {
				granted = time.Duration(n) * time.Second
			}
			gruu = param(params, "pub-gruu")
		}
	}
	c.mu.Lock()
	c.registered, c.route, c.gruu = asked > 0, route, gruu
	c.mu.Unlock()
	return min(granted, asked)
}

// Order is one order of the machine form (ims-sip 3.4): Op is list, push, pull, accept,
// decline, cancel, auto or name.
type Order struct {
	V       int    `json:"v"`
	Op      string `json:"op"`
	Ref     string `json:"ref,omitempty"`
	Me      string `json:"me,omitempty"`
	Session string `json:"session,omitempty"`
	To      string `json:"to,omitempty"`
	Offer   string `json:"offer,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Mode    string `json:"mode,omitempty"`
	Name    string `json:"name,omitempty"`
}

// Send sends an order; its V and Me are filled in, its Ref when it is empty. It returns the
// Ref, by which the answer is known, once the service has taken the order. A refusal is a
// *StatusError.
func (c *Client) Send(ctx context.Context, order Order) (ref string, err error) {
	order.V, order.Me = 1, c.cfg.Instance
	if order.Ref == "" {
		order.Ref = newToken(6)
	}
	body, err := encode(order)
	if err != nil {
		return "", err
	}
	return order.Ref, c.message(ctx, MoveType, MoveType+", text/plain", body)
}

// SendText sends plain words. A refusal is a *StatusError.
func (c *Client) SendText(ctx context.Context, words string) error {
	return c.message(ctx, "text/plain;charset=UTF-8", "text/plain", []byte(words))
}

func (c *Client) message(ctx context.Context, kind, accept string, body []byte) error {
	callID := newToken(12)
	res, err := c.do(ctx, func() *gosip.Request {
		req := c.request("MESSAGE", c.cfg.Service, c.cfg.Service, callID)
		req.AppendHeader(gosip.NewHeader("P-Preferred-Identity", "<"+c.cfg.AoR+">"))
		req.AppendHeader(gosip.NewHeader("Accept", accept))
		req.AppendHeader(gosip.NewHeader("Content-Type", kind))
		req.SetBody(body)
		return req
	})
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return &StatusError{Method: "MESSAGE", Code: res.StatusCode, Reason: res.Reason}
	}
	return nil
}
