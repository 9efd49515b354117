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
	URL     string  // as written, without quotes; absolute or relative
	Seq     *uint16 // of the first packet, nil when not announced
	RTPTime *uint32 // that belongs to the start of the Range, nil when not announced
	SSRC    *uint32 // version 2.0 only, nil otherwise

	seq, rtptime span // of the values in the header; empty and at from 0 when absent
	end          int  // where a parameter may be added
}

// ParseRTPInfo reads both forms, with a blank or none after the commas. URLs may contain ';' and
// ','. The error is a *HeaderError: an empty value.
func ParseRTPInfo(v string) (RTPInfo, error) {
	var info RTPInfo
	for _, p := range entrySpans(v) {
		info = append(info, parseEntry(v, p)...)
	}
	if len(info) == 0 {
		return nil, &HeaderError{Header: "RTP-Info", Value: v, Reason: "empty"}
	}
	return info, nil
}

// entrySpans cuts v at each comma outside quotes that is followed by a new "url="; at every
// comma when there is no "url=" at all.
func entrySpans(v string) []span {
	var all []span
	add := func(from, to int) {
		if p := trimSpan(v, span{from, to}); p.from < p.to {
			all = append(all, p)
		}
	}
	named := hasURL(strings.TrimLeft(v, " \t,"))
	quoted, from := false, 0
	for i := range len(v) {
		switch {
		case v[i] == '"':
			quoted = !quoted
		case v[i] == ',' && !quoted && (!named || hasURL(strings.TrimLeft(v[i+1:], " \t,"))):
			add(from, i)
			from = i + 1
		}
	}
	add(from, len(v))
	return all
}

func hasURL(v string) bool { return len(v) >= 4 && strings.EqualFold(v[:4], "url=") }

// parseEntry reads one entry; version 2.0 may name several sources of one URL.
func parseEntry(v string, p span) []RTPInfoEntry {
	for p.to > p.from && v[p.to-1] == ',' {
		p = trimSpan(v, span{p.from, p.to - 1})
	}
	e := RTPInfoEntry{end: p.to}
	at := p.from
	if hasURL(v[at:p.to]) {
		at += len("url=")
		if end := strings.IndexByte(v[min(at+1, p.to):p.to], '"'); at < p.to && v[at] == '"' && end >= 0 {
			e.URL = v[at+1 : at+1+end]
			at += end + 2
		} else {
			from := at
			at = paramStart(v, span{at, p.to})
			e.URL = strings.TrimSpace(v[from:at])
		}
	}
	all := []RTPInfoEntry{e}
	for at < p.to {
		next := at
		for next < p.to && strings.IndexByte("; \t", v[next]) < 0 {
			next++
		}
		all = entryParam(all, v, span{at, next})
		at = next + 1
	}
	return all
}

// paramStart returns where the parameters behind an unquoted URL begin: at the first ';' from
// which on everything reads as parameters and which itself opens seq or rtptime.
func paramStart(v string, p span) int {
	start := p.to
	for i := p.to; i > p.from; {
		j := strings.LastIndexByte(v[p.from:i], ';')
		if j < 0 {
			break
		}
		j += p.from
		key, value, eq := strings.Cut(strings.TrimSpace(v[j+1:i]), "=")
		known := isEntryKey(key)
		if !eq && key != "" || known && value != "" && !isNumber10(value) || strings.ContainsAny(value, "/") {
			break
		}
		if known || key == "" && start == p.to {
			start = j
		}
		i = j
	}
	return start
}

func isEntryKey(key string) bool {
	return strings.EqualFold(key, "seq") || strings.EqualFold(key, "rtptime")
}

// isNumber10 reports whether s is one to ten digits.
func isNumber10(s string) bool {
	return isNumber(s) || len(s) == 10 && isNumber(s[1:]) && isDigit(s[0])
}

// entryParam takes one parameter into the last entry.
func entryParam(all []RTPInfoEntry, v string, p span) []RTPInfoEntry {
	e := &all[len(all)-1]
	eq := strings.IndexByte(v[p.from:p.to], '=')
	if eq < 0 {
		return all
	}
	key, value := v[p.from:p.from+eq], span{p.from + eq + 1, p.to}
	if strings.EqualFold(key, "ssrc") {
		ssrc, rest, more := strings.Cut(v[value.from:value.to], ":")
		n, ok := parseSSRC(ssrc)
		if !ok || n == nil {
			return all
		}
		if e.SSRC != nil {
			e.end = strings.LastIndexByte(v[:p.from], '=') // replaced below
			all = append(all, RTPInfoEntry{URL: e.URL})
			all[len(all)-2].end = len(strings.TrimRight(v[:p.from], "; \t"))
			e = &all[len(all)-1]
			e.end = all[0].end
		}
		e.SSRC = n
		if !more {
			return all
		}
		return entryParam(all, v, span{p.to - len(rest), p.to})
	}
	text := v[value.from:value.to]
	switch {
	case strings.EqualFold(key, "seq"):
		e.seq = value
		if n, err := strconv.ParseUint(text, 10, 16); err == nil {
			s := uint16(n)
			e.Seq = &s
		}
	case strings.EqualFold(key, "rtptime"):
		e.rtptime = value
		if n, err := strconv.ParseUint(text, 10, 32); err == nil {
			t := uint32(n)
			e.RTPTime = &t
		}
	}
	return all
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
	type edit struct {
		at   span
		text string
	}
	s := edit{e.seq, strconv.FormatUint(uint64(seq), 10)}
	t := edit{e.rtptime, strconv.FormatUint(uint64(rtptime), 10)}
	if s.at.to == 0 {
		s = edit{span{e.end, e.end}, ";seq=" + s.text}
	}
	if t.at.to == 0 {
		t = edit{span{e.end, e.end}, ";rtptime=" + t.text}
	}
	if t.at.from < s.at.from {
		s, t = t, s
	}
	return v[:s.at.from] + s.text + v[s.at.to:t.at.from] + t.text + v[t.at.to:]
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
	if e.SSRC != nil {
		head := `url="` + e.URL + `" ssrc=` + hex8(*e.SSRC)
		if len(params) == 0 {
			return head
		}
		return head + ":" + strings.Join(params, ";")
	}
	return strings.Join(append([]string{"url=" + e.URL}, params...), ";")
}
