package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"scas/sip"
)

const minimalSIP = minimal + `sip: {listen: ["udp://10.0.0.9:5060"], uri: "sip:scas@ims.example", terminals: [10.10.0.0/16]}` + "\n"

// The section sip of the example file is right, and shows the defaults.
func TestExampleSIP(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "scas.example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), "# sip:\n")
	section, after, end := strings.Cut(rest, "\n\n")
	if !found || !end {
		t.Fatal("no section sip")
	}
	hidden := regexp.MustCompile(`^  # ([a-z_]+:( .*)?|  - \{.*)$`) // a key that is not the default, or an element of one
	for _, everything := range []bool{false, true} {
		lines := []string{"sip:"}
		for line := range strings.SplitSeq(section, "\n") {
			line = strings.TrimPrefix(line, "# ")
			if everything {
				line = hidden.ReplaceAllString(line, "  $1")
			}
			lines = append(lines, line)
		}
		whole := strings.Replace(before, "roles: [gateway]", "roles: [gateway, as]", 1) + strings.Join(lines, "\n") + "\n\n" + after
		var settings []string
		if everything {
			settings = []string{"sip.registrar=true"}
		}
		got, err := load(t, whole, nil, settings...)
		if err != nil {
			t.Errorf("%v\n%s", err, strings.Join(lines, "\n"))
			continue
		}
		if everything {
			if s := got.SIP; len(s.Users) != 3 || s.TLS.ServerCA == "" || s.Outbound == "" || s.Presence == "" || s.Advertise == "" || len(s.Access) == 0 {
				t.Errorf("%+v", s)
			}
			continue
		}
		want := sip.DefaultConfig()
		want.Listen, want.URI = []string{"udp://192.0.2.9:5060", "tcp://192.0.2.9:5060"}, "sip:scas@ims.example"
		want.Trusted, want.Terminals, want.Never = []string{"192.0.2.1/32"}, []netip.Prefix{netip.MustParsePrefix("10.10.0.0/16")}, []netip.Prefix{}
		if !got.SIP.on || !reflect.DeepEqual(got.SIP.Config, want) {
			t.Errorf("got  %+v\nwant %+v", got.SIP.Config, want)
		}
	}
}

func TestSIPConfig(t *testing.T) {
	c, err := load(t, minimal+`
roles: [gateway, as]
sip:
  listen: ["udp://10.0.0.9:5060", "tcp://10.0.0.9:5060"]
  uri: sip:scas@hotel.example
  trusted: [192.0.2.1, "tls://192.0.2.0/24"]
  terminals: [10.10.0.0/16, 10.11.0.7, "fd00::/32"]
  never: [10.10.0.1]
  registrar: true
  users:
    - {aor: "sip:ann@hotel.example", password: 12345, identities: ["sip:a@hotel.example"]}
    - {aor: "sip:joe@hotel.example", user: j, sha256: "`+strings.Repeat("0A", 32)+`"}
  reg_event: false
  refuse: 403
  unknown_users: 404
  core_hop: false
subscribers:
- {aor: "sip:*@ims.example"}
- aor: sip:bob@hotel.example
- {aor: sip:eve@hotel.example, terminals: [{name: tv, ip: 10.10.1.3}]}
state: {keep: 24h}
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := c.server()
	want := []sip.Credential{
		{AoR: "sip:ann@hotel.example", Password: "12345", Identities: []string{"sip:a@hotel.example"}},
		{AoR: "sip:joe@hotel.example", User: "j", SHA256: strings.Repeat("0a", 32)},
	}
	if !reflect.DeepEqual(s.Users, want) || s.RegEvent || s.Refuse != "403" || s.UnknownUsers != "404" || s.CoreHop || !s.Registrar {
		t.Errorf("%+v", s)
	}
	if len(s.Subscribers) != 3 || len(s.Static) != 1 || s.Static[0].IP != netip.MustParseAddr("10.10.1.3") || c.State.Keep != 24*time.Hour ||
		s.Terminals[1] != netip.MustParsePrefix("10.11.0.7/32") {
		t.Errorf("%+v", s)
	}
	c, err = load(t, minimalSIP, []string{"SCAS_SIP_TRUSTED=10.0.0.1,10.0.0.2"}, "sip.tls.key=/k")
	if err != nil || !c.SIP.on || len(c.SIP.Trusted) != 2 || c.SIP.TLS.Key != "/k" || !c.SIP.RegEvent || c.SIP.Refuse != "silent" {
		t.Errorf("%v %+v", err, c.SIP)
	}
	if c, err = load(t, minimal, nil); err != nil || c.SIP.on {
		t.Errorf("%v %+v", err, c.SIP)
	}
}

func TestSIPConfigErrors(t *testing.T) {
	const good = `listen: ["udp://10.0.0.9:5060"], uri: "sip:scas@x", terminals: [10.10.0.0/16]`
	section := func(keys string) string { return minimal + "sip: {" + keys + "}\n" }
	for name, tt := range map[string]struct{ text, want string }{
		"empty":           {section(""), "f.yaml:2:1: sip.terminals: is required"},
		"no listener":     {section(`uri: "sip:scas@x", terminals: [10.0.0.1]`), "f.yaml:2:1: sip.listen: no address to listen on"},
		"listener":        {section(`listen: [x], uri: "sip:scas@x", terminals: [10.0.0.1]`), `f.yaml:2:7: sip.listen: "x" is not udp://, tcp:// or tls://ADDRESS:PORT`},
		"tls":             {section(`listen: ["tls://10.0.0.9:5061"], uri: "sip:scas@x", terminals: [10.0.0.1]`), `f.yaml:2:1: sip.tls: tls://10.0.0.9:5061 needs a certificate`},
		"uri":             {section(`listen: ["udp://10.0.0.9:5060"], uri: "sip:x", terminals: [10.0.0.1]`), `f.yaml:2:40: sip.uri: "sip:x" is no SIP URI with a user part`},
		"trusted":         {section(good + `, trusted: [core]`), `sip.trusted: "core"`},
		"terminals":       {section(`terminals: [10.10.0.0/33]`), `f.yaml:2:19: sip.terminals[0]: "10.10.0.0/33" is no network`},
		"registrar":       {section(good + `, registrar: yes`), `sip.registrar: "yes" is neither true nor false`},
		"no registrar":    {section(good + `, users: [{aor: "sip:a@x", password: p}]`), `sip.users: only a registrar has users`},
		"user, no aor":    {section(good + `, registrar: true, users: [{password: p}]`), `sip.users[0]: aor is missing`},
		"user, no secret": {section(good + `, registrar: true, users: [{aor: "sip:a@x"}]`), `sip.users[0]: password is missing, or md5 or sha256 instead`},
		"user, hash":      {section(good + `, registrar: true, users: [{aor: "sip:a@x", md5: xyz}]`), `sip.users[0].md5: want 32 hexadecimal digits`},
		"user twice":      {section(good + `, registrar: true, users: [{aor: "sip:a@x", password: p}, {aor: "sip:a@x", password: q}]`), `sip.users[1].aor: sip:a@x is listed twice`},
		"unknown key":     {section(good + `, trust: [x]`), `sip.trust: unknown key; did you mean "trusted"?`},
		"unknown below":   {section(good + `, tls: {cert: /x}`), `sip.tls.cert: unknown key`},
		"refuse":          {section(good + `, refuse: loud`), `sip.refuse: "loud" is not one of silent, 403`},
		"as without":      {minimal + "roles: [gateway, as]\n", "f.yaml:2:1: roles: as needs the section sip"},
		"without as":      {minimalSIP + "roles: [gateway]\n", "f.yaml:3:1: roles: must hold as"},
		"role twice":      {minimalSIP + "roles: [gateway, as, as]\n", "f.yaml:3:22: roles[2]: as is listed twice"},
		"everybody":       {minimal + "subscribers: [{aor: \"sip:*@x\"}]\n", "subscribers[0]: terminals are missing"},
		"everybody's tv":  {minimalSIP + "subscribers: [{aor: \"sip:*@x\", terminals: [{name: tv, ip: 10.0.0.1}]}]\n", "f.yaml:3:16: subscribers[0].aor: sip:*@x is everybody of a domain"},
	} {
		_, err := load(t, tt.text, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v\nwant %s", name, err, tt.want)
		}
	}
}
