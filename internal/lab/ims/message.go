package ims

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Message is a SIP message as it was on the wire.
type Message struct {
	At       time.Time // seen by the kernel of the core's namespace
	From, To netip.AddrPort
	Start    string // first line
	Method   string // of a response: of what it answers
	Code     int    // 0: a request
	Again    bool   // sent before: a retransmission
	Head     string // header lines
	Body     []byte
}

// ParseMessage reads a datagram; ok is false for what is no SIP message.
func ParseMessage(b []byte) (m Message, ok bool) {
	head, body, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok {
		return m, false
	}
	m.Start, m.Head, _ = strings.Cut(string(head), "\r\n")
	m.Body = append([]byte(nil), body...)
	first, rest, _ := strings.Cut(m.Start, " ")
	switch {
	case first == "SIP/2.0":
		code, _, _ := strings.Cut(rest, " ")
		m.Code, _ = strconv.Atoi(code)
		_, m.Method, _ = strings.Cut(m.Header("CSeq"), " ")
		return m, m.Code > 0 && m.Method != ""
	case strings.HasSuffix(m.Start, " SIP/2.0"):
		m.Method = first
		return m, true
	}
	return m, false
}

// Header returns the first header of that name; "" when there is none.
func (m Message) Header(name string) string {
	for line := range strings.SplitSeq(m.Head, "\r\n") {
		n, value, ok := strings.Cut(line, ":")
		if ok && strings.EqualFold(strings.TrimSpace(n), name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// user is the user part of the address in a header.
func (m Message) user(header string) string {
	value := m.Header(header)
	if i := strings.Index(value, "sip:"); i >= 0 {
		value = value[i+len("sip:"):]
	}
	if i := strings.IndexAny(value, "@>;"); i >= 0 {
		value = value[:i]
	}
	return value
}

// words says a message in a few words.
func (m Message) words() (title, detail string) {
	if m.Code > 0 {
		_, reason, _ := strings.Cut(m.Start, " ")
		title = reason
		detail = "(" + m.Method + ")"
	} else {
		title, detail = m.Method, m.meaning()
	}
	if m.Again {
		detail += " (again)"
	}
	return title, detail
}

// meaning says what a request is about.
func (m Message) meaning() string {
	switch m.Method {
	case "REGISTER":
		about := m.user("To") + ", expires " + m.Header("Expires")
		if m.Header("Content-Type") == "message/sip" {
			about += ", with the terminal's REGISTER"
		}
		return about
	case "SUBSCRIBE":
		return m.user("To") + ", " + m.Header("Event") + ", expires " + m.Header("Expires")
	case "NOTIFY":
		state, _, _ := strings.Cut(m.Header("Subscription-State"), ";")
		return m.Header("Event") + " " + state + documentWords(m.Body)
	case "PUBLISH":
		return m.user("To") + documentWords(m.Body)
	case "MESSAGE":
		return bodyWords(m.Body)
	}
	return ""
}

// documentWords says what a reginfo or PIDF document tells.
func documentWords(body []byte) string {
	if len(body) == 0 {
		return ", no document"
	}
	var out []string
	add := func(words ...string) {
		if said := strings.TrimSpace(strings.Join(words, " ")); !slices.Contains(out, said) {
			out = append(out, said)
		}
	}
	tags := xml.NewDecoder(bytes.NewReader(body))
	for {
		token, err := tags.Token()
		if err != nil {
			break
		}
		tag, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		attribute := func(name string) string {
			i := slices.IndexFunc(tag.Attr, func(a xml.Attr) bool { return a.Name.Local == name })
			if i < 0 {
				return ""
			}
			return tag.Attr[i].Value
		}
		switch tag.Name.Local {
		case "registration":
			add("registration", attribute("state"))
		case "contact":
			if event := attribute("event"); event != "" {
				add("contact", event)
			}
		case "user-input":
			var said string
			if tags.DecodeElement(&said, &tag) == nil {
				add(strings.TrimSpace(said))
			}
		}
	}
	if len(out) == 0 {
		return ""
	}
	return ": " + strings.Join(out, ", ")
}

// bodyWords says an order, offer or result of the machine form, or the first line of a text.
func bodyWords(body []byte) string {
	var v struct {
		Op, To, Session, Offer, From, State, Code, On, Mode, Name, Reason string
		Pos                                                               *float64
		URL                                                               []string
		Items                                                             []json.RawMessage
		Auto                                                              bool
	}
	if json.Unmarshal(body, &v) != nil || v.Op == "" {
		line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
		return strconv.Quote(line)
	}
	said := v.Op
	add := func(format string, args ...any) { said += " " + fmt.Sprintf(format, args...) }
	if v.Session != "" && v.Op != "offer" && v.Op != "result" {
		add("session %s", v.Session)
	}
	if v.Offer != "" {
		add("%s", v.Offer)
	}
	switch v.Op {
	case "push":
		add("to %s", v.To)
	case "offer":
		add("from %s", v.From)
		if v.Pos != nil {
			add("at %.1f s", *v.Pos)
		}
		add("%s", strings.Join(v.URL, " "))
		if v.Auto {
			add("(automatic)")
		}
	case "result":
		add("%s", v.State)
		if v.Code != "ok" {
			add("(%s)", v.Code)
		}
		if v.On != "" {
			add("on %s", v.On)
		}
	case "sessions":
		add("(%d)", len(v.Items))
	case "auto":
		add("%s", v.Mode)
	case "name":
		add("%s", v.Name)
	case "decline":
		add("(%s)", v.Reason)
	}
	return said
}
