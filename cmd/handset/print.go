package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"unicode"

	"scas/sip"
)

// The kinds of an event.
const (
	kindRegistered = "registered" // {contact, gruu}
	kindOffer      = "offer"      // as the service sent it
	kindResult     = "result"
	kindSessions   = "sessions"
	kindText       = "text"   // {text}
	kindPlayer     = "player" // {event: started|ended|failed, ...}
	kindPresence   = "presence"
	kindTaken      = "taken" // the service has taken an order: {op, ref}
	kindError      = "error" // {text}
)

// event is one line of output: JSON with a type.
type event struct {
	kind string
	raw  json.RawMessage // an object
}

// newEvent returns an event of v, which marshals to an object.
func newEvent(kind string, v any) event {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return newEvent(kindError, message{Text: err.Error()})
	}
	return event{kind: kind, raw: bytes.TrimSpace(b.Bytes())}
}

type message struct {
	Text string `json:"text"`
}

type taken struct {
	Op  string `json:"op"`
	Ref string `json:"ref"`
}

type registered struct {
	Contact string  `json:"contact"`
	GRUU    *string `json:"gruu"`
}

type playing struct {
	Event string  `json:"event"`
	Offer string  `json:"offer"`
	URL   string  `json:"url"`
	PID   *int    `json:"pid"`
	Code  *int    `json:"code"`
	Argv0 string  `json:"command"`
	Error *string `json:"error"`
}

// line is the event as one line of JSON.
func (v event) line() []byte {
	head := `{"type":"` + v.kind + `"`
	if string(v.raw) == "{}" {
		return []byte(head + "}\n")
	}
	return append([]byte(head+","), append(v.raw[1:len(v.raw):len(v.raw)], '\n')...)
}

// parseEvent reads a line.
func parseEvent(line []byte) (event, error) {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(line, &head); err != nil || head.Type == "" {
		return event{}, fmt.Errorf("the handset's answer cannot be read: %q", clean(string(line)))
	}
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte(`{"type":"`+head.Type+`"`))
	if !ok {
		return event{}, fmt.Errorf("the handset's answer does not begin with its type: %q", clean(string(line)))
	}
	return event{kind: head.Type, raw: append([]byte("{"), bytes.TrimPrefix(rest, []byte(","))...)}, nil
}

// failed reports whether the event says that an order was not carried out.
func (v event) failed() bool {
	if v.kind == kindError {
		return true
	}
	var r sip.Result
	return v.kind == kindResult && json.Unmarshal(v.raw, &r) == nil && r.State != "done"
}

// printer writes events for people or for programs. Safe for concurrent use.
type printer struct {
	mu   sync.Mutex
	w    io.Writer
	json bool
}

func (p *printer) print(v event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.json {
		_, _ = p.w.Write(v.line()) // a closed pipe ends the program by its signal
		return
	}
	fmt.Fprint(p.w, v.words())
}

// words is the event for people; lines end with a newline.
func (v event) words() string {
	switch v.kind {
	case kindSessions:
		var l sip.SessionList
		_ = json.Unmarshal(v.raw, &l) // checked when it came in
		return table(l)
	case kindOffer:
		var o sip.Offer
		_ = json.Unmarshal(v.raw, &o)
		return offerWords(o)
	case kindResult:
		var r sip.Result
		_ = json.Unmarshal(v.raw, &r)
		if r.Text == "" {
			r.Text = r.State + " (" + r.Code + ")"
		}
		return clean(r.Text) + "\n"
	case kindPlayer:
		var p playing
		_ = json.Unmarshal(v.raw, &p)
		return p.words()
	case kindRegistered:
		var r registered
		_ = json.Unmarshal(v.raw, &r)
		return "Registered at " + clean(r.Contact) + ".\n"
	case kindTaken, kindPresence:
		return ""
	}
	var m message
	_ = json.Unmarshal(v.raw, &m)
	var b strings.Builder
	for line := range strings.Lines(m.Text) {
		b.WriteString(clean(line) + "\n")
	}
	return b.String()
}

func (p playing) words() string {
	switch {
	case p.Error != nil:
		return "Not played: " + clean(*p.Error) + ".\n"
	case p.Event == "ended" && p.Code != nil && *p.Code != 0:
		return fmt.Sprintf("%s ended with code %d.\n", clean(p.Argv0), *p.Code)
	case p.Event == "ended":
		return clean(p.Argv0) + " ended.\n"
	}
	return clean(p.Argv0) + " plays " + clean(p.URL) + "\n"
}

func offerWords(o sip.Offer) string {
	where := clean(o.Title) + " is on " + clean(o.From)
	if o.Position != nil {
		where += " at " + clock(*o.Position)
	}
	link := ""
	if len(o.URL) > 0 {
		link = clean(o.URL[0])
	}
	if o.Ref != "" {
		return where + ".\n" + link + "\n"
	}
	return fmt.Sprintf("%s. Go on here? yes %s or no %s (%d s)\n%s\n", where, clean(o.Offer), clean(o.Offer), o.Expires, link)
}

// table writes a list.
func table(l sip.SessionList) string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SESSION\tTITLE\tON\tSTATE\tPOSITION\tDURATION")
	for _, it := range l.Items {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", clean(it.Session), clean(it.Title), clean(it.On), clean(it.State),
			optional(it.Position), optional(it.Duration))
	}
	_ = w.Flush() // a Buffer takes everything
	if l.More {
		b.WriteString("and more\n")
	}
	for _, t := range l.Terminals {
		b.WriteString(map[bool]string{true: "* ", false: "  "}[t.Me] + clean(t.Name) + map[bool]string{true: " (active)"}[t.Active] + "\n")
	}
	return b.String()
}

func optional(s *float64) string {
	if s == nil {
		return "–"
	}
	return clock(*s)
}

func clock(seconds float64) string {
	s := int(max(0, seconds))
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// clean makes text from the network fit for a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
