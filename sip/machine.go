package sip

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// MoveType is the media type of the machine form (ims-sip 3.4).
const MoveType = "application/vnd.scas.move+json"

// Bounds of an incoming machine body.
const (
	maxBody      = 1024
	maxJSONDepth = 4
	maxString    = 128
	maxRef       = 32
)

// errMachine: the body is not the machine form.
var errMachine = errors.New("body not understood")

// parseMachine returns the command in a machine body. Unknown members are ignored. Errors wrap
// errMachine; ref is given back even then when it could be read.
func parseMachine(body []byte) (command, error) {
	members, err := readObject(body)
	if err != nil {
		return command{}, err
	}
	var c command
	text := func(name string) string {
		raw, ok := members[name]
		if !ok {
			return ""
		}
		var s string
		if bytes.HasPrefix(raw, []byte(`"`)) && json.Unmarshal(raw, &s) == nil && len(s) <= maxString {
			return s
		}
		if err == nil {
			err = fmt.Errorf("%w: %s is no string of at most %d bytes", errMachine, name, maxString)
		}
		return ""
	}
	c.op, c.ref, c.me = op(text("op")), text("ref"), text("me")
	c.session, c.offer, c.to = text("session"), text("offer"), text("to")
	c.reason, c.name = text("reason"), text("name")
	mode := text("mode")
	c.auto = mode == "on"
	if c.ref != "" && !validRef(c.ref) {
		c.ref = ""
		err = fmt.Errorf("%w: ref", errMachine)
	}
	if string(members["v"]) != "1" {
		err = fmt.Errorf("%w: v is not 1", errMachine)
	}
	if err != nil {
		return command{ref: c.ref}, err
	}
	return c.check(mode)
}

// check returns c when its op has all it needs.
func (c command) check(mode string) (command, error) {
	if c.op == opDecline && c.reason != "busy" && c.reason != "unsupported" {
		c.reason = "no"
	}
	for _, x := range []struct {
		wrong bool
		what  string
	}{
		{c.session != "" && !validNumber(c.session), "session"},
		{c.offer != "" && !validNumber(c.offer), "offer"},
		{c.op == opPush && c.to == "", "to"},
		{(c.op == opAccept || c.op == opDecline) && c.offer == "", "offer"},
		{c.op == opCancel && c.offer == "" && c.session == "", "offer or session"},
		{c.op == opAuto && mode != "on" && mode != "off", "mode"},
		{c.op == opName && !validName(c.name), "name"},
		{!slices.Contains([]op{opList, opPull, opPush, opAccept, opDecline, opCancel, opAuto, opName}, c.op), "op"},
	} {
		if x.wrong {
			return command{ref: c.ref}, fmt.Errorf("%w: %s", errMachine, x.what)
		}
	}
	return c, nil
}

// readObject returns the members of the one object that body is: case matters, the last of two
// equal names counts.
func readObject(body []byte) (map[string]json.RawMessage, error) {
	if len(body) > maxBody || !utf8.Valid(body) {
		return nil, fmt.Errorf("%w: not UTF-8 of at most %d bytes", errMachine, maxBody)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	depth := 0
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: no JSON", errMachine)
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth > maxJSONDepth {
			return nil, fmt.Errorf("%w: nested deeper than %d", errMachine, maxJSONDepth)
		}
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil || members == nil {
		return nil, fmt.Errorf("%w: no JSON object", errMachine)
	}
	return members, nil
}

func validRef(s string) bool {
	return s != "" && len(s) <= maxRef && strings.Trim(s, "._-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// Item is one session in a list.
type Item struct {
	Session  string   `json:"session"`
	Kind     string   `json:"kind"`
	Proto    string   `json:"proto"`
	Title    string   `json:"title"`
	On       string   `json:"on"`
	State    string   `json:"state"`
	Position *float64 `json:"pos"`
	Duration *float64 `json:"dur"`
}

// Place is one terminal in a list.
type Place struct {
	Name   string `json:"name"`
	Me     bool   `json:"me,omitempty"`
	Active bool   `json:"active,omitempty"`
}

// SessionList is the answer to list.
type SessionList struct {
	V         int     `json:"v"`
	Op        string  `json:"op"`
	Ref       string  `json:"ref,omitempty"`
	Items     []Item  `json:"items"`
	Terminals []Place `json:"terminals"`
	More      bool    `json:"more,omitempty"`
}

// Offer asks a terminal to go on with a session. Ref is set when the terminal asked for it
// itself (pull). Position and Expires are seconds.
type Offer struct {
	V        int      `json:"v"`
	Op       string   `json:"op"`
	Ref      string   `json:"ref,omitempty"`
	Offer    string   `json:"offer"`
	Session  string   `json:"session"`
	Kind     string   `json:"kind"`
	Title    string   `json:"title"`
	From     string   `json:"from"`
	Position *float64 `json:"pos"`
	URL      []string `json:"url"`
	Expires  int      `json:"expires"`
	Auto     bool     `json:"auto"`

	asked bool // nobody has to say yes any more: opening the URL is all
}

// Result tells how an order went. State is done, declined, expired, failed, cancelled; Code is
// the contract's word for it.
type Result struct {
	V       int    `json:"v"`
	Op      string `json:"op"`
	Ref     string `json:"ref,omitempty"`
	Offer   string `json:"offer,omitempty"`
	Session string `json:"session,omitempty"`
	State   string `json:"state"`
	Code    string `json:"code"`
	Text    string `json:"text,omitempty"`
	On      string `json:"on,omitempty"`
}

// encode returns v as one line of JSON; & < > stay as they are, so that a URL in it reads byte
// for byte.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
