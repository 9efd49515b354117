package rtsp

import (
	"bytes"
	"strings"
)

// TunnelType is the content type of RTSP over HTTP.
const TunnelType = "application/x-rtsp-tunnelled"

// LooksLikeHTTP reports whether a stream that begins with b is HTTP: a reply, a method that
// RTSP does not have, or a whole first line that ends in an HTTP version.
func LooksLikeHTTP(b []byte) bool {
	if len(b) >= 5 && bytes.EqualFold(b[:5], []byte("HTTP/")) {
		return true
	}
	if i := bytes.IndexByte(b[:min(len(b), maxMethod)], ' '); i > 0 && isHTTPMethod(b[:i]) {
		return true
	}
	line, whole := firstLine(b)
	at := bytes.LastIndexByte(line, ' ')
	return whole && at > 0 && isLetter(line[0]) && bytes.HasPrefix(line[at+1:], []byte("HTTP/"))
}

// TunnelCookie returns what joins the two connections of RTSP over HTTP: the x-sessioncookie of
// the GET (replies and media) or POST (base64 requests) that b begins with, and its method.
// ok is false when b is not such a request or its head is not complete.
func TunnelCookie(b []byte) (cookie, method string, ok bool) {
	end := headEnd(b)
	if end < 0 || !LooksLikeHTTP(b) {
		return "", "", false
	}
	head := string(b[:end])
	line, i := nextLine(head, 0)
	method, _, _ = strings.Cut(head[line.from:line.to], " ")
	for {
		h, next, more := nextHeader(head, i)
		if !more {
			return "", "", false
		}
		if strings.EqualFold(head[h.name.from:h.name.to], "x-sessioncookie") {
			return unfold(head[h.value.from:h.value.to]), method, true
		}
		i = next
	}
}

// LooksLikeTLS reports whether a stream that begins with b opens with a TLS ClientHello or
// ServerHello record (RFC 8446 §5.1). Three bytes are needed at least.
func LooksLikeTLS(b []byte) bool {
	return len(b) >= 3 && b[0] == 0x16 && b[1] == 3 && b[2] <= 4 && (len(b) < 6 || b[5] == 1 || b[5] == 2)
}
