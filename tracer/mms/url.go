package mms

import (
	"net/url"
	"strings"
)

// Same says how well two paths agree.
type Same uint8

// What SamePath finds.
const (
	Different    Same = iota
	SameButQuery      // one of them has no query: VLC leaves it out in MMST
	SamePaths
)

// SamePath compares the content two viewers opened: OpenFile names or request targets, with or
// without leading slash, escaped by some clients and not by others.
func SamePath(a, b string) Same {
	pa, qa, hasA := strings.Cut(strings.TrimLeft(a, "/"), "?")
	pb, qb, hasB := strings.Cut(strings.TrimLeft(b, "/"), "?")
	switch {
	case unescape(pa) != unescape(pb):
		return Different
	case hasA != hasB:
		return SameButQuery
	case unescape(qa) != unescape(qb):
		return Different
	}
	return SamePaths
}

func unescape(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}

// URL returns the URL of a path on a host: what may not stand in a URL is escaped, what is
// escaped already stays.
func URL(scheme, host, path string) string {
	var b strings.Builder
	b.WriteString(scheme + "://" + host + "/")
	for _, c := range []byte(strings.TrimLeft(path, "/")) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			const hex = "0123456789ABCDEF"
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
