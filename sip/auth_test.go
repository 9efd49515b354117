package sip

import (
	"slices"
	"strings"
	"testing"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// A challenge names what can prove the user, as far as the client can take it.
func TestChallengeAlgorithms(t *testing.T) {
	d, err := newDigestServer("hotel.test", []Credential{
		{AoR: "sip:both@hotel.test", Password: "x", Identities: []string{"sip:room7@hotel.test"}},
		{AoR: "sip:old@hotel.test", MD5: strings.Repeat("a", 32)},
		{AoR: "sip:new@hotel.test", SHA256: strings.Repeat("b", 64)},
	}, time.Now, newCounters())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ user, agent, want string }{
		{"both", "", "SHA-256 MD5"},
		{"room7", "Linphonec/5.1.65", "SHA-256 MD5"},
		{"nobody", "", "SHA-256 MD5"},
		{"old", "", "MD5"},
		{"new", "baresip v1.0.0 (x86_64/linux)", "SHA-256"},
		{"both", "baresip v1.0.0 (x86_64/linux)", "MD5"},
		{"nobody", "baresip v3.11.0 (x86_64/Linux)", "MD5"},
		{"both", "baresip v3.12.1 (x86_64/Linux)", "SHA-256 MD5"},
		{"both", "baresip v4.0.0", "SHA-256 MD5"},
		{"both", "baresip vulgar", "SHA-256 MD5"},
	} {
		req := gosip.NewRequest("REGISTER", gosip.Uri{Scheme: "sip", Host: "hotel.test"})
		req.AppendHeader(gosip.NewHeader("From", "<sip:"+c.user+"@hotel.test>;tag=1"))
		req.AppendHeader(gosip.NewHeader("User-Agent", c.agent))
		var got []string
		for _, h := range d.challenge(&request{Request: req}, false).headers {
			_, rest, _ := strings.Cut(h.Value(), "algorithm=")
			alg, _, _ := strings.Cut(rest, ",")
			got = append(got, alg)
		}
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s with %q: %v, want %s", c.user, c.agent, got, c.want)
		}
	}
}
