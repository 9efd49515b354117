package sip

import (
	"fmt"
	"net/url"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"scas/session"
)

// The answers in plain words (ims-sip 3.5): short lines, numbers first, the link on a line of
// its own. What a user wrote is never echoed.

const (
	maxTitle = 40  // runes
	budget   = 700 // bytes of a body, so that the request stays within one datagram
)

const helpText = "I understand: list, push TERMINAL, pull, yes, no, auto on, auto off, name NAME, help.\n" +
	"With several sessions or offers put the number of one after the word: pull 7, push 7 tv, yes 31.\n"

// clean returns s as it may stand in a line: without control characters, line separators and
// characters that change the direction of writing, at most max runes.
func clean(s string, max int) string {
	var b strings.Builder
	n := 0
	for _, r := range strings.ToValidUTF8(s, "") {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
			continue
		}
		if n++; n > max {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// titleOf returns what a film is called: the last part of its URL's path, without a file
// extension, else the server's name.
func titleOf(r session.Record) string {
	if r.URL == nil {
		return "film"
	}
	u, err := url.Parse(*r.URL)
	if err != nil {
		return "film"
	}
	base := path.Base(u.Path)
	if ext := path.Ext(base); len(ext) > 1 && len(ext) <= 5 && len(ext) < len(base) {
		base = strings.TrimSuffix(base, ext)
	}
	if title := clean(base, maxTitle); title != "" && title != "/" && title != "." {
		return title
	}
	if host := clean(u.Hostname(), maxTitle); host != "" {
		return host
	}
	return "film"
}

// offerable reports whether a URL can stand alone on a line and in JSON, byte for byte.
func offerable(u string) bool {
	for i := 0; i < len(u); i++ {
		if u[i] <= ' ' || u[i] == 0x7f {
			return false
		}
	}
	return u != "" && utf8.ValidString(u)
}

// clock writes seconds of media time as 12:31 or 1:02:03.
func clock(seconds float64) string {
	s := int(max(0, seconds))
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// words writes a list in plain form.
func (l SessionList) words() string {
	var b strings.Builder
	if len(l.Items) == 0 {
		b.WriteString("Nothing is playing.\n")
	}
	for _, it := range l.Items {
		fmt.Fprintf(&b, "%s %s, on %s", it.Session, it.Title, it.On)
		if it.State == "paused" {
			b.WriteString(", paused")
		}
		if it.Position != nil {
			b.WriteString(", " + clock(*it.Position))
		}
		b.WriteByte('\n')
	}
	if l.More {
		b.WriteString("and more\n")
	}
	me := ""
	for i, t := range l.Terminals {
		b.WriteString([]string{"Terminals: ", ", "}[min(i, 1)] + t.Name)
		switch {
		case t.Me && t.Active:
			b.WriteString(" (this one, active)")
		case t.Me:
			b.WriteString(" (this one)")
		case t.Active:
			b.WriteString(" (active)")
		}
		if t.Me {
			me = t.Name
		}
	}
	if len(l.Terminals) > 0 {
		b.WriteByte('\n')
	}
	return b.String() + l.hint(me)
}

// hint is the line that says what to write next.
func (l SessionList) hint(me string) string {
	if me != "" {
		for _, it := range l.Items {
			if it.On != me {
				return "Say: pull " + it.Session + "\n"
			}
		}
	}
	for _, it := range l.Items {
		for _, t := range l.Terminals {
			if t.Name != it.On {
				return "Say: push " + it.Session + " " + t.Name + "\n"
			}
		}
	}
	return ""
}

// words writes an offer in plain form. The URL stands alone on its line, byte for byte.
func (o Offer) words() string {
	where := o.Title + " is on " + o.From
	if o.Position != nil {
		where += " at " + clock(*o.Position)
	}
	link := ""
	if len(o.URL) > 0 {
		link = o.URL[0]
	}
	if o.asked {
		return fmt.Sprintf("%s. Open this to go on here (%d s):\n%s\n", where, o.Expires, link)
	}
	return fmt.Sprintf("%s. Go on here?\n%s\nSay: yes %s or no %s (%d s). Opening the link also means yes.\n",
		where, link, o.Offer, o.Offer, o.Expires)
}

// words writes a result in plain form.
func (r Result) words() string { return r.Text + "\n" }

// resultText says how a transfer of title from one terminal to another ended.
func resultText(state session.TransferState, code, title, from, to string) string {
	switch state {
	case session.Done:
		return "Moved: " + title + " is now on " + to + "."
	case session.Declined:
		return to + " said no: " + title + " stays on " + from + "."
	case session.Expired:
		return "No answer from " + to + " in time: " + title + " stays on " + from + "."
	case session.Cancelled:
		return "Called off: " + title + " stays on " + from + "."
	}
	return "Not moved (" + codeText(code) + "): " + title + " stays on " + from + "."
}

// codeText explains a code of the contract.
func codeText(code string) string {
	switch code {
	case codeUnknownSession:
		return "there is no such session"
	case codeUnknownTerminal:
		return "there is no such terminal"
	case codeSameTerminal:
		return "it is there already"
	case codeOffline:
		return "that terminal cannot be reached"
	case codeBusy:
		return "another move is under way"
	case codeNo:
		return "the answer was no"
	case codeExpired:
		return "it took too long"
	case codeNotAllowed:
		return "that is not allowed"
	case codeUnsupported:
		return "that cannot be moved"
	case codeRate:
		return "too many at a time"
	case codeGateway:
		return "the media server or the network did not play along"
	}
	return "something went wrong here"
}

// The codes of a result (ims-sip 3.4; a contract).
const (
	codeOK              = "ok"
	codeUnknownSession  = "unknown-session"
	codeUnknownTerminal = "unknown-terminal"
	codeSameTerminal    = "same-terminal"
	codeOffline         = "offline"
	codeBusy            = "busy"
	codeNo              = "no"
	codeExpired         = "expired"
	codeNotAllowed      = "not-allowed"
	codeUnsupported     = "unsupported"
	codeGateway         = "gateway"
	codeRate            = "rate"
	codeInternal        = "internal"
)

// codeOf returns the code for a reason of a transfer or a refused order.
func codeOf(r session.Reason) string {
	switch r {
	case session.NoSession, session.OriginEnded:
		return codeUnknownSession
	case session.SameTerminal:
		return codeSameTerminal
	case session.NotAllowed:
		return codeNotAllowed
	case session.Offline, session.TargetLeft:
		return codeOffline
	case session.Busy:
		return codeBusy
	case session.Unsupported, session.NotSeekable:
		return codeUnsupported
	}
	return codeGateway
}

// ended returns state and code of a result for a transfer that ended.
func ended(t session.Transfer) (state, code string) {
	switch t.State {
	case session.Done:
		return "done", codeOK
	case session.Declined:
		return "declined", codeNo
	case session.Expired:
		return "expired", codeExpired
	case session.Cancelled:
		if t.Reason != nil {
			return "cancelled", codeOf(*t.Reason)
		}
		return "cancelled", codeNo
	}
	if t.Reason == nil {
		return "failed", codeInternal
	}
	return "failed", codeOf(*t.Reason)
}
