package mms

import (
	"bytes"
	"strconv"
	"strings"
)

// Head is the head of an HTTP request or reply as it travels: start line, headers, blank line.
// It shares the memory of what it was read from.
type Head struct{ raw []byte }

// NextHead returns the HTTP head at the front of b and its length n.
//
// ErrShort: b is the beginning of one. ErrNotMMS: b begins with none. *LimitError: it exceeds
// MaxHead.
func NextHead(b []byte) (h Head, n int, err error) {
	if !mayBeHead(b) {
		return Head{}, 0, ErrNotMMS
	}
	end := headEnd(b[:min(len(b), MaxHead)])
	switch {
	case end > 0:
		return Head{b[:end:end]}, end, nil
	case len(b) >= MaxHead:
		return Head{}, 0, &LimitError{Part: "head", Size: int64(len(b)), Limit: MaxHead}
	}
	return Head{}, 0, ErrShort
}

// mayBeHead reports whether b, or the beginning of it that is there, begins as a reply or a
// request: a method of capital letters and a blank.
func mayBeHead(b []byte) bool {
	const reply, maxMethod = "HTTP/", 16
	if have := b[:min(len(b), len(reply))]; string(have) == reply[:len(have)] {
		return true
	}
	for i, c := range b[:min(len(b), maxMethod+1)] {
		if c == ' ' {
			return i > 0
		}
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return len(b) <= maxMethod
}

// headEnd returns how long the head at the front of b is, its blank line included, or -1.
func headEnd(b []byte) int {
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return -1
		}
		if line := b[at : at+i]; at > 0 && (len(line) == 0 || len(line) == 1 && line[0] == '\r') {
			return at + i + 1
		}
		at += i + 1
	}
}

// Raw returns the bytes of the head.
func (h Head) Raw() []byte { return h.raw }

// line returns the line at offset at without its end, and where the next one begins.
func line(b []byte, at int) (text []byte, next int) {
	i := bytes.IndexByte(b[at:], '\n')
	if i < 0 {
		return b[at:], len(b)
	}
	return bytes.TrimSuffix(b[at:at+i], []byte("\r")), at + i + 1
}

// start returns the three parts of the first line.
func (h Head) start() (a, b, c string) {
	text, _ := line(h.raw, 0)
	a, rest, _ := strings.Cut(string(text), " ")
	b, c, _ = strings.Cut(strings.TrimLeft(rest, " "), " ")
	return a, b, c
}

// IsRequest tells a request from a reply.
func (h Head) IsRequest() bool { return !bytes.HasPrefix(h.raw, []byte("HTTP/")) }

// Method returns the method of a request.
func (h Head) Method() string {
	if !h.IsRequest() {
		return ""
	}
	m, _, _ := h.start()
	return m
}

// Target returns the request target as it was written.
func (h Head) Target() string {
	if !h.IsRequest() {
		return ""
	}
	_, t, _ := h.start()
	return t
}

// Status returns the status code of a reply, 0 of a request or when it is no number.
func (h Head) Status() int {
	if h.IsRequest() {
		return 0
	}
	_, s, _ := h.start()
	n, err := strconv.ParseUint(s, 10, 10)
	if err != nil {
		return 0
	}
	return int(n)
}

// each calls fn with the name and the value of every header and where the value stands in the
// head, until fn returns false.
func (h Head) each(fn func(name string, value []byte, at int) bool) {
	for _, at := line(h.raw, 0); at < len(h.raw); {
		text, next := line(h.raw, at)
		if i := bytes.IndexByte(text, ':'); i > 0 {
			value := bytes.TrimLeft(text[i+1:], " \t")
			if !fn(string(bytes.TrimRight(text[:i], " \t")), value, at+len(text)-len(value)) {
				return
			}
		}
		at = next
	}
}

// Get returns the first value of a header, without blanks around it; names compare in any case.
func (h Head) Get(name string) string {
	v := ""
	h.each(func(n string, value []byte, _ int) bool {
		if !strings.EqualFold(n, name) {
			return true
		}
		v = string(bytes.TrimSpace(value))
		return false
	})
	return v
}

// ContentLength returns the length of the body; ok is false when the head tells none.
func (h Head) ContentLength() (n int64, ok bool) {
	v, err := strconv.ParseUint(h.Get("Content-Length"), 10, 62)
	return int64(v), err == nil
}

// Chunked reports whether the body has HTTP's own chunks, as pipelined replies have.
func (h Head) Chunked() bool {
	return strings.Contains(strings.ToLower(h.Get("Transfer-Encoding")), "chunked")
}

// Media types of replies whose body is made of MMSH chunks.
const (
	TypeDescribe = "application/vnd.ms.wms-hdr.asfv1"
	TypePlay     = "application/x-mms-framed"
	TypeWMS4     = "application/octet-stream"
)

// Framed reports whether the body of a reply is made of MMSH chunks.
func (h Head) Framed() bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case TypeDescribe, TypePlay, TypeWMS4:
		return true
	}
	return false
}
