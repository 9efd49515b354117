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

// Clone returns a message that can be changed without changing m.
func (m *Message) Clone() *Message {
	c := *m
	return &c
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

// SetVersion writes the version of the start line, e.g. Version20. One that is none is ignored.
func (m *Message) SetVersion(version string) {
	if v := m.start.version; isVersion(version, span{0, len(version)}) && v.from < v.to {
		m.replace(m.head[:v.from] + version + m.head[v.to:])
	}
}

// SetBody writes the body with its Content-Length. The body is kept, not copied.
func (m *Message) SetBody(body []byte) {
	m.body = body
	m.Set("Content-Length", strconv.Itoa(len(body)))
}

// replace takes a changed head and indexes it again.
func (m *Message) replace(head string) {
	fresh, _ := newMessage(head, m.body)
	*m = *fresh
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
	m, _ := newMessage(b.String(), nil)
	return m
}

// Reason returns the registered phrase of a status code (RFC 2326 §7.1.1, RFC 7826 §8.1),
// "Unknown" for the others.
func Reason(status int) string {
	phrases := [...]string{
		100: "Continue",
		200: "OK", 201: "Created", 250: "Low on Storage Space",
		300: "Multiple Choices", 301: "Moved Permanently", 302: "Found", 303: "See Other",
		304: "Not Modified", 305: "Use Proxy",
		400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden",
		404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable",
		407: "Proxy Authentication Required", 408: "Request Timeout", 410: "Gone",
		411: "Length Required", 412: "Precondition Failed", 413: "Request Entity Too Large",
		414: "Request-URI Too Long", 415: "Unsupported Media Type",
		451: "Parameter Not Understood", 452: "Conference Not Found",
		453: "Not Enough Bandwidth", 454: "Session Not Found",
		455: "Method Not Valid in This State", 456: "Header Field Not Valid",
		457: "Invalid Range", 458: "Parameter Is Read-Only",
		459: "Aggregate Operation Not Allowed", 460: "Only Aggregate Operation Allowed",
		461: "Unsupported Transport", 462: "Destination Unreachable",
		463: "Destination Prohibited", 464: "Data Transport Not Ready Yet",
		500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
		503: "Service Unavailable", 504: "Gateway Timeout", 505: "RTSP Version Not Supported",
		551: "Option Not Supported",
	}
	if status < 0 || status >= len(phrases) || phrases[status] == "" {
		return "Unknown"
	}
	return phrases[status]
}
