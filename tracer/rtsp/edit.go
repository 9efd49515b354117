package rtsp

import (
	"fmt"
	"strconv"
	"strings"
)

// Version10 and Version20 are the versions of RFC 2326 and RFC 7826.
const (
	Version10 = "RTSP/1.0"
	Version20 = "RTSP/2.0"
)

// Marshal returns the bytes of the message, which are those it was parsed from until it is
// changed. The caller owns them.
func (m *Message) Marshal() []byte {
	b := make([]byte, 0, len(m.head)+len(m.body))
	return append(append(b, m.head...), m.body...)
}

// Set writes a header: the value bytes of the first one of that name are replaced and nothing
// else is touched; when there is none, a line is added before the blank line. Line ends inside
// value become blanks. Setting Content-Length does not change the body.
func (m *Message) Set(name, value string) {
	value = oneLine(value)
	if i := m.find(name); i >= 0 {
		v := m.headers[i].value
		m.replace(m.head[:v.from] + value + m.head[v.to:])
		return
	}
	end := blankLine(m.head)
	m.replace(m.head[:end] + oneLine(name) + ": " + value + m.lineEnd() + m.head[end:])
}

// SetVersion writes the version of the start line, e.g. Version20.
func (m *Message) SetVersion(version string) {
	line, _ := nextLine(m.head, 0)
	first := m.head[line.from:line.to]
	at := 0
	if m.IsRequest() {
		at = strings.LastIndex(first, m.start.version)
	}
	m.replace(m.head[:at] + oneLine(version) + m.head[at+len(m.start.version):])
}

// SetBody writes the body with its Content-Length. The body is kept, not copied.
func (m *Message) SetBody(body []byte) {
	m.body = body
	m.Set("Content-Length", strconv.Itoa(len(body)))
}

// replace takes a changed head and indexes it again.
func (m *Message) replace(head string) {
	if fresh, ok := newMessage(head, m.body); ok {
		*m = *fresh
	}
}

// lineEnd returns the line end that the message uses.
func (m *Message) lineEnd() string {
	line, next := nextLine(m.head, 0)
	return m.head[line.to:next]
}

// blankLine returns where the blank line of a head begins.
func blankLine(head string) int {
	end := strings.TrimSuffix(head, "\n")
	return len(strings.TrimSuffix(end, "\r"))
}

// oneLine keeps a value from beginning another header line.
func oneLine(s string) string {
	s = strings.ReplaceAll(s, "\r", " ")
	return strings.Trim(strings.ReplaceAll(s, "\n", " "), " \t")
}

// NewRequest returns a request of version 1.0 with headers in the order given.
func NewRequest(method, url string, headers ...Field) *Message {
	return build(fmt.Sprintf("%s %s %s", oneLine(method), oneLine(url), Version10), headers)
}

// NewResponse returns a reply of version 1.0 with headers in the order given. status is 100 to
// 999; an empty reason is filled in from the registry.
func NewResponse(status int, reason string, headers ...Field) *Message {
	if reason == "" {
		reason = Reason(status)
	}
	return build(fmt.Sprintf("%s %03d %s", Version10, status, oneLine(reason)), headers)
}

func build(first string, headers []Field) *Message {
	var b strings.Builder
	b.WriteString(first + "\r\n")
	for _, f := range headers {
		b.WriteString(oneLine(f.Name) + ": " + oneLine(f.Value) + "\r\n")
	}
	b.WriteString("\r\n")
	m, ok := newMessage(b.String(), nil)
	if !ok {
		m, _ = newMessage(Version10+" 500 Internal Server Error\r\n\r\n", nil)
	}
	return m
}

// Reason returns the registered phrase of a status code (RFC 2326 §7.1.1, RFC 7826 §8.1),
// "Unknown" for the others.
func Reason(status int) string {
	switch status {
	case 100:
		return "Continue"
	case 200:
		return "OK"
	case 301:
		return "Moved Permanently"
	case 302:
		return "Found"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 408:
		return "Request Timeout"
	case 412:
		return "Precondition Failed"
	case 451:
		return "Parameter Not Understood"
	case 453:
		return "Not Enough Bandwidth"
	case 454:
		return "Session Not Found"
	case 455:
		return "Method Not Valid in This State"
	case 457:
		return "Invalid Range"
	case 459:
		return "Aggregate Operation Not Allowed"
	case 460:
		return "Only Aggregate Operation Allowed"
	case 461:
		return "Unsupported Transport"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 503:
		return "Service Unavailable"
	case 505:
		return "RTSP Version Not Supported"
	case 551:
		return "Option Not Supported"
	}
	return "Unknown"
}
