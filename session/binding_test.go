package session

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

func TestBindingLive(t *testing.T) {
	now := time.Unix(1000, 0)
	ip := netip.MustParseAddr("10.10.1.2")
	for _, c := range []struct {
		name        string
		b           Binding
		live, opens bool
	}{
		{"for ever", Binding{IP: ip}, true, true},
		{"runs", Binding{IP: ip, Expires: Ptr(now.Add(time.Second))}, true, true},
		{"runs out now", Binding{IP: ip, Expires: Ptr(now)}, false, false},
		{"address unknown", Binding{Expires: Ptr(now.Add(time.Second))}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.b.Live(now); got != c.live {
				t.Errorf("Live = %v", got)
			}
			if got := c.b.Opens(now); got != c.opens {
				t.Errorf("Opens = %v", got)
			}
		})
	}
}

func TestBindingJSON(t *testing.T) {
	for name, b := range map[string]Binding{
		"empty": {},
		"full": {
			Key: "sip:bob@ims.example urn:uuid:1 1", AoR: "sip:bob@ims.example", Identities: []string{"tel:+491"},
			Instance: Ptr("urn:uuid:1"), Name: "tv", IP: netip.MustParseAddr("2001:db8::2"), Contact: "sip:bob@[2001:db8::2]:5060",
			Path: []string{"<sip:term@pcscf;lr>"}, GRUU: Ptr("sip:bob@ims.example;gr=1"), UserAgent: Ptr("x"), Source: FromRegister,
			Expires: Ptr(time.Unix(2000, 5).UTC()), CallID: "c", CSeq: 1<<32 - 1, Capabilities: []string{"+g.x"},
			Active: Ptr(false), Since: time.Unix(1, 0).UTC(), Confirmed: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := json.Marshal(b)
			if err != nil {
				t.Fatal(err)
			}
			var got Binding
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, b) {
				t.Errorf("%s\ngave %+v\nwant %+v", text, got, b)
			}
		})
	}
}

func TestCloneSharesNothing(t *testing.T) {
	b := Binding{Identities: []string{"a"}, Path: []string{"a"}, Capabilities: []string{"a"}}
	c := b.Clone()
	c.Identities[0], c.Path[0], c.Capabilities[0] = "b", "b", "b"
	if b.Identities[0] != "a" || b.Path[0] != "a" || b.Capabilities[0] != "a" {
		t.Errorf("binding changed: %+v", b)
	}
	u := User{Names: map[string]string{"i": "tv"}, Forms: map[string]string{"i": "text"}}
	v := u.Clone()
	v.Names["i"], v.Forms["i"] = "pc", "machine"
	if u.Names["i"] != "tv" || u.Forms["i"] != "text" {
		t.Errorf("user changed: %+v", u)
	}
}
