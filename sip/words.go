package sip

import (
	"errors"
	"strings"
)

// op is what a user wants of the service, in both forms (ims-sip 3.4, 3.5).
type op string

const (
	opList    op = "list"
	opPush    op = "push"
	opPull    op = "pull"
	opAccept  op = "accept"
	opDecline op = "decline"
	opCancel  op = "cancel"
	opAuto    op = "auto"
	opName    op = "name"
	opHelp    op = "help" // plain words only
)

// command is one order of a user. Fields that its op does not have are empty.
type command struct {
	op      op
	ref     string // of the asker, echoed
	me      string // instance the asker says it is
	session string // number
	offer   string // number
	to      string // name or instance of a terminal
	reason  string // of a decline: busy, no, unsupported
	auto    bool
	name    string
}

// Bounds of the plain form (ims-sip 3.5) and of numbers and names in both.
const (
	maxLine   = 160
	maxNumber = 6  // digits
	maxName   = 16 // bytes
)

// errWords: the line is no command. The answer to it is the help text.
var errWords = errors.New("not a command")

// parseWords returns the command of the first line of text. errWords is the only error.
func parseWords(text string) (command, error) {
	text = strings.TrimLeft(text, "\r\n\t \ufeff")
	line, _, _ := strings.Cut(text, "\n")
	line = strings.TrimSpace(line)
	if len(line) > maxLine {
		return command{}, errWords
	}
	line = strings.TrimSpace(strings.TrimSuffix(line, "."))
	words := strings.Fields(strings.ToLower(line))
	if len(words) == 0 {
		return command{}, errWords
	}
	verb, rest := words[0], words[1:]
	switch verb {
	case "list", "ls", "?":
		return bare(opList, rest)
	case "help":
		return bare(opHelp, rest)
	case "push":
		return pushWords(rest)
	case "auto":
		return autoWords(rest)
	case "name":
		if len(rest) != 1 || !validName(rest[0]) {
			return command{}, errWords
		}
		return command{op: opName, name: rest[0]}, nil
	}
	return numbered(verb, rest)
}

func bare(o op, rest []string) (command, error) {
	if len(rest) > 0 {
		return command{}, errWords
	}
	return command{op: o}, nil
}

// numbered are the verbs with an optional number.
func numbered(verb string, rest []string) (command, error) {
	n := ""
	if len(rest) > 1 || len(rest) == 1 && !validNumber(rest[0]) {
		return command{}, errWords
	}
	if len(rest) == 1 {
		n = rest[0]
	}
	switch verb {
	case "pull":
		return command{op: opPull, session: n}, nil
	case "yes", "y", "ok":
		return command{op: opAccept, offer: n}, nil
	case "no", "n":
		return command{op: opDecline, offer: n, reason: "no"}, nil
	case "cancel":
		return command{op: opCancel, offer: n}, nil
	}
	return command{}, errWords
}

// pushWords reads "[N] [to] NAME". A terminal may have a number as its name: the last word is
// always the name, and "to" is one when nothing follows it.
func pushWords(rest []string) (command, error) {
	c := command{op: opPush}
	if len(rest) > 1 && validNumber(rest[0]) {
		c.session, rest = rest[0], rest[1:]
	}
	if len(rest) == 2 && rest[0] == "to" {
		rest = rest[1:]
	}
	if len(rest) != 1 || !validName(rest[0]) {
		return command{}, errWords
	}
	c.to = rest[0]
	return c, nil
}

func autoWords(rest []string) (command, error) {
	if len(rest) != 1 || rest[0] != "on" && rest[0] != "off" {
		return command{}, errWords
	}
	return command{op: opAuto, auto: rest[0] == "on"}, nil
}

// validNumber reports whether s is a session or offer number as we give them out.
func validNumber(s string) bool {
	return s != "" && len(s) <= maxNumber && strings.Trim(s, "0123456789") == ""
}

// validName reports whether s can be the name of a terminal: a-z 0-9 -, 1 to 16.
func validName(s string) bool {
	return s != "" && len(s) <= maxName && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
