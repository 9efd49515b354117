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

// unquote takes the double quotes around v away.
func unquote(v string) string {
	if len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}

func trimBrackets(v string) string {
	return strings.TrimSuffix(strings.TrimPrefix(v, "["), "]")
}

// hex8 writes an SSRC as RFC 2326 §12.39 has it: eight digits.
func hex8(n uint32) string { return fmt.Sprintf("%08X", n) }
