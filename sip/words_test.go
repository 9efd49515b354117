package sip

import (
	"errors"
	"strings"
	"testing"
)

func TestParseWords(t *testing.T) {
	for _, c := range []struct {
		text string
		want command
		bad  bool
	}{
		{text: "list", want: command{op: opList}},
		{text: "  LS. ", want: command{op: opList}},
		{text: "?", want: command{op: opList}},
		{text: "\r\nlist\r\nsent from my phone", want: command{op: opList}},
		{text: "\ufefflist", want: command{op: opList}},
		{text: "help", want: command{op: opHelp}},
		{text: "pull", want: command{op: opPull}},
		{text: "Pull 7.", want: command{op: opPull, session: "7"}},
		{text: "push tv", want: command{op: opPush, to: "tv"}},
		{text: "push to tv", want: command{op: opPush, to: "tv"}},
		{text: "push 7 tv", want: command{op: opPush, session: "7", to: "tv"}},
		{text: "push 7 to TV", want: command{op: opPush, session: "7", to: "tv"}},
		{text: "push 7", want: command{op: opPush, to: "7"}},
		{text: "push to", want: command{op: opPush, to: "to"}},
		{text: "yes", want: command{op: opAccept}},
		{text: "ok 31", want: command{op: opAccept, offer: "31"}},
		{text: "n", want: command{op: opDecline, reason: "no"}},
		{text: "cancel 3", want: command{op: opCancel, offer: "3"}},
		{text: "auto ON", want: command{op: opAuto, auto: true}},
		{text: "auto off", want: command{op: opAuto}},
		{text: "name Living-Room2", want: command{op: opName, name: "living-room2"}},
		{text: "", bad: true},
		{text: ".", bad: true},
		{text: "list all", bad: true},
		{text: "push", bad: true},
		{text: "push 7 8 tv", bad: true},
		{text: "push ../tv", bad: true},
		{text: "push to the tv", bad: true},
		{text: "pull seven", bad: true},
		{text: "pull 1234567", bad: true},
		{text: "auto", bad: true},
		{text: "name a-name-that-is-too-long", bad: true},
		{text: "name tv\u202e", bad: true},
		{text: strings.Repeat(" list", 40), bad: true},
		{text: "rm -rf /", bad: true},
	} {
		t.Run(c.text, func(t *testing.T) {
			got, err := parseWords(c.text)
			if c.bad != errors.Is(err, errWords) || got != c.want {
				t.Errorf("got %+v, %v; want %+v, bad %v", got, err, c.want, c.bad)
			}
		})
	}
}

func FuzzParseWords(f *testing.F) {
	for _, s := range []string{"list", "push 7 to tv", "yes 31.", "auto on", "name tv", "\xff\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseWords(s)
		if err != nil {
			return
		}
		if c.to != "" && !validName(c.to) || c.name != "" && !validName(c.name) ||
			c.session != "" && !validNumber(c.session) || c.offer != "" && !validNumber(c.offer) {
			t.Errorf("%q gave %+v", s, c)
		}
	})
}
