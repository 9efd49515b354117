package main

import (
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
)

// testEnv is an outside world with files and no more.
func testEnv(files map[string]string, environ ...string) *env {
	return &env{
		environ: environ, now: time.Now, hostname: func() string { return "host" },
		readFile: func(name string, _ int64) ([]byte, error) {
			text, ok := files[name]
			if !ok {
				return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
			}
			return []byte(text), nil
		},
	}
}

func load(t *testing.T, text string, environ []string, settings ...string) (config, error) {
	t.Helper()
	files := map[string]string{"f.yaml": text, "/etc/token": " secret12\n", "/etc/empty": "\n"}
	return loadConfig(testEnv(files, environ...), configSources{file: "f.yaml", environ: environ, settings: settings})
}

const minimal = "gateway: {lan: [eth1], wan: [eth0]}\n"

func TestExampleFile(t *testing.T) {
	name := filepath.Join("..", "..", "scas.example.yaml")
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	got, err := load(t, string(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	// What the file shows are the defaults, but for the keys that have none.
	want := defaultConfig("gw1")
	want.Gateway.LAN, want.Gateway.WAN = []string{"eth1"}, []string{"eth0"}
	want.Roles = []string{"gateway"}
	want.Subscribers = []subscriber{{AoR: "sip:bob@ims.example", Terminals: []session.Terminal{
		{Name: "phone", IP: netip.MustParseAddr("10.10.1.2")}, {Name: "tv", IP: netip.MustParseAddr("10.10.1.3")}}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	var c config
	for _, path := range allPaths(configKeys(&c), "") {
		last := path[strings.LastIndexByte(path, '.')+1:]
		if !strings.Contains(string(text), last) {
			t.Errorf("key %s is not explained", path)
		}
	}
}

func TestDefaults(t *testing.T) {
	c, err := load(t, minimal, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Node != "host" || c.Gateway.Mark != 0x20000000 || c.Gateway.Table != 8470 || c.Gateway.SampleInterval != 200*time.Millisecond ||
		c.Transfer.Overlap != time.Second || c.API.Listen != "127.0.0.1:8470" || !reflect.DeepEqual(c.Gateway.RTSP, []uint16{554, 8554}) ||
		!slices.Equal(c.Gateway.MMS, []uint16{1755}) || !slices.Equal(c.Gateway.MMSH, []uint16{80}) {
		t.Errorf("%+v", c)
	}
	if err := c.kernel().Validate(); err != nil {
		t.Error(err)
	}
}

func TestConfigValues(t *testing.T) {
	c, err := load(t, `
node: "edge 1"
roles: [gateway]
gateway:
  lan: [br-lan, eth1.20]
  wan: ["ppp0"]
  services: {rtsp: [0x22A, 8554], mms: [], mmsh: [8080, 81]}
  steer: always
  upstream: router
  attach: clsact
  hook: tc
  sample_interval: 0.5s
  mark: 1073741824
  ipv6_prefix: 128
transfer: {overlap: 0s, settle: 1m, offer_timeout: 90s, attach_timeout: 2m, mode: resume}
subscribers:
- {aor: "sip:a@x", terminals: [{name: TV_1, ip: "fd00::1"}, {name: b, ip: ::ffff:10.0.0.1}]}
- aor: sip:b@x
  terminals:
  - name: TV_1
    ip: fd00::2
api: {listen: "[::1]:80", socket: "", token_file: /etc/token}
state: {dir: "", servers: [], keep: 720h}
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	g := c.Gateway
	if c.Node != "edge 1" || g.RTSP[0] != 554 || g.Mark != 0x40000000 || g.IPv6Prefix != 128 || g.SampleInterval != 500*time.Millisecond ||
		c.Transfer.Overlap != 0 || c.Transfer.AttachTimeout != 2*time.Minute || c.API.Token != "secret12" || c.API.Socket != "" ||
		c.Subscribers[0].Terminals[1].IP != netip.MustParseAddr("10.0.0.1") || c.State.Dir != "" {
		t.Errorf("%+v", c)
	}
	services := map[uint16]bpf.Service{554: bpf.ServiceRTSP, 8554: bpf.ServiceRTSP, 81: bpf.ServiceMMSH, 8080: bpf.ServiceMMSH}
	if k := c.kernel(); !k.SteerAlways || k.Attach != bpf.AttachClsact || k.LAN[1] != "eth1.20" || !maps.Equal(k.Services, services) {
		t.Errorf("%+v", k)
	}
}

func TestOverrides(t *testing.T) {
	c, err := load(t, minimal+"node: file\n", []string{
		"PATH=/bin", "SCAS_SOCKET=/x", "SCAS_PRIV=1", "SCAS_CONFIG=f", "SCAS_NODE=environ", "SCAS_GATEWAY_LAN=a,b", "SCAS_TRANSFER_OVERLAP=3s",
		"SCAS_GATEWAY_SERVICES_RTSP=[5554]", "SCAS_SUBSCRIBERS={aor: sip:a@b, terminals: [{name: x, ip: 10.0.0.9}]}", "SCAS_API_TOKEN=12345678",
	}, "node=flag", "gateway.wan=w0")
	if err != nil {
		t.Fatal(err)
	}
	if c.Node != "flag" || !reflect.DeepEqual(c.Gateway.LAN, []string{"a", "b"}) || c.Gateway.WAN[0] != "w0" || c.Transfer.Overlap != 3*time.Second ||
		c.Gateway.RTSP[0] != 5554 || c.Subscribers[0].Terminals[0].Name != "x" || c.API.Token != "12345678" {
		t.Errorf("%+v", c)
	}
}

func TestOverrideErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		environ  []string
		settings []string
		want     string
	}{
		"mistyped variable": {[]string{"SCAS_GATEWAY_LANE=x"}, nil, "environment variable SCAS_GATEWAY_LANE: no such key; did you mean SCAS_GATEWAY_LAN?"},
		"bad value":         {[]string{"SCAS_TRANSFER_OVERLAP=1"}, nil, "environment variable SCAS_TRANSFER_OVERLAP: transfer.overlap: \"1\" is no duration: has no unit: write 1s or 1ms"},
		"reserved":          {[]string{"SCAS_GATEWAY_PLAYERS=x"}, nil, "environment variable SCAS_GATEWAY_PLAYERS: gateway.players: reserved for a part that is not built yet"},
		"servers":           {[]string{"SCAS_STATE_SERVERS=nats://a,b:4222"}, nil, "environment variable SCAS_STATE_SERVERS: state.servers[1]: is no address of a NATS server"},
		"role alone":        {nil, []string{"roles=gateway"}, "--set roles: gateway alone needs state.servers"},
		"sip":               {[]string{"SCAS_SIP_LISTEN=x"}, nil, "environment variable SCAS_SIP_LISTEN: sip.terminals: is required"},
		"no value":          {[]string{"SCAS_NODE="}, nil, "environment variable SCAS_NODE: node: has no value"},
		"empty list":        {[]string{"SCAS_GATEWAY_LAN="}, nil, "environment variable SCAS_GATEWAY_LAN: gateway.lan: is required"},
		"broken list":       {[]string{"SCAS_GATEWAY_LAN=[a"}, nil, "environment variable SCAS_GATEWAY_LAN: gateway.lan: is no YAML value"},
		"setting, unknown":  {nil, []string{"gateway.lane=x"}, "--set gateway.lane=x: gateway.lane: unknown key; did you mean gateway.lan?"},
		"setting, no value": {nil, []string{"gateway.lan"}, "--set gateway.lan: want KEY=VALUE"},
		"whole section":     {nil, []string{"gateway=x"}, "--set gateway=x: gateway: unknown key"},
	} {
		_, err := load(t, minimal, tt.environ, tt.settings...)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", name, err, tt.want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	with := func(more string) string { return minimal + more }
	for name, tt := range map[string]struct{ text, want string }{
		"empty": {"", "gateway.lan: is required"},
		// Keys.
		"unknown key":         {with("\nnod: x"), `f.yaml:3:1: nod: unknown key; did you mean "node"?`},
		"unknown, swapped":    {"gateway:\n  lna: [a]\n  wan: [b]", `f.yaml:2:3: gateway.lna: unknown key; did you mean "lan"?`},
		"unknown, other case": {"gateway:\n  LAN: [a]\n  wan: [b]", `f.yaml:2:3: gateway.LAN: unknown key; did you mean "lan"?`},
		"right key elsewhere": {with("overlap: 1s"), `f.yaml:2:1: overlap: unknown key; did you mean transfer.overlap?`},
		"hyphen":              {with("transfer: {offer-timeout: 1s}"), `f.yaml:2:12: transfer.offer-timeout: unknown key; did you mean "offer_timeout"?`},
		"nothing near":        {with("state: {zzzzzz: 1}"), `f.yaml:2:9: state.zzzzzz: unknown key; the keys here are dir`},
		"in a list":           {with("subscribers:\n  - {aor: sip:a@b, terminals: [{nam: x, ip: 10.0.0.1}]}"), `f.yaml:3:33: subscribers[0].terminals[0].nam: unknown key; did you mean "name"?`},
		"key twice":           {"node: a\nnode: b\n", `f.yaml:2:1: mapping key "node" already defined at [1:1]`},
		"scalar for section":  {with("transfer: 1s"), "f.yaml:2:11: transfer: want keys here: overlap, settle"},
		"list for section":    {"gateway:\n  - lan", "f.yaml:2:3: gateway: want keys here: lan, wan"},
		"no value":            {with("node:"), "f.yaml:2:7: node: has no value"},
		"alias":               {with("node: &a x"), "f.yaml:2:7: node: anchors, aliases"},
		"second document":     {"node: a\n---\nnode: b\n", "f.yaml:3:1: a second document"},
		"no mapping":          {"- a\n", "f.yaml:1:1: want keys here: node, roles"},
		"bracket open":        {"gateway: {lan: [a\n", "f.yaml:1:"},
		"tab":                 {"gateway:\n\tlan: [a]\n", "f.yaml:2:"},
		// Reserved.
		"hook xdp":    {"gateway: {lan: [a], wan: [b], hook: xdp}", "f.yaml:1:37: gateway.hook: xdp is reserved for a part that is not built yet: the XDP fast path"},
		"retarget":    {with("transfer: {mode: retarget}"), "f.yaml:2:18: transfer.mode: retarget is reserved"},
		"players":     {"gateway: {lan: [a], wan: [b], players: [x]}", "f.yaml:1:31: gateway.players: reserved"},
		"no terminal": {with("subscribers: [{aor: sip:a@b}]"), "f.yaml:2:15: subscribers[0]: terminals are missing: without the section sip"},
		// Values.
		"no lan":              {"gateway: {wan: [b]}", "f.yaml:1:1: gateway.lan: is required for the role gateway"},
		"empty lan":           {"gateway: {lan: [], wan: [b]}", "f.yaml:1:11: gateway.lan: is required"},
		"lan no list":         {"gateway: {lan: a, wan: [b]}", "f.yaml:1:16: gateway.lan: want a list: [a, b]"},
		"no roles":            {with("roles: []"), "f.yaml:2:8: roles: must hold gateway, or as, or both"},
		"unknown role":        {with("roles: [gatway]"), `f.yaml:2:9: roles[0]: "gatway" is not one of gateway, as; did you mean gateway?`},
		"interface name":      {"gateway: {lan: [a/b], wan: [b]}", `f.yaml:1:17: gateway.lan[0]: "a/b" is no name of an interface`},
		"interface, long":     {"gateway: {lan: [a234567890123456], wan: [b]}", `is no name of an interface`},
		"interface twice":     {"gateway: {lan: [a, a], wan: [b]}", "f.yaml:1:20: gateway.lan[1]: a is listed twice"},
		"interface both":      {"gateway: {lan: [a], wan: [a]}", "f.yaml:1:21: gateway.wan: interface a is in gateway.lan as well"},
		"steer":               {"gateway: {lan: [a], wan: [b], steer: alway}", `f.yaml:1:38: gateway.steer: "alway" is not one of transfer, always; did you mean always?`},
		"attach":              {"gateway: {lan: [a], wan: [b], attach: tc}", `gateway.attach: "tc" is not one of auto, tcx, clsact`},
		"upstream":            {"gateway: {lan: [a], wan: [b], upstream: 1}", `gateway.upstream: "1" is not one of auto, terminal, router`},
		"duration, no unit":   {with("transfer: {overlap: 5}"), `f.yaml:2:21: transfer.overlap: "5" is no duration: has no unit: write 5s or 5ms`},
		"duration, words":     {with("transfer: {overlap: 1 s}"), `f.yaml:2:21: transfer.overlap: "1 s" is no duration: want a number with a unit`},
		"duration, negative":  {with("transfer: {overlap: -1s}"), `transfer.overlap: -1s is not within 0s and 30s`},
		"duration, long":      {with("transfer: {settle: 2h}"), `transfer.settle: 2h is not within 100ms and 1m`},
		"duration, list":      {with("transfer: {settle: [1s]}"), `f.yaml:2:20: transfer.settle: want a single value`},
		"interval":            {"gateway: {lan: [a], wan: [b], sample_interval: 1ms}", `gateway.sample_interval: 1ms is not within 10ms and 1m`},
		"mark, two bits":      {"gateway: {lan: [a], wan: [b], mark: 0x3}", `f.yaml:1:37: gateway.mark: "0x3" is not one bit of 32`},
		"mark, none":          {"gateway: {lan: [a], wan: [b], mark: 0}", `is not one bit of 32`},
		"mark, 33 bits":       {"gateway: {lan: [a], wan: [b], mark: 0x100000000}", `is not one bit of 32`},
		"mark, word":          {"gateway: {lan: [a], wan: [b], mark: red}", `"red" is not one bit of 32`},
		"port":                {"gateway: {lan: [a], wan: [b], services: {rtsp: [70000]}}", `f.yaml:1:49: gateway.services.rtsp[0]: "70000" is no number within 1 and 65535`},
		"port twice":          {"gateway: {lan: [a], wan: [b], services: {rtsp: [5, 5]}}", `f.yaml:1:52: gateway.services.rtsp[1]: port 5 is listed twice`},
		"no port":             {"gateway: {lan: [a], wan: [b], services: {rtsp: []}}", `f.yaml:1:48: gateway.services.rtsp: names no port`},
		"prefix":              {"gateway: {lan: [a], wan: [b], ipv6_prefix: 129}", `"129" is no number within 1 and 128`},
		"table, main":         {"gateway: {lan: [a], wan: [b], table: 254}", `254 is not a table of our own`},
		"aor":                 {with("subscribers: [{aor: bob, terminals: [{name: x, ip: 10.0.0.1}]}]"), `f.yaml:2:21: subscribers[0].aor: "bob" is no address of record: want sip:USER@DOMAIN`},
		"no aor":              {with("subscribers: [{terminals: [{name: x, ip: 10.0.0.1}]}]"), `f.yaml:2:15: subscribers[0]: aor is missing`},
		"aor twice":           {with("subscribers:\n- {aor: sip:a@b, terminals: [{name: x, ip: 10.0.0.1}]}\n- {aor: sip:a@b, terminals: [{name: x, ip: 10.0.0.2}]}"), `f.yaml:4:4: subscribers[1].aor: sip:a@b is listed twice`},
		"terminal, no ip":     {with("subscribers: [{aor: sip:a@b, terminals: [{name: x}]}]"), `subscribers[0].terminals[0]: ip is missing`},
		"terminal, bad ip":    {with("subscribers: [{aor: sip:a@b, terminals: [{name: x, ip: 10.0.0}]}]"), `f.yaml:2:56: subscribers[0].terminals[0].ip: "10.0.0" is no IP address`},
		"terminal, multicast": {with("subscribers: [{aor: sip:a@b, terminals: [{name: x, ip: 224.0.0.1}]}]"), `224.0.0.1 cannot be the address of a terminal`},
		"terminal, bad name":  {with("subscribers: [{aor: sip:a@b, terminals: [{name: 10.0.0.1, ip: 10.0.0.1}]}]"), `"10.0.0.1" is no name of a terminal`},
		"terminal name twice": {with("subscribers: [{aor: sip:a@b, terminals: [{name: x, ip: 10.0.0.1}, {name: x, ip: 10.0.0.2}]}]"), `f.yaml:2:68: subscribers[0].terminals[1].name: sip:a@b has two terminals called x`},
		"address twice":       {with("subscribers:\n- {aor: sip:a@b, terminals: [{name: x, ip: 10.0.0.1}]}\n- {aor: sip:c@b, terminals: [{name: x, ip: 10.0.0.1}]}"), `f.yaml:4:40: subscribers[1].terminals[0].ip: 10.0.0.1 cannot be told from 10.0.0.1/32 of terminal x of sip:a@b`},
		"prefix twice":        {with("subscribers: [{aor: sip:a@b, terminals: [{name: x, ip: \"fd00::1\"}, {name: y, ip: \"fd00::2\"}]}]"), `fd00::2 cannot be told from fd00::/64`},
		"listen":              {with("api: {listen: localhost}"), `f.yaml:2:15: api.listen: "localhost" is no HOST:PORT`},
		"listen port":         {with("api: {listen: \"127.0.0.1:http\"}"), `api.listen: port "http" is no number`},
		"listen, everywhere":  {with("api:\n  listen: \"0.0.0.0:80\""), `f.yaml:3:3: api.listen: listen address "0.0.0.0:80" is not a loopback address: a token is needed`},
		"api nowhere":         {with("api: {listen: \"\", socket: \"\"}"), `neither a TCP address nor a socket`},
		"token short":         {with("api: {token: x}"), `f.yaml:2:14: api.token: want 8 to 4096 characters`},
		"token twice":         {with("api: {token: 12345678, token_file: /etc/token}"), `api.token_file: and api.token are both set`},
		"token file missing":  {with("api: {token_file: /etc/none}"), `f.yaml:2:7: api.token_file: open /etc/none: file does not exist`},
		"token file empty":    {with("api: {token_file: /etc/empty}"), `api.token_file: /etc/empty is empty`},
		"keep":                {with("state: {keep: 1m}"), `f.yaml:2:15: state.keep: 1m is not within 1h and 87600h`},
		"path":                {with("state: {dir: x}"), `f.yaml:2:14: state.dir: "x" is no absolute path`},
		"node, control":       {with(`node: "a\x01b"`), `f.yaml:2:7: node: holds a character that cannot be shown`},
	} {
		_, err := load(t, tt.text, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v\nwant %s", name, err, tt.want)
		}
	}
}

// All that is wrong is told at once, and in the order of the file.
func TestSeveralErrors(t *testing.T) {
	_, err := load(t, "nod: x\ngateway:\n  lan: [a]\n  mark: 3\n  steer: no\n", nil)
	var ce *configError
	if !errors.As(err, &ce) || len(ce.problems) != 3 {
		t.Fatalf("%v", err)
	}
	for i, line := range []int{1, 4, 5} {
		if ce.problems[i].at.line != line {
			t.Errorf("%v", ce.problems[i])
		}
	}
}

func TestMissingFile(t *testing.T) {
	_, err := loadConfig(testEnv(nil), configSources{file: "/none"})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestEditDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"lan", "lna", 1}, {"lan", "wan", 1}, {"settle", "stele", 2}, {"abc", "abc", 0}, {"", "abc", 3}, {"ca", "abc", 3}} {
		if got := editDistance(tt.a, tt.b); got != tt.want {
			t.Errorf("%q %q: %d", tt.a, tt.b, got)
		}
		if got := editDistance(tt.b, tt.a); got != tt.want {
			t.Errorf("%q %q: %d", tt.b, tt.a, got)
		}
	}
}

// No text makes the reader panic, and what it accepts it accepts again.
func FuzzConfig(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("..", "..", "scas.example.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add(minimal + "subscribers: [{aor: sip:a@b, terminals: [{name: x, ip: 10.0.0.1}]}]")
	f.Add("? a\n: [b, {c: *d}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		e := testEnv(map[string]string{"f": text})
		c, err := loadConfig(e, configSources{file: "f"})
		if err != nil {
			return
		}
		again, err := loadConfig(e, configSources{file: "f"})
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("%v\n%+v\n%+v", err, c, again)
		}
	})
}
