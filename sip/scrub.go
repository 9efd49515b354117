package sip

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"
)

// branch2543 starts the branch that a request of RFC 2543 without a From tag is given, so that
// its repetitions are known. It is taken out of the answer again.
const branch2543 = "z9hG4bK-rfc2543-"

// scrubbed is what became of the bytes of one message: data to parse, or an answer to send
// back instead, or neither (dropped); reason is the counter for the last two.
type scrubbed struct {
	data   []byte
	answer []byte
	reason string
}

func dropped(reason string) scrubbed { return scrubbed{reason: reason} }

// scrub looks at the bytes of one whole message before the parser does: what the parser would
// swallow without an answer is answered here, what it reads wrongly although it is right is
// put in plain form, and what is no message is dropped. In the ordinary case data is b itself.
func scrub(b []byte, maxLine int) scrubbed {
	b = bytes.TrimLeft(b, "\r\n")
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) == 0 {
			return dropped("keepalives")
		}
		return dropped("no_messages")
	}
	head, body := b[:end+2], b[end+4:]
	first := bytes.Index(head, []byte("\r\n"))
	line := head[:first]
	if bytes.HasPrefix(line, []byte("SIP/")) {
		h, why := scanHead(head[first+2:], maxLine)
		if !goodStatus(line) || why != "" || h.badCSeq || h.badLength {
			return dropped("bad_responses")
		}
		return scrubbed{data: b}
	}
	if !bytes.Contains(line, []byte(" SIP/")) && !bytes.Contains(line, []byte(" sip/")) {
		return dropped("no_messages")
	}
	h, why := scanHead(head[first+2:], maxLine)
	if why != "" {
		return dropped(why)
	}
	if why := h.wrong(line, len(body)); why != "" {
		return refuse(line, h, why)
	}
	if h.odd || h.legacy() {
		return scrubbed{data: h.rebuild(line, body)}
	}
	return scrubbed{data: b}
}

// wrong returns the status line of what is wrong with a request, "" when nothing is.
func (h *rawHead) wrong(line []byte, body int) string {
	switch {
	case !goodRequestLine(line):
		return "400 Bad Request-Line"
	case h.control:
		return "400 Control Characters"
	case h.lengths > 1 || h.badLength || h.length > body:
		return "400 Bad Content-Length"
	case h.badCSeq:
		return "400 Bad CSeq"
	case h.separators:
		return "400 Bad Header"
	case !goodScheme(line):
		return "416 Unsupported URI Scheme"
	}
	return ""
}

// goodScheme reports a Request-URI that can be for us (RFC 3261 §8.2.2.1).
func goodScheme(line []byte) bool {
	_, uri, _ := bytes.Cut(line, []byte(" "))
	scheme, _, _ := bytes.Cut(uri, []byte(":"))
	switch strings.ToLower(string(scheme)) {
	case "sip", "sips", "tel":
		return true
	}
	return false
}

// rawHead is what scanHead saw.
type rawHead struct {
	lines     [][]byte // as they came, continuations included
	names     []string // lower case, long form
	lengths   int
	length    int // of the body; 0 when not said
	badLength bool
	badCSeq   bool
	control   bool
	// separators: some stand where none may (RFC 4475 §3.1.2.1, §3.1.2.15)
	separators bool
	odd        bool // folded lines, or blanks where the parser wants none
	via        int  // index of the first Via
	from       int
}

// scanHead walks over the header lines.
func scanHead(b []byte, maxLine int) (rawHead, string) {
	h := rawHead{via: -1, from: -1, lines: make([][]byte, 0, 24), names: make([]string, 0, 24)}
	for len(b) > 0 {
		n := lineEnd(b)
		line := b[:n-2]
		b = b[n:]
		if len(line) > maxLine {
			return h, "long_headers"
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 {
			return h, "no_messages"
		}
		name := longName(string(bytes.ToLower(bytes.TrimRight(line[:colon], " \t"))))
		h.lines, h.names = append(h.lines, line), append(h.names, name)
		h.look(name, line, colon)
	}
	return h, ""
}

// lineEnd is the length of the first header line with its continuations (RFC 3261 §7.3.1).
func lineEnd(b []byte) int {
	n := 0
	for {
		i := bytes.Index(b[n:], []byte("\r\n"))
		if i < 0 {
			return len(b)
		}
		n += i + 2
		if n >= len(b) || (b[n] != ' ' && b[n] != '\t') {
			return n
		}
	}
}

// look notes what matters of one line.
func (h *rawHead) look(name string, line []byte, colon int) {
	value := bytes.TrimSpace(line[colon+1:])
	folded := bytes.IndexByte(line, '\n') >= 0
	for i, c := range line {
		if isControl(c) && (i == 0 || line[i-1] != '\\') { // but for a quoted-pair (§25.1)
			h.control = true
		}
	}
	switch name {
	case "content-length":
		n, err := strconv.ParseUint(string(value), 10, 31)
		h.lengths++
		h.length, h.badLength = int(n), h.badLength || err != nil
	case "cseq":
		h.badCSeq = h.badCSeq || !goodCSeq(value)
		h.odd = h.odd || folded || bytes.Contains(value, []byte("  ")) || bytes.IndexByte(value, '\t') >= 0
	case "via", "from", "to", "contact", "route", "record-route":
		h.place(name)
		h.separators = h.separators || badSeparators(name, value)
		h.odd = h.odd || folded || oddBlanks(value, name == "via")
		h.control = h.control || !utf8.Valid(value)
	default:
		h.odd = h.odd || folded
	}
}

// badSeparators reports parameters without a name in Via, and display names in From and To
// that want quotes.
func badSeparators(name string, value []byte) bool {
	switch name {
	case "via":
		return bytes.Contains(value, []byte(";;")) || bytes.Contains(value, []byte(",,"))
	case "from", "to":
		display, _, ok := bytes.Cut(value, []byte("<"))
		return ok && len(display) > 0 && display[0] != '"' && bytes.ContainsAny(display, ",;:@=()")
	}
	return false
}

// place remembers where the first Via and From are.
func (h *rawHead) place(name string) {
	switch {
	case name == "via" && h.via < 0:
		h.via = len(h.lines) - 1
	case name == "from" && h.from < 0:
		h.from = len(h.lines) - 1
	}
}

// goodCSeq: a number below 2^31, and a method (RFC 3261 §8.1.1.5).
func goodCSeq(value []byte) bool {
	digits, _, _ := bytes.Cut(bytes.ReplaceAll(value, []byte("\r\n"), nil), []byte(" "))
	n, err := strconv.ParseUint(strings.TrimSpace(string(digits)), 10, 32)
	return err == nil && n <= 1<<31-1
}

// oddBlanks reports blanks around ; and = that the parser takes for part of a name.
func oddBlanks(v []byte, via bool) bool {
	for i, c := range v {
		if c != ' ' && c != '\t' {
			continue
		}
		prev, next := v[max(i-1, 0)], v[min(i+1, len(v)-1)]
		if prev == '=' || next == '=' || prev == ';' || next == ';' || via && (prev == '/' || next == '/' || next == ':') {
			return true
		}
		if next == ' ' || next == '\t' || next == '<' && prev != '"' && i == 0 {
			return true
		}
	}
	return false
}

// legacy reports a request of RFC 2543 that sipgo cannot tell from others: no branch, no tag.
func (h *rawHead) legacy() bool {
	if h.via < 0 || h.from < 0 {
		return false
	}
	return !bytes.Contains(h.lines[h.via], []byte("branch")) && !bytes.Contains(h.lines[h.from], []byte("tag"))
}

// rebuild writes the message with its odd headers in plain form.
func (h *rawHead) rebuild(first, body []byte) []byte {
	var out bytes.Buffer
	out.Write(first)
	out.WriteString("\r\n")
	legacy := h.legacy()
	for i, line := range h.lines {
		name, value, _ := strings.Cut(string(line), ":")
		out.WriteString(strings.TrimSpace(name) + ": " + plain(h.names[i], value))
		if legacy && i == h.via {
			sum := sha256.Sum256(bytes.Join(h.lines, []byte("\r\n")))
			out.WriteString(";branch=" + branch2543 + hex.EncodeToString(sum[:8]))
		}
		out.WriteString("\r\n")
	}
	out.WriteString("\r\n")
	out.Write(body)
	return out.Bytes()
}

// plain unfolds a value, and of the headers that are parsed takes out the blanks that
// RFC 3261 §25.1 allows around separators.
func plain(name, v string) string {
	v = strings.TrimSpace(strings.NewReplacer("\r\n", " ", "\t", " ").Replace(v))
	var seps string
	switch name {
	case "via":
		seps = ";=,/:"
	case "from", "to", "contact", "route", "record-route":
		seps = ";=,"
	case "cseq":
		seps = " "
	default:
		return v
	}
	var out strings.Builder
	quoted, inside := false, false
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case quoted && c == '\\' && i+1 < len(v):
			out.WriteByte(c)
			i++
			c = v[i]
		case c == '"':
			quoted = !quoted
		case !quoted && c == '<':
			inside = true
		case !quoted && c == '>':
			inside = false
		case !quoted && !inside && c == ' ':
			next := nextNonBlank(v[i:])
			text := out.String()
			if text == "" || strings.IndexByte(seps+" ", text[len(text)-1]) >= 0 || strings.IndexByte(seps, next) >= 0 {
				continue
			}
		}
		out.WriteByte(c)
	}
	return out.String()
}

func nextNonBlank(s string) byte {
	for i := 0; i < len(s); i++ {
		if s[i] != ' ' {
			return s[i]
		}
	}
	return 0
}

// refuse builds an answer from the raw lines of a message that the parser would not take. ACK and
// what has no Via get none.
func refuse(line []byte, h rawHead, status string) scrubbed {
	s := scrubbed{reason: "malformed"}
	if h.via < 0 || bytes.HasPrefix(line, []byte("ACK ")) {
		return s
	}
	var out bytes.Buffer
	out.WriteString("SIP/2.0 " + status + "\r\n")
	seen := map[string]bool{}
	for i, name := range h.names {
		switch name {
		case "via", "from", "to", "call-id", "cseq":
			if name != "via" && seen[name] {
				continue
			}
			seen[name] = true
			out.Write(stripControls(h.lines[i]))
			if name == "to" && !bytes.Contains(h.lines[i], []byte("tag")) {
				out.WriteString(";tag=" + newToken(6))
			}
			out.WriteString("\r\n")
		}
	}
	out.WriteString("Content-Length: 0\r\n\r\n")
	s.answer = out.Bytes()
	return s
}

// stripControls takes control characters out of a line that is echoed.
func stripControls(line []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r < 0x80 && isControl(byte(r)) {
			return -1
		}
		return r
	}, line)
}

// isControl reports a character that only ends or folds lines, if anything.
func isControl(c byte) bool { return c < ' ' && c != '\t' && c != '\r' && c != '\n' || c == 0x7f }

// goodRequestLine: METHOD SP URI SP SIP/x.y, single blanks, no brackets (RFC 3261 §25.1).
func goodRequestLine(line []byte) bool {
	parts := strings.Split(string(line), " ")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || strings.ContainsAny(parts[1], "<>\"") {
		return false
	}
	version, ok := strings.CutPrefix(strings.ToUpper(parts[2]), "SIP/")
	major, minor, dot := strings.Cut(version, ".")
	return ok && dot && digits(major) && digits(minor) && strings.Contains(parts[1], ":")
}

// goodStatus: SIP/2.0 SP 1xx..6xx SP reason (RFC 3261 §7.2).
func goodStatus(line []byte) bool {
	parts := strings.SplitN(string(line), " ", 3)
	if len(parts) < 2 || !digits(parts[1]) {
		return false
	}
	n, err := strconv.Atoi(parts[1])
	return err == nil && n >= 100 && n <= 699
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// longName is the long form of a compact header name.
func longName(name string) string {
	switch name {
	case "v":
		return "via"
	case "f":
		return "from"
	case "t":
		return "to"
	case "m":
		return "contact"
	case "i":
		return "call-id"
	case "l":
		return "content-length"
	}
	return name
}
