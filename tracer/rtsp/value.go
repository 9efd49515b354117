package rtsp

import (
	"fmt"
	"strings"
)

// splitQuoted cuts v at every sep that is outside double quotes. The result has one element
// at least.
func splitQuoted(v string, sep byte) []string {
	var parts []string
	quoted, from := false, 0
	for i := range len(v) {
		switch {
		case v[i] == '"':
			quoted = !quoted
		case v[i] == sep && !quoted:
			parts = append(parts, v[from:i])
			from = i + 1
		}
	}
	return append(parts, v[from:])
}

// unquote takes every double quote out of v: none of the values read here may hold one.
func unquote(v string) string {
	if strings.IndexByte(v, '"') < 0 {
		return v
	}
	return strings.TrimSpace(strings.ReplaceAll(v, `"`, ""))
}

// quoteOdd puts v in double quotes when it would be cut apart without.
func quoteOdd(v string) string {
	if strings.ContainsAny(v, ";, \t=") {
		return `"` + v + `"`
	}
	return v
}

func trimBrackets(v string) string {
	return strings.TrimSuffix(strings.TrimPrefix(v, "["), "]")
}

// cutHostPort cuts "host:port", "[v6]:port", ":port" or "host".
func cutHostPort(v string) (host, port string) {
	colon := strings.LastIndexByte(v, ':')
	if colon <= strings.LastIndexByte(v, ']') {
		return v, ""
	}
	if v[0] != '[' && strings.IndexByte(v, ':') < colon {
		return v, "" // a bare IPv6 address
	}
	return v[:colon], v[colon+1:]
}

// hex8 writes an SSRC as RFC 2326 §12.39 has it: eight digits.
func hex8(n uint32) string { return fmt.Sprintf("%08X", n) }
