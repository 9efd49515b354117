package main

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Each function here returns what reads one kind of value and stores it in dst.

// text reads a string of min to max bytes that can be shown.
func text(dst *string, shortest, longest int) func(*reader, value) {
	return func(r *reader, v value) {
		s, ok := r.scalar(v)
		switch {
		case !ok:
		case len(s) < shortest || len(s) > longest:
			r.bad(v, fmt.Sprintf("want %d to %d characters", shortest, longest))
		case strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }):
			r.bad(v, "holds a character that cannot be shown")
		default:
			*dst = s
		}
	}
}

// path reads the absolute name of a file; "" is none.
func path(dst *string) func(*reader, value) {
	return func(r *reader, v value) {
		s, ok := r.scalar(v)
		switch {
		case !ok:
		case s != "" && !strings.HasPrefix(s, "/"):
			r.bad(v, quote(s)+" is no absolute path")
		case len(s) > 4096 || strings.ContainsRune(s, 0):
			r.bad(v, "is no path")
		default:
			*dst = s
		}
	}
}

// oneOf reads one of words. later maps words that are reserved to the part they are for.
func oneOf(dst *string, words []string, later map[string]string) func(*reader, value) {
	return func(r *reader, v value) {
		s, ok := r.scalar(v)
		if !ok {
			return
		}
		if part, is := later[s]; is {
			r.bad(v, s+" is "+reservedFor(part))
			return
		}
		if !slices.Contains(words, s) {
			r.bad(v, fmt.Sprintf("%s is not one of %s%s", quote(s), strings.Join(words, ", "), suggestOnly(s, words)))
			return
		}
		*dst = s
	}
}

// limits bounds a duration; both ends are allowed.
type limits struct{ min, max string }

func duration(dst *time.Duration, lim limits) func(*reader, value) {
	return func(r *reader, v value) {
		s, ok := r.scalar(v)
		if !ok {
			return
		}
		d, err := time.ParseDuration(s)
		if err != nil {
			hint := "want a number with a unit, as 200ms, 1.5s, 1m, 720h"
			if _, err := strconv.ParseFloat(s, 64); err == nil {
				hint = fmt.Sprintf("has no unit: write %ss or %sms", s, s)
			}
			r.bad(v, quote(s)+" is no duration: "+hint)
			return
		}
		low, _ := time.ParseDuration(lim.min) // constants of this program
		high, _ := time.ParseDuration(lim.max)
		if d < low || d > high {
			r.bad(v, fmt.Sprintf("%s is not within %s and %s", s, lim.min, lim.max))
			return
		}
		*dst = d
	}
}

func number(dst *int, low, high int) func(*reader, value) {
	return func(r *reader, v value) {
		s, ok := r.scalar(v)
		if !ok {
			return
		}
		n, err := strconv.ParseInt(s, 0, 64)
		if err != nil || n < int64(low) || n > int64(high) {
			r.bad(v, fmt.Sprintf("%s is no number within %d and %d", quote(s), low, high))
			return
		}
		*dst = int(n)
	}
}

// oneBit reads a packet mark of exactly one bit.
func oneBit(dst *uint32) func(*reader, value) {
	return func(r *reader, v value) {
		s, ok := r.scalar(v)
		if !ok {
			return
		}
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil || n == 0 || n&(n-1) != 0 {
			r.bad(v, quote(s)+" is not one bit of 32, as 0x20000000")
			return
		}
		*dst = uint32(n)
	}
}

// interfaces reads names of network interfaces.
func interfaces(dst *[]string) func(*reader, value) {
	return func(r *reader, v value) {
		out := []string{}
		for _, item := range r.list(v) {
			s, ok := r.scalar(item)
			switch {
			case !ok:
			case s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/: \t"):
				r.bad(item, quote(s)+" is no name of an interface")
			case slices.Contains(out, s):
				r.bad(item, s+" is listed twice")
			default:
				out = append(out, s)
			}
		}
		*dst = out
	}
}

// ports reads TCP ports, at least so many.
func ports(dst *[]uint16, least int) func(*reader, value) {
	return func(r *reader, v value) {
		out := []uint16{}
		items := r.list(v)
		for _, item := range items {
			n := 0
			if number(&n, 1, 65535)(r, item); n == 0 {
				continue
			}
			if slices.Contains(out, uint16(n)) {
				r.bad(item, fmt.Sprintf("port %d is listed twice", n))
				continue
			}
			out = append(out, uint16(n))
		}
		if _, isList := v.items(); isList && len(items) < least {
			r.bad(v, "names no port")
		}
		if len(items) > 64 {
			r.bad(v, "names more than 64 ports")
		}
		*dst = out
	}
}

// listenAddress reads HOST:PORT with a literal address; "" is none.
func listenAddress(dst *string) func(*reader, value) {
	return func(r *reader, v value) {
		s, ok := r.scalar(v)
		if !ok {
			return
		}
		if s != "" {
			_, port, err := net.SplitHostPort(s)
			if err != nil {
				r.bad(v, quote(s)+" is no HOST:PORT")
				return
			}
			if _, err := strconv.ParseUint(port, 10, 16); err != nil {
				r.bad(v, fmt.Sprintf("port %s is no number within 0 and 65535", quote(port)))
				return
			}
		}
		*dst = s
	}
}

func trimToken(text []byte) string { return strings.TrimSpace(string(text)) }

// quote shows a word of the operator's.
func quote(s string) string { return strconv.Quote(s) }
