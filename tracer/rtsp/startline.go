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

// text is what a head may be held in: bytes of the stream, or the string a Message keeps.
type text interface{ ~string | ~[]byte }

// span is a half-open range of bytes.
type span struct{ from, to int }

// startLine is where the parts of a first line are.
type startLine struct {
	method, url span // of a request
	status      int  // of a reply, else 0
	reason      span
	version     span // "RTSP/1.0"
}

// isToken reports whether c may stand in a method or a header name (RFC 2326 §15.1).
func isToken(c byte) bool {
	return isLetter(c) || isDigit(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// isSpace includes the line ends, which stand inside a folded value.
func isSpace(c byte) bool { return isBlank(c) || c == '\r' || c == '\n' }

// trim takes the white space at both ends of a span away.
func trim[T text](s T, p span) span {
	for p.from < p.to && isSpace(s[p.from]) {
		p.from++
	}
	for p.to > p.from && isSpace(s[p.to-1]) {
		p.to--
	}
	return p
}

// equalFold compares with a lower-case ASCII word in any case.
func equalFold[T text](s T, p span, lower string) bool {
	if p.to-p.from != len(lower) {
		return false
	}
	for i := range len(lower) {
		c := s[p.from+i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// mayStart reports whether a message may begin with b. A whole first line is judged in full, a
// part of one only as far as it goes, so that no beginning of a message is ever refused.
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
		if !equalFold(b, span{0, i}, "rtsp") {
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
	_, ok := cutStartLine(line)
	return ok
}

// isHTTPMethod reports whether HTTP uses this method name and RTSP never does.
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

// cutStartLine cuts a first line without its line end. Several blanks, blanks inside the URL
// and a missing reason are accepted: the version decides.
func cutStartLine[T text](line T) (s startLine, ok bool) {
	all := trim(line, span{0, len(line)})
	first := all.from
	for first < all.to && isToken(line[first]) {
		first++
	}
	if first < all.to && line[first] == '/' {
		return cutStatusLine(line, all)
	}
	last := all.to
	for last > first && !isBlank(line[last-1]) {
		last--
	}
	s = startLine{
		method:  span{all.from, first},
		url:     trim(line, span{first, last}),
		version: span{last, all.to},
	}
	if s.method.from == s.method.to || s.url.from >= s.url.to {
		return s, false
	}
	return s, isBlank(line[first]) && isVersion(line, s.version)
}

func cutStatusLine[T text](line T, all span) (s startLine, ok bool) {
	first := all.from
	for first < all.to && !isBlank(line[first]) {
		first++
	}
	s.version = span{all.from, first}
	rest := trim(line, span{first, all.to})
	if rest.to-rest.from < 3 || !isVersion(line, s.version) {
		return s, false
	}
	for _, c := range []byte(line[rest.from : rest.from+3]) {
		if !isDigit(c) {
			return s, false
		}
		s.status = s.status*10 + int(c-'0')
	}
	rest.from += 3
	if rest.from < rest.to && !isBlank(line[rest.from]) {
		return s, false
	}
	s.reason = trim(line, rest)
	return s, s.status >= 100
}

// isVersion reports whether the span is "RTSP/" digits "." digits.
func isVersion[T text](s T, p span) bool {
	if p.to-p.from < len("RTSP/1.0") || !equalFold(s, span{p.from, p.from + 5}, "rtsp/") {
		return false
	}
	digits, dots := 0, 0
	for i := p.from + 5; i < p.to; i++ {
		switch {
		case isDigit(s[i]):
			digits++
		case s[i] == '.' && digits > 0 && dots == 0:
			digits, dots = 0, 1
		default:
			return false
		}
	}
	return digits > 0 && dots == 1
}

// isNumber reports whether s is one to nine digits, so that it fits every int.
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
