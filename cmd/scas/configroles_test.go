package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	asAlone      = `sip: {listen: ["udp://192.0.2.7:5060"], uri: "sip:scas@ims.example", terminals: [10.10.0.0/16]}` + "\nroles: [as]\n"
	sharedStore  = "state: {servers: [\"nats://192.0.2.7:4222\", \"tls://u:p@nats.example\"]}\n"
	gatewayAlone = minimal + "roles: [gateway]\n"
)

// Each role alone, and both with an external store.
func TestRoles(t *testing.T) {
	for name, tt := range map[string]struct {
		text        string
		watches, as bool
		says        string
	}{
		"as":               {asAlone + sharedStore, false, true, "application server at udp://192.0.2.7:5060, no user"},
		"gateway":          {gatewayAlone + sharedStore, true, false, "users and terminals from the store"},
		"gateway, unsaid":  {minimal + sharedStore, true, false, "LAN"},
		"gateway, its own": {gatewayAlone + "subscribers: [{aor: sip:a@b, terminals: [{name: x, ip: 10.0.0.1}]}]\n", true, false, "1 user with 1 terminal"},
		"everybody":        {minimalSIP + "subscribers: [{aor: \"sip:*@b\"}, {aor: sip:a@c}]\n", true, true, "everybody of b, 1 user with 0 terminals"},
		"both":             {minimalSIP + "roles: [as, gateway]\n" + sharedStore, true, true, "LAN"},
		"both, unsaid":     {minimalSIP + sharedStore, true, true, "LAN"},
	} {
		c, err := load(t, tt.text, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.watches() != tt.watches || c.SIP.on != tt.as || !strings.Contains(c.summary(), tt.says) {
			t.Errorf("%s: %v %v %s", name, c.watches(), c.SIP.on, c.summary())
		}
		if c.shared() && !slices.Equal(c.State.Servers, []string{"nats://192.0.2.7:4222", "tls://u:p@nats.example"}) {
			t.Errorf("%s: %v", name, c.State.Servers)
		}
	}
}

func TestRolesErrors(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"as, no store":            {asAlone, "f.yaml:2:1: roles: as alone needs state.servers"},
		"as, empty store":         {asAlone + "state: {servers: []}", "f.yaml:2:1: roles: as alone needs state.servers"},
		"as, with gateway":        {asAlone + sharedStore + minimal, "f.yaml:2:1: roles: must hold gateway, for there is a section gateway"},
		"as, without sip":         {"roles: [as]\n" + sharedStore, "f.yaml:1:1: roles: as needs the section sip"},
		"gateway, with sip":       {minimalSIP + "roles: [gateway]\n" + sharedStore, "roles: must hold as, for there is a section sip"},
		"gateway, nobody tells":   {gatewayAlone, "f.yaml:2:1: roles: gateway alone needs state.servers, where an application server tells of terminals"},
		"gateway, no interface":   {"roles: [gateway]\n" + sharedStore, "gateway.lan: is required"},
		"gateway, no terminals":   {gatewayAlone + sharedStore + "subscribers: [{aor: sip:a@b}]", "f.yaml:4:15: subscribers[0]: terminals are missing: users without any are for the application server's own file"},
		"server, no scheme":       {asAlone + "state: {servers: [\"192.0.2.7:4222\"]}", "f.yaml:3:19: state.servers[0]: is no address of a NATS server, as nats://192.0.2.7:4222"},
		"server, other":           {asAlone + "state: {servers: [\"http://x\"]}", "state.servers[0]: is no address of a NATS server"},
		"server, no host":         {asAlone + "state: {servers: [\"nats://:4222\"]}", "state.servers[0]: is no address of a NATS server"},
		"server twice":            {asAlone + "state: {servers: [\"nats://x\", \"nats://x\"]}", "state.servers[1]: is listed twice"},
		"credentials, no servers": {gatewayAlone + "state: {credentials: /x}", "f.yaml:3:9: state.credentials: is for state.servers"},
		"ca, no servers":          {gatewayAlone + "state: {ca: /x}", "f.yaml:3:9: state.ca: is for state.servers"},
	} {
		_, err := load(t, tt.text, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v\nwant %s", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "u:p@") {
			t.Errorf("%s: tells a password: %v", name, err)
		}
	}
}

// The files of deploy/two-processes are right.
func TestDeployedRoles(t *testing.T) {
	for name, watches := range map[string]bool{"gateway.yaml": true, "as.yaml": false} {
		text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "two-processes", name))
		if err != nil {
			t.Fatal(err)
		}
		if c, err := load(t, string(text), nil); err != nil || c.watches() != watches || c.SIP.on == watches || !c.shared() {
			t.Errorf("%s: %v %+v", name, err, c.Roles)
		}
	}
}
