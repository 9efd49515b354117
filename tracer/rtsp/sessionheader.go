package rtsp

import (
	"strconv"
	"strings"
	"time"
)

// DefaultSessionTimeout holds when the Session header names none (RFC 2326 §12.37).
const DefaultSessionTimeout = 60 * time.Second

// SessionHeader is the Session header.
type SessionHeader struct {
	ID      string
	Timeout time.Duration // whole seconds; 0 when not announced
}

// ParseSession reads a Session value. The error is a *HeaderError: no id.
func ParseSession(v string) (SessionHeader, error) {
	id, params, _ := strings.Cut(v, ";")
	s := SessionHeader{ID: strings.TrimSpace(id)}
	if s.ID == "" {
		return s, &HeaderError{Header: "Session", Value: v, Reason: "no id"}
	}
	for p := range strings.SplitSeq(params, ";") {
		key, value, _ := strings.Cut(p, "=")
		value = unquote(strings.TrimSpace(value))
		if strings.EqualFold(strings.TrimSpace(key), "timeout") && isNumber(value) {
			n, _ := strconv.Atoi(value)
			s.Timeout = time.Duration(n) * time.Second
		}
	}
	return s, nil
}

// String writes the header value.
func (s SessionHeader) String() string {
	if s.Timeout <= 0 {
		return s.ID
	}
	return s.ID + ";timeout=" + strconv.FormatInt(int64(s.Timeout/time.Second), 10)
}
