package sip

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"scas/session"
)

// form is how a terminal wants to be written to.
type form string

const (
	formText    form = "text"
	formMachine form = "json"
)

// maxTerminals bounds the terminals whose name and form are kept, of one user.
const maxTerminals = 40

// user is one user of the service and what goes on for it.
type user struct {
	aor string

	work sync.Mutex // held while an order is carried out; taken before mu

	mu        sync.Mutex // guards what follows
	settings  session.User
	given     map[string]string // default names, by terminal
	numbers   numbers
	activity  *activity
	offers    map[string]*offer // open, by number
	orders    bucket
	questions bucket
	recent    memory[reply] // answered requests
	refs      memory[session.Taken]
	empty     time.Time // since when the user has no terminal, as the sweep saw it
	check     time.Time // when to ask whether a film should follow the user; zero: not before new evidence
}

func newUser(aor string) *user {
	return &user{
		aor: aor, given: map[string]string{}, activity: newActivity(), offers: map[string]*offer{},
		numbers: newNumbers(), recent: newMemory[reply](transactionT), refs: newMemory[session.Taken](refLife),
		settings: session.User{AoR: aor, Names: map[string]string{}, Forms: map[string]string{}},
	}
}

// restore takes what the store kept. Numbers given out before a restart must not mean something
// else for an hour: each minute begins at another number, the same one after 90 minutes.
func (u *user) restore(kept session.User, now time.Time) {
	kept = kept.Clone()
	if kept.Names == nil {
		kept.Names = map[string]string{}
	}
	if kept.Forms == nil {
		kept.Forms = map[string]string{}
	}
	kept.AoR = u.aor
	u.settings = kept
	u.numbers.next = 1 + int(now.Unix()/60%90)*100
}

// terminalKey is what a terminal is remembered by when it registers anew: its instance, else
// the key of its binding.
func terminalKey(b session.Binding) string {
	if b.Instance != nil && *b.Instance != "" {
		return strings.ToLower(bareInstance(*b.Instance))
	}
	return b.Key
}

// named returns the bindings with the user's names for them, one of each terminal, the oldest
// first: flows of one instance are one terminal (RFC 5626).
func (u *user) named(bs []session.Binding) []session.Binding {
	bs = slices.Clone(bs)
	slices.SortStableFunc(bs, func(a, b session.Binding) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Key, b.Key))
	})
	seen, used, before := map[string]bool{}, map[string]bool{}, map[string]string{}
	out := bs[:0]
	for _, b := range bs {
		if k := terminalKey(b); !seen[k] {
			seen[k] = true
			out = append(out, b)
		}
	}
	for i := range out {
		if name := u.settings.Names[terminalKey(out[i])]; name != "" {
			out[i].Name = name
		} else if out[i].Source != session.FromStatic {
			before[out[i].Key], out[i].Name = out[i].Name, ""
		}
		used[out[i].Name] = true
	}
	maps.DeleteFunc(u.given, func(k, _ string) bool { return !seen[k] })
	for i := range out {
		if out[i].Name == "" {
			out[i].Name = u.give(out[i], before[out[i].Key], used)
		}
		used[out[i].Name] = true
	}
	return out
}

// give returns the default name of a terminal; it stays as long as the terminal does, over a
// restart as well: before is what the store says it was called.
func (u *user) give(b session.Binding, before string, used map[string]bool) string {
	key := terminalKey(b)
	if name := cmp.Or(u.given[key], before); name != "" && !used[name] {
		u.given[key] = name
		return name
	}
	for _, name := range u.given {
		used[name] = true
	}
	name := kindOf(b)
	for n := 1; name == "" || used[name]; n++ {
		switch kind := kindOf(b); {
		case kind == "":
			name = "t" + strconv.Itoa(n)
		case n > 1:
			name = kind + strconv.Itoa(n)
		}
	}
	u.given[key] = name
	return name
}

// kindOf guesses what a terminal is from its User-Agent; "" when that does not tell.
func kindOf(b session.Binding) string {
	if b.UserAgent == nil {
		return ""
	}
	ua := strings.ToLower(*b.UserAgent)
	for _, k := range []struct{ kind, words string }{
		{"tv", "tv stb set-top"},
		{"phone", "phone android mobile"},
		{"pc", "linux windows macos desktop pc"},
	} {
		for word := range strings.FieldsSeq(k.words) {
			// "linphone" is no phone
			if hasWord(strings.ReplaceAll(ua, "linphone", ""), word) {
				return k.kind
			}
		}
	}
	return ""
}

// hasWord reports whether word stands in s and no letter is around it, but for a prefix or
// suffix as in "smarttv" when the word has more than two letters.
func hasWord(s, word string) bool {
	if len(word) > 2 {
		return strings.Contains(s, word)
	}
	for _, w := range strings.FieldsFunc(s, func(r rune) bool { return r < 'a' || r > 'z' }) {
		if w == word || strings.HasSuffix(w, word) && word == "tv" {
			return true
		}
	}
	return false
}

// rename gives terminal b a name; false when another terminal of the user has it.
func (u *user) rename(b session.Binding, name string, all []session.Binding) bool {
	for _, x := range all {
		if x.Name == name && x.Key != b.Key {
			return false
		}
	}
	key := terminalKey(b)
	for k, n := range u.settings.Names { // of a terminal that is not here now
		if n == name && k != key {
			delete(u.settings.Names, k)
		}
	}
	bound(u.settings.Names, key)
	u.settings.Names[key] = name
	return true
}

// wrote notes the form a terminal used; true when that is new.
func (u *user) wrote(b session.Binding, f form) bool {
	key := terminalKey(b)
	if u.settings.Forms[key] == string(f) {
		return false
	}
	bound(u.settings.Forms, key)
	u.settings.Forms[key] = string(f)
	return true
}

// formOf returns the form a terminal last used, text when it used none.
func (u *user) formOf(b session.Binding) form {
	return form(cmp.Or(u.settings.Forms[terminalKey(b)], string(formText)))
}

// bound makes room for key.
func bound[T any](m map[string]T, key string) {
	if _, ok := m[key]; ok {
		return
	}
	for k := range m {
		if len(m) < maxTerminals {
			return
		}
		delete(m, k)
	}
}

// numbers are the small numbers by which a user speaks of sessions and offers. Not safe for
// concurrent use.
type numbers struct {
	next int
	of   map[string]*numberEntry // by what it means
	by   map[string]*numberEntry // by number
}

type numberEntry struct {
	number, id string
	used       time.Time
}

const lastNumber = 9999

func newNumbers() numbers {
	return numbers{next: 1, of: map[string]*numberEntry{}, by: map[string]*numberEntry{}}
}

// give returns the number of id, a new one when it has none. A number rests for an hour after
// its last use before it may mean something else.
func (n *numbers) give(id string, now time.Time) string {
	if x := n.of[id]; x != nil {
		x.used = now
		return x.number
	}
	for number, x := range n.by {
		if now.Sub(x.used) > numberRest {
			delete(n.by, number)
			delete(n.of, x.id)
		}
	}
	for n.by[strconv.Itoa(n.next)] != nil && len(n.by) < lastNumber {
		n.step()
	}
	x := &numberEntry{number: strconv.Itoa(n.next), id: id, used: now}
	if old := n.by[x.number]; old != nil {
		delete(n.of, old.id)
	}
	n.of[id], n.by[x.number] = x, x
	n.step()
	return x.number
}

func (n *numbers) step() { n.next = n.next%lastNumber + 1 }

// meant returns what a number means, "" when nothing.
func (n *numbers) meant(number string) string {
	if x := n.by[strings.TrimLeft(number, "0")]; x != nil {
		return x.id
	}
	return ""
}
