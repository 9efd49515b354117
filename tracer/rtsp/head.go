package rtsp

import (
	"bytes"
	"strings"
)

// span is a half-open range of bytes of a head.
type span struct{ from, to int }

// header is one header line with its folded continuations.
type header struct {
	name  span
	value span // without blanks around it; inner line folds included
}

// text is what a head may be held in.
type text interface{ ~string | ~[]byte }

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

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// isSpace includes the line ends, which stand inside a folded value.
func isSpace(c byte) bool { return isBlank(c) || c == '\r' || c == '\n' }

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
		end := line.to
		for after < len(head) && isBlank(head[after]) {
			line, after = nextLine(head, after)
			end = line.to
		}
		return header{name: trimSpan(head, span{line.from, colon}), value: valueSpan(head, colon+1, end)}, after, true
	}
	return header{}, i, false
}

func trimSpan[T text](s T, p span) span {
	for p.from < p.to && isSpace(s[p.from]) {
		p.from++
	}
	for p.to > p.from && isSpace(s[p.to-1]) {
		p.to--
	}
	return p
}

// valueSpan trims a value. An empty one is placed after one blank, so that writing to it gives
// the usual "Name: value".
func valueSpan[T text](s T, from, to int) span {
	p := trimSpan(s, span{from, to})
	if p.from == p.to {
		p.from = from
		if from < to && isBlank(s[from]) {
			p.from++
		}
		p.to = p.from
	}
	return p
}

// contentLength returns the length of the body that a head announces, 0 when it does not. Equal
// repetitions count once. Nothing is allocated unless it fails.
func contentLength(head []byte) (int, error) {
	const name = "content-length"
	length := -1
	_, i := nextLine(head, 0)
	for {
		h, next, ok := nextHeader(head, i)
		if !ok {
			return max(length, 0), nil
		}
		i = next
		if h.name.to-h.name.from != len(name) || !bytes.EqualFold(head[h.name.from:h.name.to], []byte(name)) {
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

// parseLength reads one Content-Length value. An empty one is 0, as every player takes it; a
// list of equal numbers is what a proxy makes of a repeated header.
func parseLength(v []byte) (int, error) {
	length, n, digits := -1, 0, 0
	for i := 0; i <= len(v); i++ {
		if i < len(v) && isDigit(v[i]) {
			if n <= MaxBody {
				n = n*10 + int(v[i]-'0')
			}
			digits++
			continue
		}
		if i < len(v) && v[i] != ',' {
			if isSpace(v[i]) && (digits == 0 || onlyUntilComma(v[i:])) {
				continue
			}
			return 0, &LengthError{Value: string(v)}
		}
		if (digits == 0 && len(v) > 0) || (length >= 0 && n != length) {
			return 0, &LengthError{Value: string(v)}
		}
		length, n, digits = n, 0, 0
	}
	if length > MaxBody {
		return 0, &LimitError{Part: "body", Size: int64(length), Limit: MaxBody}
	}
	return length, nil
}

// onlyUntilComma reports whether v has nothing but blanks before its first comma or its end.
func onlyUntilComma(v []byte) bool {
	for _, c := range v {
		if c == ',' {
			return true
		}
		if !isSpace(c) {
			return false
		}
	}
	return true
}

// unfold returns a value as one line: each line fold with the blanks around it becomes one
// blank (RFC 2326 §4.2 by way of RFC 2616 §2.2).
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
