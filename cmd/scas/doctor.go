package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"scas/bpf"
)

// finding is one thing that scas doctor looked at.
type finding struct {
	Name     string `json:"name"`
	Required bool   `json:"required"` // nothing works without it
	OK       bool   `json:"ok"`
	Detail   string `json:"detail"`
	Hint     string `json:"hint"` // what to do when it is not OK
}

func newDoctor(e *env) *cobra.Command {
	var f configFlags
	var out output
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Name each feature and privilege that is missing here, and what to do",
		Long: "Tries what the gateway needs of the kernel and of its user, and what the configuration names.\n" +
			"Changes nothing. Exit code 1 when something is missing without which nothing works.",
		Args: atMost(0),
		RunE: func(*cobra.Command, []string) error {
			more, watches, err := probeConfig(e, &f)
			if err != nil {
				return err
			}
			found := []finding{}
			if watches {
				found = probeKernel()
			}
			return report(e, append(found, more...), watches, out)
		},
	}
	f.flags(cmd)
	out.flag(cmd)
	return cmd
}

func report(e *env, found []finding, watches bool, out output) error {
	what := "application server"
	if watches {
		what = "gateway"
	}
	missing := 0
	for _, x := range found {
		if x.Required && !x.OK {
			missing++
		}
	}
	if out.json() {
		if err := json.NewEncoder(e.stdout).Encode(found); err != nil {
			return err
		}
	} else {
		for _, x := range found {
			fmt.Fprintf(e.stdout, "%-8s %-22s %s\n", verdict(x), clean(x.Name), clean(cmp.Or(x.Detail, "available")))
			if !x.OK && x.Hint != "" {
				fmt.Fprintf(e.stdout, "%-8s %-22s -> %s\n", "", "", clean(x.Hint))
			}
		}
	}
	if missing > 0 {
		return fmt.Errorf("%s missing that the %s needs", are(missing, "thing"), what)
	}
	if !out.json() {
		fmt.Fprintf(e.stdout, "The %s can run here.\n", what)
	}
	return nil
}

func verdict(x finding) string {
	switch {
	case x.OK:
		return "ok"
	case x.Required:
		return "MISSING"
	}
	return "note"
}

// probeKernel tries the kernel. Without the privileges to try, what is missing cannot be told
// from what was not allowed: those findings do not count.
func probeKernel() []finding {
	found := []finding{}
	allowed := true
	for _, p := range bpf.Probe() {
		detail, _, _ := strings.Cut(p.Detail, " (MEMLOCK") // advice of a library to programmers
		x := finding{p.Name, p.Required, p.OK, detail, p.Hint}
		if p.Name == "privileges" {
			allowed = p.OK
		} else if !allowed && !p.OK && strings.Contains(p.Detail, syscall.EPERM.Error()) {
			x.Required, x.Detail, x.Hint = false, "not known: trying it needs the privileges", ""
		}
		found = append(found, x)
	}
	return found
}

// probeConfig looks at what the configuration names, and says whether it is that of a gateway.
// Without a file at the default place it says so and leaves it at that.
func probeConfig(e *env, f *configFlags) (found []finding, watches bool, err error) {
	file := f.sources(e).file
	c, err := loadConfig(e, f.sources(e))
	var ce *configError
	switch {
	case errors.Is(err, fs.ErrNotExist) && file == defaultConfigFile:
		return []finding{{Name: "config", Detail: "there is no " + file,
			Hint: "copy scas.example.yaml there and name your interfaces and users, or name another file with -c"}}, true, nil
	case errors.As(err, &ce):
		return []finding{{Name: "config", Required: true, Detail: strings.ReplaceAll(ce.Error(), "\n", "; "), Hint: "mend the file; scas config check says when it is good"}}, true, nil
	case err != nil:
		return nil, true, err
	}
	found = append([]finding{{Name: "config", Required: true, OK: true, Detail: file}}, probeSecrets(c, file)...)
	for _, name := range c.Gateway.LAN {
		found = append(found, probeInterface("lan", name, families(c))...)
	}
	for _, name := range c.Gateway.WAN {
		found = append(found, probeInterface("wan", name, families(c))...)
	}
	if c.watches() && !slices.ContainsFunc(found, func(x finding) bool { return x.Required && !x.OK }) {
		found = append(found, probeConflicts(c)...)
	}
	found = append(found, probeListen(c)...)
	if c.State.Dir != "" && (c.watches() || !c.shared()) {
		found = append(found, probeDir("state_dir", c.State.Dir))
	}
	found = append(found, probeStore(e, c)...)
	if len(c.Subscribers)+len(c.SIP.Users) == 0 && (c.SIP.on || !c.shared()) {
		found = append(found, finding{Name: "subscribers", Detail: "no terminal is enrolled", Hint: "name users and terminals under subscribers: nobody else is watched"})
	}
	return found, c.watches(), nil
}

// probeConflicts tells who has what is to be the gateway's own.
func probeConflicts(c config) []finding {
	conflicts, err := bpf.Check(c.kernel())
	if err != nil {
		return []finding{{Name: "conflicts", Detail: err.Error(), Hint: "whether mark, table and rule priority are free is not known"}}
	}
	hints := map[string]string{
		"mark":     "set gateway.mark to a bit that no rule looks at",
		"table":    "set gateway.table to a table that nobody uses",
		"priority": "set gateway.rule_priority to one that no rule has",
		"filter":   "remove the filter, or set gateway.attach to tcx on Linux 6.6 and newer",
	}
	found := []finding{}
	for _, x := range conflicts {
		found = append(found, finding{Name: "conflict_" + x.What, Required: true, Detail: "taken: " + x.Found, Hint: hints[x.What]})
	}
	if len(found) == 0 {
		g := c.Gateway
		found = append(found, finding{Name: "conflicts", Required: true, OK: true,
			Detail: fmt.Sprintf("mark %#x, table %d and rule priority %d are free", g.Mark, g.Table, g.RulePriority)})
	}
	return found
}

// families returns the address families of the configured terminals.
func families(c config) map[string]bool {
	used := map[string]bool{}
	for _, s := range c.Subscribers {
		for _, t := range s.Terminals {
			used["ipv4"] = used["ipv4"] || t.IP.Is4()
			used["ipv6"] = used["ipv6"] || t.IP.Is6()
		}
	}
	return used
}

func probeInterface(side, name string, used map[string]bool) []finding {
	x := finding{Name: side + " " + name, Required: true}
	dev, err := net.InterfaceByName(name)
	if err != nil {
		x.Detail = "there is no such interface"
		x.Hint = "gateway." + side + " must name interfaces as `ip link` shows them"
		return []finding{x}
	}
	x.OK = true
	x.Detail = fmt.Sprintf("index %d, mtu %d", dev.Index, dev.MTU)
	found := []finding{x}
	if dev.Flags&net.FlagUp == 0 {
		found = append(found, finding{Name: side + " " + name, Detail: "is down", Hint: "ip link set " + name + " up"})
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		setting := filepath.Join("/proc/sys/net", family, "conf", name, "forwarding")
		if text, err := os.ReadFile(setting); err == nil && strings.TrimSpace(string(text)) == "0" && (used[family] || family == "ipv4") {
			found = append(found, finding{Name: side + " " + name, Required: used[family], Detail: "does not forward " + family,
				Hint: "sysctl -w net." + family + ".conf." + name + ".forwarding=1"})
		}
	}
	if strictReturnPath(name) {
		found = append(found, finding{Name: side + " " + name, Detail: "checks return paths strictly (rp_filter 1)",
			Hint: "if a moved film does not start, and routing is not symmetric: sysctl -w net.ipv4.conf." + name + ".rp_filter=2"})
	}
	return found
}

// strictReturnPath reports whether the kernel drops what arrives on an interface that it would
// not answer through: the larger of two settings holds (ip-sysctl.rst, rp_filter).
func strictReturnPath(name string) bool {
	largest := ""
	for _, dev := range []string{"all", name} {
		if text, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv4/conf", dev, "rp_filter")); err == nil {
			largest = max(largest, strings.TrimSpace(string(text)))
		}
	}
	return largest == "1"
}

// probeListen tries the API's address and the socket's directory. An address in use may be
// that of a running scas.
func probeListen(c config) []finding {
	var found []finding
	if c.API.Listen != "" {
		x := finding{Name: "api_listen", OK: true, Required: true, Detail: c.API.Listen}
		l, err := net.Listen("tcp", c.API.Listen)
		if err != nil {
			running := answers(c.API.Socket)
			x.OK, x.Detail, x.Hint = running, err.Error(), "choose another api.listen, or stop what listens there"
			if running {
				x.Detail = c.API.Listen + " is served by the scas that runs here"
			}
		} else {
			_ = l.Close() // it was only tried
		}
		found = append(found, x)
	}
	if c.API.Socket != "" {
		found = append(found, probeDir("api_socket", filepath.Dir(c.API.Socket)))
	}
	return found
}

func answers(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// probeDir says whether dir is there, or can be made, and can be written.
func probeDir(name, dir string) finding {
	x := finding{Name: name, Required: true, Detail: dir, Hint: "make " + dir + " a directory that the user of scas can write"}
	there := dir
	for {
		fi, err := os.Stat(there)
		if err == nil {
			x.OK = fi.IsDir() && writable(there)
			if there != dir {
				x.Detail += " (will be made)"
			}
			return x
		}
		if parent := filepath.Dir(there); errors.Is(err, fs.ErrNotExist) && parent != there {
			there = parent
			continue
		}
		x.Detail = err.Error()
		return x
	}
}
