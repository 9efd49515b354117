package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"scas/admin"
	"scas/bpf"
	"scas/session"
	"scas/sip"
)

// defaultConfigFile is read when -c and SCAS_CONFIG are absent.
const defaultConfigFile = "/etc/scas/scas.yaml"

// minToken is the least length of a token.
const minToken = 8

// maxConfig bounds a configuration file and a token file.
const maxConfig = 1 << 20

// config is what the configuration file, overridden by SCAS_* and --set, says. The keys are
// those of configkeys.go; scas.example.yaml explains each.
type config struct {
	Node        string
	Roles       []string // as the file says; empty: what the sections there are for
	Gateway     gatewayConfig
	Transfer    transferConfig
	SIP         sipConfig
	Subscribers []subscriber
	API         apiConfig
	State       stateConfig
}

type gatewayConfig struct {
	LAN, WAN       []string
	RTSP           []uint16
	MMS, MMSH      []uint16 // may be empty
	Steer          string   // transfer or always
	Upstream       string   // auto, terminal or router
	Attach         string   // auto, tcx or clsact
	SampleInterval time.Duration
	Mark           uint32
	IPv6Prefix     int
	Table          int
	RulePriority   int
}

type transferConfig struct {
	Overlap, Settle, OfferTimeout, AttachTimeout time.Duration
}

// subscriber is a user of the service with the terminals known without SIP; with SIP it may be
// everybody of a domain, "sip:*@DOMAIN".
type subscriber struct {
	AoR       string
	Terminals []session.Terminal
}

type apiConfig struct {
	Listen, Socket   string
	Token, TokenFile string
}

type stateConfig struct {
	Dir             string        // "": nothing is kept over a restart
	Servers         []string      // URLs of an external store; none: it is embedded, in Dir
	Credentials, CA string        // files, for Servers; "": what the URLs and the system say
	Keep            time.Duration // of the history
}

// defaultConfig returns what a file that says nothing means.
func defaultConfig(hostname string) config {
	kernel, api := bpf.DefaultConfig(), admin.DefaultConfig()
	return config{
		Node: hostname,
		Gateway: gatewayConfig{
			RTSP: []uint16{554, 8554}, MMS: []uint16{1755}, MMSH: []uint16{80}, Steer: "transfer", Upstream: "auto", Attach: "auto",
			SampleInterval: kernel.SampleInterval, Mark: kernel.Mark, IPv6Prefix: kernel.IPv6Prefix,
			Table: kernel.Table, RulePriority: kernel.RulePriority,
		},
		Transfer: transferConfig{
			Overlap: time.Second, Settle: 2 * time.Second, OfferTimeout: 60 * time.Second, AttachTimeout: 30 * time.Second,
		},
		API:   apiConfig{Listen: api.Listen, Socket: api.Socket},
		SIP:   sipConfig{Config: sip.DefaultConfig()},
		State: stateConfig{Dir: "/var/lib/scas", Servers: []string{}, Keep: keepHistory},
	}
}

// kernel returns the part of c that the kernel half wants.
func (c config) kernel() bpf.Config {
	k := bpf.DefaultConfig()
	k.LAN, k.WAN = c.Gateway.LAN, c.Gateway.WAN
	k.Services = c.services()
	k.IPv6Prefix, k.Mark, k.Table, k.RulePriority = c.Gateway.IPv6Prefix, c.Gateway.Mark, c.Gateway.Table, c.Gateway.RulePriority
	k.SampleInterval, k.SteerAlways = c.Gateway.SampleInterval, c.Gateway.Steer == "always"
	k.Attach = map[string]bpf.Attach{"tcx": bpf.AttachTCX, "clsact": bpf.AttachClsact}[c.Gateway.Attach] // else auto
	return k
}

func (c config) services() map[uint16]bpf.Service {
	s := map[uint16]bpf.Service{}
	for _, of := range c.Gateway.ports() {
		for _, port := range of.ports {
			s[port] = of.service
		}
	}
	return s
}

// servicePorts are the ports of servers that speak one protocol, named by key.
type servicePorts struct {
	key     string
	service bpf.Service
	ports   []uint16
}

func (g gatewayConfig) ports() []servicePorts {
	return []servicePorts{
		{"rtsp", bpf.ServiceRTSP, g.RTSP}, {"mms", bpf.ServiceMMS, g.MMS}, {"mmsh", bpf.ServiceMMSH, g.MMSH},
	}
}

// configSources is where a configuration comes from, the weakest first.
type configSources struct {
	file     string   // "": no file
	environ  []string // NAME=value of SCAS_* variables
	settings []string // key=value of --set
}

// loadConfig reads the configuration. Its error is a *configError with everything that is
// wrong, or says why the file could not be read.
func loadConfig(e *env, src configSources) (config, error) {
	c := defaultConfig(e.hostname())
	r := &reader{keys: configKeys(&c), places: map[string]place{}}
	if src.file != "" {
		text, err := e.readFile(src.file, maxConfig)
		if errors.Is(err, fs.ErrNotExist) && src.file == defaultConfigFile {
			return c, fmt.Errorf("there is no configuration (%w): copy scas.example.yaml there and name your interfaces and users, or name another file with -c", err)
		}
		if err != nil {
			return c, fmt.Errorf("read configuration: %w", err)
		}
		r.readFile(src.file, text)
	}
	r.readEnviron(src.environ)
	r.readSettings(src.settings)
	if len(r.problems) == 0 {
		c.check(e, r)
	}
	if len(r.problems) > 0 {
		return c, &configError{problems: r.problems}
	}
	return c, nil
}

// check finds what is wrong with values that are each right.
func (c *config) check(e *env, r *reader) {
	c.checkRoles(r)
	if c.watches() {
		c.checkGateway(r)
	}
	if c.Node == "" {
		r.wrong("node", "is required: this machine has no host name")
	}
	c.checkSIP(r)
	c.checkSubscribers(r)
	c.checkAPI(e, r)
	if len(r.problems) == 0 && c.watches() {
		if err := c.kernel().Validate(); err != nil {
			r.wrong("gateway", err.Error())
		}
	}
}

func (c *config) checkGateway(r *reader) {
	if len(c.Gateway.LAN) == 0 {
		r.wrong("gateway.lan", "is required for the role gateway: the interfaces towards the terminals")
	}
	if len(c.Gateway.WAN) == 0 {
		r.wrong("gateway.wan", "is required for the role gateway: the interfaces towards the media servers")
	}
	for _, name := range c.Gateway.WAN {
		if slices.Contains(c.Gateway.LAN, name) {
			r.wrong("gateway.wan", fmt.Sprintf("interface %s is in gateway.lan as well", name))
		}
	}
	c.checkServices(r)
}

// checkServices finds ports that are listed for two protocols.
func (c *config) checkServices(r *reader) {
	taken := map[uint16]string{}
	for _, of := range c.Gateway.ports() {
		for _, port := range of.ports {
			if other, is := taken[port]; is {
				r.wrong("gateway.services."+of.key, fmt.Sprintf("port %d is listed for %s as well", port, other))
			}
			taken[port] = of.key
		}
	}
}

func (c *config) checkSubscribers(r *reader) {
	users := map[string]bool{}
	addrs := map[netip.Prefix]string{}
	for i, s := range c.Subscribers {
		at := fmt.Sprintf("subscribers[%d]", i)
		if users[s.AoR] {
			r.wrong(at+".aor", s.AoR+" is listed twice")
		}
		users[s.AoR] = true
		switch {
		case !c.SIP.on && len(s.Terminals) == 0 && len(c.State.Servers) > 0:
			r.wrong(at, "terminals are missing: users without any are for the application server's own file")
		case !c.SIP.on && len(s.Terminals) == 0:
			r.wrong(at, "terminals are missing: without the section sip nothing else tells of them")
		case everybody(s.AoR) && (!c.SIP.on || len(s.Terminals) > 0):
			r.wrong(at+".aor", s.AoR+" is everybody of a domain: such a subscriber has no terminals here, and needs the section sip")
		}
		names := map[string]bool{}
		for j, t := range s.Terminals {
			at := fmt.Sprintf("%s.terminals[%d]", at, j)
			if names[t.Name] {
				r.wrong(at+".name", fmt.Sprintf("%s has two terminals called %s", s.AoR, t.Name))
			}
			names[t.Name] = true
			key := maskAddr(t.IP, c.Gateway.IPv6Prefix)
			if other, taken := addrs[key]; taken {
				r.wrong(at+".ip", fmt.Sprintf("%s cannot be told from %s of %s", t.IP, key, other))
			}
			addrs[key] = fmt.Sprintf("terminal %s of %s", t.Name, s.AoR)
		}
	}
}

func (c *config) checkAPI(e *env, r *reader) {
	if c.API.Token != "" && c.API.TokenFile != "" {
		r.wrong("api.token_file", "and api.token are both set: keep one")
		return
	}
	if c.API.TokenFile != "" {
		text, err := e.readFile(c.API.TokenFile, maxConfig)
		if err != nil {
			r.wrong("api.token_file", err.Error())
			return
		}
		if c.API.Token = trimToken(text); c.API.Token == "" {
			r.wrong("api.token_file", c.API.TokenFile+" is empty")
			return
		}
		if len(c.API.Token) < minToken {
			r.wrong("api.token_file", fmt.Sprintf("%s holds a token of less than %d characters", c.API.TokenFile, minToken))
			return
		}
	}
	if err := c.admin().Validate(); err != nil {
		r.wrong("api.listen", err.Error())
	}
}

// admin returns the part of c that the API wants.
func (c config) admin() admin.Config {
	a := admin.DefaultConfig()
	a.Listen, a.Socket, a.Token = c.API.Listen, c.API.Socket, c.API.Token
	return a
}

// maskAddr returns the key under which the kernel knows a terminal.
func maskAddr(a netip.Addr, v6 int) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = v6
	}
	p, err := a.Prefix(bits)
	if err != nil { // only bits out of range, which is refused before
		return netip.PrefixFrom(a, a.BitLen())
	}
	return p
}

// configFile returns the file that flag, SCAS_CONFIG or the default name.
func configFile(e *env, flag string) string {
	switch {
	case flag != "":
		return flag
	case e.getenv("SCAS_CONFIG") != "":
		return e.getenv("SCAS_CONFIG")
	}
	return filepath.Clean(defaultConfigFile)
}
