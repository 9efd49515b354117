package rtsp

import (
	"strconv"
	"strings"
)

// RTPInfo is the RTP-Info header of a PLAY reply, one entry for each stream (RFC 2326 §12.33)
// or each source of a stream (RFC 7826 §18.45).
type RTPInfo []RTPInfoEntry

// RTPInfoEntry says where a stream continues.
type RTPInfoEntry struct {
	URL     string  // as written, without quotes; absolute or relative; "" when absent
	Seq     *uint16 // of the first packet, nil when not announced
	RTPTime *uint32 // that belongs to the start of the Range, nil when not announced
	SSRC    *uint32 // version 2.0 only, nil otherwise

	seq, rtptime span // of the values in the header; {0, 0} when absent
	end          int  // where a parameter may be added in the header
	ssrc         span // of the value without its parameters
}

// ParseRTPInfo reads both forms, with a blank or none after the commas. URLs may contain ';' and
// ','. The error is a *HeaderError: no entry.
func ParseRTPInfo(v string) (RTPInfo, error) {
	var info RTPInfo
	for _, p := range entrySpans(v) {
		info = append(info, parseEntry(v, p)...)
	}
	if len(info) == 0 {
		return nil, &HeaderError{Header: "RTP-Info", Value: v, Reason: "no entry"}
	}
	return info, nil
}

// entrySpans cuts v at each comma outside quotes that is followed by a new "url=", or at every
// such comma when there is no "url=" at all.
func entrySpans(v string) []span {
	var all []span
	named := opensURL(v)
	quoted, from := false, 0
	for i := 0; i <= len(v); i++ {
		if i < len(v) && v[i] == '"' {
			quoted = !quoted
		}
		if i < len(v) && (v[i] != ',' || quoted || named && !opensURL(v[i:])) {
			continue
		}
		if p := trim(v, span{from, i}); p.from < p.to {
			all = append(all, p)
		}
		from = i + 1
	}
	return all
}

// opensURL reports whether "url=" is the first thing in v but for blanks and commas.
func opensURL(v string) bool {
	v = strings.TrimLeft(v, ", \t")
	return len(v) >= 4 && equalFold(v, span{0, 4}, "url=")
}

// parseEntry reads one entry; version 2.0 may name several sources of one URL.
func parseEntry(v string, p span) []RTPInfoEntry {
	for p.to > p.from && strings.IndexByte(", \t", v[p.to-1]) >= 0 {
		p.to--
	}
	url, at := entryURL(v, p)
	e := RTPInfoEntry{URL: url}
	var all []RTPInfoEntry
	for at < p.to {
		token := span{at, at}
		for token.to < p.to && strings.IndexByte("; \t", v[token.to]) < 0 {
			token.to++
		}
		at = token.to + 1
		key, value := cutParam(v, token)
		if equalFold(v, key, "ssrc") {
			if e.SSRC != nil {
				e.end = len(strings.TrimRight(v[:token.from], "; \t"))
				all = append(all, e)
				e = RTPInfoEntry{URL: url}
			}
			colon := value.from
			for colon < value.to && v[colon] != ':' {
				colon++
			}
			e.SSRC, e.ssrc = parseSSRC(v[value.from:colon]), span{value.from, colon}
			key, value = cutParam(v, span{min(colon+1, value.to), value.to})
		}
		e.take(v, key, value)
	}
	e.end = p.to
	return append(all, e)
}

// cutParam cuts "key=value"; both are empty when there is no '='.
func cutParam(v string, p span) (key, value span) {
	eq := strings.IndexByte(v[p.from:p.to], '=')
	if eq < 0 {
		return span{p.to, p.to}, span{p.to, p.to}
	}
	return span{p.from, p.from + eq}, span{p.from + eq + 1, p.to}
}

// take reads one parameter. The first of a name counts. One with a quote in it is left alone:
// to replace it would move what the quote encloses.
func (e *RTPInfoEntry) take(v string, key, value span) {
	text := v[value.from:value.to]
	switch {
	case strings.IndexByte(text, '"') >= 0:
	case equalFold(v, key, "seq") && e.seq == span{}:
		e.seq = value
		if n, err := strconv.ParseUint(text, 10, 16); err == nil {
			seq := uint16(n)
			e.Seq = &seq
		}
	case equalFold(v, key, "rtptime") && e.rtptime == span{}:
		e.rtptime = value
		if n, err := strconv.ParseUint(text, 10, 32); err == nil {
			rtptime := uint32(n)
			e.RTPTime = &rtptime
		}
	}
}

// entryURL returns the URL of an entry and where its parameters begin.
func entryURL(v string, p span) (url string, params int) {
	if !opensURL(v[p.from:p.to]) {
		return "", p.from
	}
	at := p.from + strings.IndexByte(v[p.from:p.to], '=') + 1
	if at < p.to && v[at] == '"' {
		if end := strings.IndexByte(v[at+1:p.to], '"'); end >= 0 {
			return v[at+1 : at+1+end], at + end + 2
		}
	}
	params = paramStart(v, span{at, p.to})
	return strings.TrimSpace(v[at:params]), params
}

// paramStart returns where the parameters behind an unquoted URL begin: at the first ';' from
// which on everything reads as parameters and which itself opens one of ours.
func paramStart(v string, p span) int {
	start := p.to
	for to := p.to; ; {
		semi := strings.LastIndexByte(v[p.from:to], ';')
		if semi < 0 {
			return start
		}
		semi += p.from
		token := trim(v, span{semi + 1, to})
		key, value := cutParam(v, token)
		ours := isEntryParam(v, key, value)
		if !ours && token.from < token.to && (key.from == key.to || strings.ContainsAny(v[token.from:token.to], "/?")) {
			return start
		}
		if ours || token.from == token.to && start == to {
			start = semi // an empty parameter only belongs here when nothing else follows
		}
		to = semi
	}
}

// isEntryParam reports whether a parameter is one of ours with a value it may have: digits,
// nothing, or a negative number, which is none but was meant to be one.
func isEntryParam(v string, key, value span) bool {
	text := v[value.from:value.to]
	switch {
	case equalFold(v, key, "seq"), equalFold(v, key, "rtptime"):
		text = strings.TrimPrefix(text, "-")
		return strings.Trim(text, "0123456789") == ""
	case equalFold(v, key, "ssrc"):
		text, _, _ = strings.Cut(text, ":")
		return parseSSRC(text) != nil
	}
	return false
}

// ReplaceRTPInfo returns the header value v with seq and rtptime of entry i written anew and
// every other byte as it was. A missing parameter is added to the entry. v comes back unchanged
// when it has no entry i.
func ReplaceRTPInfo(v string, i int, seq uint16, rtptime uint32) string {
	info, err := ParseRTPInfo(v)
	if err != nil || i < 0 || i >= len(info) {
		return v
	}
	e := info[i]
	a, b := e.seq, e.rtptime
	atext, btext := strconv.FormatUint(uint64(seq), 10), strconv.FormatUint(uint64(rtptime), 10)
	if a == (span{}) {
		a, atext = span{e.end, e.end}, e.separator(v)+"seq="+atext
	}
	if b == (span{}) {
		b, btext = span{e.end, e.end}, ";rtptime="+btext
	}
	if b.from < a.from || b.from == a.from && e.rtptime != (span{}) { // an addition comes last
		a, b, atext, btext = b, a, btext, atext
	}
	return v[:a.from] + atext + v[a.to:b.from] + btext + v[b.to:]
}

// separator is what stands before the first parameter that is added to an entry of v: the SSRC
// of version 2.0 is followed by a colon.
func (e RTPInfoEntry) separator(v string) string {
	switch {
	case e.SSRC != nil && e.ssrc.to == e.end:
		return ":"
	case e.SSRC != nil && e.ssrc.to+1 == e.end && v[e.ssrc.to] == ':', strings.HasSuffix(v[:e.end], ";"):
		return ""
	}
	return ";"
}

// String writes the header value: the form of 2.0 for entries with an SSRC, else that of 1.0.
func (r RTPInfo) String() string {
	entries := make([]string, len(r))
	for i, e := range r {
		entries[i] = e.String()
	}
	return strings.Join(entries, ",")
}

// String writes one entry.
func (e RTPInfoEntry) String() string {
	var params []string
	if e.Seq != nil {
		params = append(params, "seq="+strconv.FormatUint(uint64(*e.Seq), 10))
	}
	if e.RTPTime != nil {
		params = append(params, "rtptime="+strconv.FormatUint(uint64(*e.RTPTime), 10))
	}
	if e.SSRC == nil {
		return strings.Join(append([]string{"url=" + e.URL}, params...), ";")
	}
	s := `url="` + e.URL + `" ssrc=` + hex8(*e.SSRC)
	if len(params) == 0 {
		return s
	}
	return s + ":" + strings.Join(params, ";")
}
