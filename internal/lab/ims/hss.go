package ims

import (
	"context"
	"crypto/md5" //nolint:gosec // digest of RFC 2617, as the core speaks it
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"scas/internal/lab"
)

// User is one subscription in the HSS. The private identity is Name@domain, the first public
// one sip:Name@domain.
type User struct {
	Name, Password string
	Identities     []string // further public ones, as tel:+15550100
	// What the S-CSCF puts into the third-party REGISTER (TS 29.228 annex B).
	Request, Response bool // the terminal's REGISTER; its 200
	ServiceInfo       string
}

// hss answers the S-CSCF's Cx requests (TS 29.228 §6). Safe for concurrent use.
type hss struct {
	plan  Plan
	users []User
	ln    *net.TCPListener
	log   *eventLog
	wg    sync.WaitGroup

	mu    sync.Mutex // guards what follows, and writing to a peer
	peers map[net.Conn]string
	seq   uint32
}

const diameterPort = 3868

// startHSS listens at the plan's address; the S-CSCF connects by itself.
func startHSS(ctx context.Context, host lab.Host, plan Plan, users []User, log *eventLog) (*hss, error) {
	ln, err := host.ListenTCP(ctx, netip.AddrPortFrom(plan.HSS, diameterPort))
	if err != nil {
		return nil, fmt.Errorf("hss: %w", err)
	}
	h := &hss{plan: plan, users: users, ln: ln, log: log, peers: map[net.Conn]string{}}
	h.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			h.wg.Go(func() { h.serve(c) })
		}
	})
	return h, nil
}

func (h *hss) close() {
	h.ln.Close()
	h.mu.Lock()
	for c := range h.peers {
		c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

// connected reports whether an S-CSCF has introduced itself.
func (h *hss) connected() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range h.peers {
		if name != "" {
			return true
		}
	}
	return false
}

// serve answers one connection until it ends.
func (h *hss) serve(c net.Conn) {
	defer c.Close()
	h.mu.Lock()
	h.peers[c] = ""
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.peers, c)
		h.mu.Unlock()
	}()
	for {
		m, err := readDiameter(c)
		if err != nil {
			return
		}
		if !m.request {
			h.log.add(Event{From: scscf, To: home, Title: commandName(m), Detail: "success", Answer: true})
			continue
		}
		answer := diameter{command: m.command, application: m.application, hop: m.hop, end: m.end, avps: h.answer(c, m)}
		h.told(answer)
		h.mu.Lock()
		_, err = c.Write(answer.marshal())
		h.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// told notes an answer of the Cx application.
func (h *hss) told(m diameter) {
	if m.application != cxApplication {
		return
	}
	said := "success"
	if m.number(avpResult) != resultSuccess {
		said = "user unknown"
	}
	h.log.add(Event{From: home, To: scscf, Title: commandName(m), Detail: said, Answer: true})
}

func (h *hss) origin() []avp {
	return []avp{text(avpOriginHost, h.plan.HSS.String()), text(avpOriginRealm, h.plan.Domain)}
}

func cxVendor() avp {
	return group(avpVendorApplication, number(avpVendorID, vendor3GPP), number(avpAuthApplication, cxApplication))
}

// answer returns the attributes of the answer to m.
func (h *hss) answer(c net.Conn, m diameter) []avp {
	switch m.command {
	case cmdCapabilities:
		h.mu.Lock()
		h.peers[c] = m.text(avpOriginHost)
		h.mu.Unlock()
		ip := append([]byte{0, 1}, h.plan.HSS.AsSlice()...) // family 1: IPv4
		return append(append([]avp{number(avpResult, resultSuccess)}, h.origin()...), avp{code: avpHostIP, data: ip},
			number(avpVendorID, vendor3GPP), text(avpProduct, "lab hss"), number(avpSupportedVendor, vendor3GPP), cxVendor(),
			number(avpAuthApplication, cxApplication))
	case cmdWatchdog, cmdDisconnect:
		return append([]avp{number(avpResult, resultSuccess)}, h.origin()...)
	}
	common := append([]avp{text(avpSessionID, m.text(avpSessionID)), cxVendor(), number(avpAuthState, 1)}, h.origin()...)
	identity := m.text(avpPublicIdentity)
	h.log.add(Event{From: scscf, To: home, Title: commandName(m), Detail: identity})
	u, ok := h.user(identity)
	if !ok {
		return append(common, group(avpExperimental, number(avpVendorID, vendor3GPP), number(avpExperimentalCode, resultUserUnknown)))
	}
	switch m.command {
	case cmdMAR:
		return append(common, h.credentials(u, identity)...)
	case cmdSAR:
		out := append(common, number(avpResult, resultSuccess), text(avpUserName, h.private(u)))
		if m.number(avpAssignment) <= 3 { // the user is or becomes assigned: TS 29.229 §6.3.15
			out = append(out, textCx(avpUserData, h.profile(u)))
		}
		return out
	case cmdUAR, cmdLIR:
		return append(common, number(avpResult, resultSuccess), textCx(avpServerName, h.plan.uri(h.plan.SCSCF)))
	}
	return append(common, number(avpResult, resultUnsupported))
}

// credentials is the SIP-Auth-Data-Item of SIP digest (TS 29.228 §6.3.2).
func (h *hss) credentials(u User, identity string) []avp {
	sum := md5.Sum([]byte(h.private(u) + ":" + h.plan.Domain + ":" + u.Password)) //nolint:gosec // as above
	item := groupCx(avpAuthItem, numberCx(avpItemNumber, 1), textCx(avpAuthScheme, "SIP Digest"),
		groupCx(avpDigestAuthenticate, text(avpDigestRealm, h.plan.Domain), text(avpDigestAlgorithm, "MD5"), text(avpDigestQoP, "auth"),
			text(avpDigestHA1, hex.EncodeToString(sum[:]))))
	return []avp{
		number(avpResult, resultSuccess), text(avpUserName, h.private(u)), textCx(avpPublicIdentity, identity),
		numberCx(avpAuthItems, 1), item,
	}
}

func (h *hss) private(u User) string { return u.Name + "@" + h.plan.Domain }

func (h *hss) public(u User) []string {
	return append([]string{"sip:" + u.Name + "@" + h.plan.Domain}, u.Identities...)
}

func (h *hss) user(identity string) (User, bool) {
	identity, _, _ = strings.Cut(identity, ";")
	i := slices.IndexFunc(h.users, func(u User) bool { return slices.Contains(h.public(u), identity) })
	if i < 0 {
		return User{}, false
	}
	return h.users[i], true
}

// remove sends RTR for a user (TS 29.228 §6.1.3): the network ends all registrations.
func (h *hss) remove(name string) error {
	u, ok := h.user("sip:" + name + "@" + h.plan.Domain)
	if !ok {
		return fmt.Errorf("hss: no user %s", name)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for c, peer := range h.peers {
		if peer == "" {
			continue
		}
		h.seq++
		m := diameter{request: true, command: cmdRTR, application: cxApplication, hop: h.seq, end: h.seq, avps: []avp{
			text(avpSessionID, fmt.Sprintf("%s;%d;%d", h.plan.HSS, time.Now().Unix(), h.seq)), cxVendor(), number(avpAuthState, 1),
		}}
		m.avps = append(append(m.avps, h.origin()...), text(avpDestinationHost, peer), text(avpDestinationRealm, h.plan.Domain), text(avpUserName, h.private(u)))
		for _, id := range h.public(u) {
			m.avps = append(m.avps, textCx(avpPublicIdentity, id))
		}
		m.avps = append(m.avps, groupCx(avpDeregistration, numberCx(avpReasonCode, 0), textCx(avpReasonInfo, "removed")))
		h.log.add(Event{From: home, To: scscf, Title: commandName(m), Detail: h.public(u)[0]})
		_, err := c.Write(m.marshal())
		return err
	}
	return errors.New("hss: no S-CSCF is connected")
}

// commandName is how TS 29.228 abbreviates a request or answer.
func commandName(m diameter) string {
	name := map[uint32]string{cmdUAR: "UA", cmdSAR: "SA", cmdLIR: "LI", cmdMAR: "MA", cmdRTR: "RT"}[m.command]
	if m.request {
		return name + "R"
	}
	return name + "A"
}
