package rtsp

import (
	"bytes"
	"strings"
)

// maxMethod bounds a method name. The longest registered one, GET_PARAMETER, has 13 bytes.
const maxMethod = 64

// httpMethods are the methods of HTTP that RTSP does not have. RTSP over HTTP opens with GET
// and POST, and both are refused from their first bytes on.
const httpMethods = "|GET|POST|HEAD|PUT|DELETE|PATCH|CONNECT|TRACE|"

// startLine is the first line of a message, cut.
type startLine struct {
	method, url string // of a request
	status      int    // of a reply, else 0
	reason      string
	version     string // "RTSP/1.0"
}

// isToken reports whether c may stand in a method or a header name (RFC 2326 §15.1).
func isToken(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// mayStart reports whether a message may begin with b. A whole first line is judged in full, a
// part of one only as far as it goes.
func mayStart(b []byte) bool {
	if !isLetter(b[0]) {
		return false
	}
	i := 1
	for i < len(b) && i <= maxMethod && isToken(b[i]) {
		i++
	}
	switch {
	case i > maxMethod:
		return false
	case i == len(b):
		return true
	case b[i] == '/':
		if !strings.EqualFold(string(b[:i]), "RTSP") {
			return false
		}
	case b[i] != ' ' || isHTTPMethod(b[:i]):
		return false
	}
	line, whole := firstLine(b)
	for _, c := range line {
		if (c < ' ' && c != '\t') || c == 0x7f {
			return false
		}
	}
	if !whole {
		return true
	}
	_, ok := parseStartLine(string(line))
	return ok
}

// isHTTPMethod reports whether RTSP never uses this method name and HTTP does.
func isHTTPMethod(name []byte) bool {
	i := strings.Index(httpMethods, string(name))
	return i > 0 && httpMethods[i-1] == '|' && httpMethods[i+len(name)] == '|'
}

// firstLine returns the bytes before the first line end and whether there is one. A carriage
// return at the very end of b may be half of one and is left out.
func firstLine(b []byte) ([]byte, bool) {
	if len(b) > MaxHead {
		b = b[:MaxHead]
	}
	i := bytes.IndexByte(b, '\n')
	whole := i >= 0
	if !whole {
		i = len(b)
	}
	if i > 0 && b[i-1] == '\r' {
		i--
	}
	return b[:i], whole
}

// parseStartLine cuts a first line without its line end. More blanks than one, blanks in the
// URL and a missing reason are accepted; the version decides.
func parseStartLine(line string) (startLine, bool) {
	if i := strings.IndexByte(line, '/'); i == 4 && strings.EqualFold(line[:4], "RTSP") {
		return parseStatusLine(line)
	}
	line = strings.TrimRight(line, " \t")
	method, rest, ok := strings.Cut(line, " ")
	cut := strings.LastIndexByte(rest, ' ')
	if !ok || method == "" || cut < 0 || !isVersion(rest[cut+1:]) {
		return startLine{}, false
	}
	url := strings.Trim(rest[:cut], " \t")
	if url == "" {
		return startLine{}, false
	}
	return startLine{method: method, url: url, version: rest[cut+1:]}, true
}

func parseStatusLine(line string) (startLine, bool) {
	version, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimLeft(rest, " \t")
	if !isVersion(version) || len(rest) < 3 {
		return startLine{}, false
	}
	status := 0
	for i := range 3 {
		if !isDigit(rest[i]) {
			return startLine{}, false
		}
		status = status*10 + int(rest[i]-'0')
	}
	if status < 100 || (len(rest) > 3 && rest[3] != ' ' && rest[3] != '\t') {
		return startLine{}, false
	}
	return startLine{version: version, status: status, reason: strings.Trim(rest[3:], " \t")}, true
}

// isVersion reports whether s is "RTSP/" digits "." digits.
func isVersion(s string) bool {
	if len(s) < 8 || s[4] != '/' || !strings.EqualFold(s[:4], "RTSP") {
		return false
	}
	major, minor, ok := strings.Cut(s[5:], ".")
	return ok && isNumber(major) && isNumber(minor)
}

// isNumber reports whether s is one to nine digits.
func isNumber(s string) bool {
	if s == "" || len(s) > 9 {
		return false
	}
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}
