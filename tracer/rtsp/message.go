package rtsp

import (
	"strconv"
	"strings"
)

// Message is a request or a reply, kept as the bytes it came in. It owns its memory. Not safe
// for concurrent use while Set, SetVersion or SetBody is called.
type Message struct {
	head    string // start line to blank line
	body    []byte
	start   startLine
	headers []header
}

// Field is one header.
type Field struct{ Name, Value string }

// Methods of RFC 2326 §10 and RFC 7826 §13.
const (
	MethodAnnounce     = "ANNOUNCE"
	MethodDescribe     = "DESCRIBE"
	MethodGetParameter = "GET_PARAMETER"
	MethodOptions      = "OPTIONS"
	MethodPause        = "PAUSE"
	MethodPlay         = "PLAY"
	MethodPlayNotify   = "PLAY_NOTIFY"
	MethodRecord       = "RECORD"
	MethodRedirect     = "REDIRECT"
	MethodSetParameter = "SET_PARAMETER"
	MethodSetup        = "SETUP"
	MethodTeardown     = "TEARDOWN"
)

// newMessage indexes a whole head. ok is false when the start line is none; the message can
// be marshaled even so.
func newMessage(head string, body []byte) (m *Message, ok bool) {
	line, next := nextLine(head, 0)
	m = &Message{head: head, body: body}
	m.start, ok = cutStartLine(head[:line.to])
	for {
		h, after, more := nextHeader(head, next)
		if !more {
			return m, ok
		}
		m.headers = append(m.headers, h)
		next = after
	}
}

// ParseMessage returns the message that b consists of. An error as Next has it; bytes after the
// message are ErrNotRTSP.
func ParseMessage(b []byte) (*Message, error) {
	u, n, err := Next(b)
	if err != nil {
		return nil, err
	}
	if u.Message == nil || n != len(b) {
		return nil, ErrNotRTSP
	}
	return u.Message, nil
}

// IsRequest tells a request from a reply.
func (m *Message) IsRequest() bool { return m.start.status == 0 }

// Method returns the method of a request as it was written, "" for a reply.
func (m *Message) Method() string { return m.cut(m.start.method) }

// URL returns the URL of a request as it was written, "" for a reply. It may be "*".
func (m *Message) URL() string { return m.cut(m.start.url) }

// Version returns the version as it was written, e.g. "RTSP/1.0".
func (m *Message) Version() string { return m.cut(m.start.version) }

// Status returns the status code of a reply, 100 to 999, and 0 for a request.
func (m *Message) Status() int { return m.start.status }

// Reason returns the reason phrase of a reply, which may be empty.
func (m *Message) Reason() string { return m.cut(m.start.reason) }

// Get returns the first value of a header, on one line and without blanks around it; "" when
// there is none. Names compare in any case.
func (m *Message) Get(name string) string {
	v, _ := m.Lookup(name)
	return v
}

// Lookup is Get that tells an empty value from an absent header.
func (m *Message) Lookup(name string) (value string, ok bool) {
	if i := m.find(name); i >= 0 {
		return m.value(m.headers[i]), true
	}
	return "", false
}

// Values returns every value of a header in order, nil when there is none.
func (m *Message) Values(name string) []string {
	var all []string
	for _, h := range m.headers {
		if strings.EqualFold(m.name(h), name) {
			all = append(all, m.value(h))
		}
	}
	return all
}

// Fields returns every header in order, names as they were written.
func (m *Message) Fields() []Field {
	all := make([]Field, len(m.headers))
	for i, h := range m.headers {
		all[i] = Field{Name: m.name(h), Value: m.value(h)}
	}
	return all
}

// Body returns the body, empty when there is none. The caller must not change it.
func (m *Message) Body() []byte { return m.body }

// CSeq returns the sequence number and whether there is a valid one: players leave it out of
// their answers to requests they do not know.
func (m *Message) CSeq() (int, bool) {
	n, err := strconv.ParseUint(m.Get("CSeq"), 10, 31)
	return int(n), err == nil
}

func (m *Message) cut(p span) string { return m.head[p.from:p.to] }

func (m *Message) name(h header) string { return m.cut(h.name) }

func (m *Message) value(h header) string { return unfold(m.cut(h.value)) }

// find returns the index of the first header of that name, or -1.
func (m *Message) find(name string) int {
	for i, h := range m.headers {
		if strings.EqualFold(m.name(h), name) {
			return i
		}
	}
	return -1
}
