package sip

import (
	"net/netip"
	"testing"

	gosip "github.com/emiago/sipgo/sip"
)

func identityCases() map[string]identity {
	return map[string]identity{
		"sip:alice@ims.test":                                  "sip:alice@ims.test",
		"SIP:alice@IMS.Test:5060;transport=tcp":               "sip:alice@ims.test",
		`"A <b>" <sip:alice@ims.test>;tag=1`:                  "sip:alice@ims.test",
		"sip:alice@ims.test;tag=1":                            "sip:alice@ims.test",
		"sips:%61lice@ims.test.":                              "sip:alice@ims.test",
		"sip:alice@ims.test:5070":                             "sip:alice@ims.test:5070",
		"sip:Alice@ims.test":                                  "sip:Alice@ims.test",
		"tel:+1-555-0100;phone-context=x":                     "tel:+15550100",
		"<tel:+1(555)0100>":                                   "tel:+15550100",
		"sip:+15550100@ims.test;user=phone":                   "tel:+15550100",
		"<sip:+1-555-0100;ext=1@ims.test;user=phone>;tag=abc": "tel:+15550100",
		"sip:+15550100@ims.test":                              "sip:+15550100@ims.test",
		"sip:user;par=u%40example.net@example.com":            "sip:user;par=u@example.net@example.com",
		"sip:a@[2001:DB8::1]":                                 "sip:a@[2001:db8::1]",
		"":                                                    "",
		"sip:ims.test":                                        "",
		"sip:alice%00@ims.test":                               "",
		"sip:alice%0a@ims.test":                               "",
		"sip:alice:secret@ims.test":                           "",
		"isbn:2983792873":                                     "",
		"tel:call me":                                         "",
		"<sip:alice@ims.test":                                 "",
		"sip:al ice@ims.test":                                 "",
		"http://ims.test":                                     "",
	}
}

func identitySeeds() []string {
	var out []string
	for s := range identityCases() {
		out = append(out, s)
	}
	return out
}

func TestIdentity(t *testing.T) {
	for text, want := range identityCases() {
		if got, err := parseIdentity(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestSameURI(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"sip:u@10.0.0.1", "<sip:u@10.0.0.1:5060;transport=udp>", true},
		{"sip:u@HOST", "sip:%75@host", true},
		{"sip:u@10.0.0.1", "sip:u@10.0.0.1:5061", false},
		{"sip:u@10.0.0.1", "sips:u@10.0.0.1", false},
		{"sip:U@10.0.0.1", "sip:u@10.0.0.1", false},
	} {
		if sameURI(c.a, c.b) != c.same {
			t.Errorf("%s and %s: %v", c.a, c.b, !c.same)
		}
	}
}

func TestAddressRules(t *testing.T) {
	cfg := baseConfig("10.0.0.3")
	cfg.Listen = []string{"udp://10.0.0.9:5060"}
	cfg.Never = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	cfg.Terminals = append(cfg.Terminals, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("fe80::/10"))
	rules := newAddressRules(cfg)
	for text, want := range map[string]bool{
		"10.0.0.1": true, "::ffff:10.0.0.1": true, "127.0.20.1": true, "192.0.2.1": true, "2001:db8::5": true,
		"10.0.0.3": false, "10.0.0.9": false, "10.1.2.3": false, "127.0.0.1": false, "0.0.0.0": false, "224.0.0.1": false,
		"255.255.255.255": false, "169.254.1.1": false, "fe80::1": false, "::1": false, "ff02::1": false, "2001:db9::1": false,
		"fe80::1%eth0": false,
	} {
		if got := rules.admits(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if rules.admits(netip.Addr{}) {
		t.Error("no address is admitted")
	}
}

func TestAssociated(t *testing.T) {
	for text, want := range map[string]int{
		"<sip:alice@ims.test, tel:+15550100>":                      2,
		`"A, B" <sip:alice@ims.test>;x=1, <tel:+15550100>`:         2,
		"<sip:alice@ims.test>,<tel:+15550100>,<sip:a2@ims.test;x>": 3,
		"nonsense, <>": 0,
	} {
		r := gosip.NewRequest("REGISTER", gosip.Uri{Scheme: "sip", Host: "x"})
		r.AppendHeader(gosip.NewHeader("P-Associated-URI", text))
		if got := associated(r); len(got) != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestTrust(t *testing.T) {
	tr, err := parseTrusted([]string{"192.0.2.0/24", "tls://198.51.100.1", "2001:db8::/32"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		network, addr string
		want          bool
	}{
		{"udp", "192.0.2.7", true}, {"udp", "::ffff:192.0.2.7", true}, {"udp", "198.51.100.1", false},
		{"tls", "198.51.100.1", true}, {"tcp", "2001:db8::1", true}, {"udp", "203.0.113.1", false},
	} {
		if got := tr.believes(c.network, netip.MustParseAddr(c.addr)); got != c.want {
			t.Errorf("%s %s: %v", c.network, c.addr, got)
		}
	}
	for _, bad := range []string{"x", "sctp://192.0.2.1", "192.0.2.0/33"} {
		if _, err := parseTrusted([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestValidate: what an operator is told.
func TestValidate(t *testing.T) {
	for name, change := range map[string]func(c *Config){
		"no listener":    func(c *Config) { c.Listen = nil },
		"wildcard":       func(c *Config) { c.Listen = []string{"udp://0.0.0.0:5060"} },
		"scheme":         func(c *Config) { c.Listen = []string{"sctp://127.0.0.1:5060"} },
		"tls without":    func(c *Config) { c.Listen = []string{"tls://127.0.0.1:5061"} },
		"uri":            func(c *Config) { c.URI = "sip:ims.test" },
		"trusted":        func(c *Config) { c.Trusted = []string{"everybody"} },
		"outbound":       func(c *Config) { c.Outbound = "scscf" },
		"refuse":         func(c *Config) { c.Refuse = "maybe" },
		"unknown users":  func(c *Config) { c.UnknownUsers = "500" },
		"users":          func(c *Config) { c.Users = []Credential{{AoR: "sip:a@b", Password: "x"}} },
		"no password":    func(c *Config) { c.Registrar = true; c.Users = []Credential{{AoR: "sip:a@b"}} },
		"bad user":       func(c *Config) { c.Registrar = true; c.Users = []Credential{{AoR: "a", Password: "x"}} },
		"static without": func(c *Config) { c.Static = []StaticTerminal{{AoR: "bob"}} },
	} {
		cfg := baseConfig("127.0.0.1")
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		if err := cfg.Validate(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
