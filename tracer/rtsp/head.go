package rtsp

import (
	"bytes"
	"math"
	"strings"
)

// header is one header line with its folded continuations.
type header struct {
	name  span
	value span // without white space around it; inner line folds included
}

// headEnd returns the length of the head with its blank line, or -1 when the blank line is not
// within the first MaxHead bytes.
func headEnd(b []byte) int {
	if len(b) > MaxHead {
		b = b[:MaxHead]
	}
	for i := 0; ; {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			return -1
		}
		i += j + 1
		switch {
		case i < len(b) && b[i] == '\n':
			return i + 1
		case i+1 < len(b) && b[i] == '\r' && b[i+1] == '\n':
			return i + 2
		}
	}
}

// nextLine returns the content of the line that begins at i, without its line end, and where
// the next one begins. The last line may lack its line end.
func nextLine[T text](head T, i int) (line span, next int) {
	j := i
	for j < len(head) && head[j] != '\n' {
		j++
	}
	next = j
	if j < len(head) {
		next++
	}
	if j > i && head[j-1] == '\r' {
		j--
	}
	return span{i, j}, next
}

// nextHeader returns the first header at or after i, which must be the start of a line, and
// where the line after it begins. Lines that are no header are passed over. ok is false at the
// end of the head.
func nextHeader[T text](head T, i int) (h header, next int, ok bool) {
	for i < len(head) {
		line, after := nextLine(head, i)
		colon := line.from
		for colon < line.to && head[colon] != ':' {
			colon++
		}
		if colon == line.to || colon == line.from || isBlank(head[line.from]) {
			i = after
			continue
		}
		h.name = trim(head, span{line.from, colon})
		end := line.to
		for after < len(head) && isBlank(head[after]) {
			line, after = nextLine(head, after)
			end = line.to
		}
		h.value = valueSpan(head, colon+1, end)
		return h, after, true
	}
	return header{}, i, false
}

// valueSpan trims a value. An empty one is placed after one blank, so that writing to it gives
// the usual "Name: value".
func valueSpan[T text](s T, from, to int) span {
	p := trim(s, span{from, to})
	if p.from < p.to {
		return p
	}
	if from < to && isBlank(s[from]) {
		from++
	}
	return span{from, from}
}

// contentLength returns the length of the body that a head announces, 0 when it does not. Equal
// repetitions count once.
func contentLength(head []byte) (int, error) {
	length := -1
	_, i := nextLine(head, 0)
	for {
		h, next, ok := nextHeader(head, i)
		if !ok {
			return max(length, 0), nil
		}
		i = next
		if !equalFold(head, h.name, "content-length") {
			continue
		}
		n, err := parseLength(head[h.value.from:h.value.to])
		if err != nil {
			return 0, err
		}
		if length >= 0 && n != length {
			return 0, &LengthError{Value: string(head[h.value.from:h.value.to])}
		}
		length = n
	}
}

// parseLength reads one Content-Length value. An empty one is 0, as readers built on strtol
// take it; a list of equal numbers is what a proxy makes of a repeated header.
func parseLength(v []byte) (int, error) {
	if len(v) == 0 {
		return 0, nil
	}
	length := int64(-1)
	for from := 0; from <= len(v); {
		to := len(v)
		if comma := bytes.IndexByte(v[from:], ','); comma >= 0 {
			to = from + comma
		}
		n, ok := decimal(v, trim(v, span{from, to}))
		if !ok || length >= 0 && n != length {
			return 0, &LengthError{Value: string(v)}
		}
		length, from = n, to+1
	}
	if length > MaxBody {
		return 0, &LimitError{Part: "body", Size: length, Limit: MaxBody}
	}
	return int(length), nil
}

// decimal reads one digit or more; numbers that do not fit become the largest one.
func decimal(v []byte, p span) (n int64, ok bool) {
	for _, c := range v[p.from:p.to] {
		if !isDigit(c) {
			return 0, false
		}
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64
			continue
		}
		n = n*10 + int64(c-'0')
	}
	return n, p.from < p.to
}

// unfold returns a value as one line: each line fold with the white space around it becomes one
// blank (RFC 2326 §4.2 by way of RFC 2068 §4.2).
func unfold(v string) string {
	if strings.IndexByte(v, '\n') < 0 {
		return v
	}
	lines := strings.Split(v, "\n")
	for i := range lines {
		lines[i] = strings.Trim(lines[i], " \t\r")
	}
	return strings.Join(lines, " ")
}
