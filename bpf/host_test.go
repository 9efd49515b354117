package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// state lists everything of the namespace's network configuration that a gateway could change.
func (s *space) state() (lines []string) {
	s.tb.Helper()
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	links, err := s.nl.LinkList()
	must(s.tb, err)
	for _, l := range links {
		name := l.Attrs().Name
		add("link %s %v", name, l.Attrs().Flags)
		qdiscs, err := s.nl.QdiscList(l)
		must(s.tb, err)
		for _, q := range qdiscs {
			add("qdisc %s %s", name, q.Type())
		}
		for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			filters, err := s.nl.FilterList(l, parent)
			must(s.tb, err)
			for _, f := range filters {
				add("filter %s %x %v", name, parent, f)
			}
		}
		for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			must(s.tb, s.do(func() error {
				r, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: at})
				if err == nil {
					add("tcx %s %v %d", name, at, len(r.Programs))
				}
				return nil // below 6.6 there is none to ask for
			}))
		}
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rules, err := s.nl.RuleList(family)
		must(s.tb, err)
		for _, r := range rules {
			add("rule %d %+v %s", family, r.String(), ruleText(r))
		}
		routes, err := s.nl.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		must(s.tb, err)
		for _, r := range routes {
			if r.Protocol == unix.RTPROT_KERNEL {
				continue // the kernel adds them to a new device in its own time
			}
			add("route %d table %d %v", family, r.Table, r)
		}
	}
	slices.Sort(lines)
	return lines
}

// ruleLines returns the rules of a state.
func ruleLines(state []string) []string {
	return slices.DeleteFunc(slices.Clone(state), func(l string) bool { return !strings.HasPrefix(l, "rule ") })
}

func sameState(t *testing.T, before, after []string) {
	t.Helper()
	for _, l := range after {
		if !slices.Contains(before, l) {
			t.Errorf("left behind: %s", l)
		}
	}
	for _, l := range before {
		if !slices.Contains(after, l) {
			t.Errorf("gone: %s", l)
		}
	}
}

// TestCloseLeavesNothing compares the configuration before Open and after Close.
func TestCloseLeavesNothing(t *testing.T) {
	for _, clsact := range []bool{false, true} {
		t.Run(fmt.Sprintf("clsact=%v", clsact), func(t *testing.T) {
			l := newLab(t)
			before := l.gw.state()
			cfg := l.config()
			cfg.Attach = attachBy(clsact)
			g := l.open(cfg)
			if got := l.gw.state(); len(got) <= len(before) && slices.Equal(got, before) {
				t.Error("nothing was installed")
			} else if rules := ruleLines(got); len(rules) != len(ruleLines(before)) {
				t.Errorf("rules before anything is steered: %q", rules)
			}
			must(t, g.Subscribe(netip.MustParseAddr(ueIP[0])))
			must(t, g.Arm(netip.MustParseAddr(ueIP[0])))
			if rules := ruleLines(l.gw.state()); len(rules) == len(ruleLines(before)) {
				t.Error("no rules for an armed terminal")
			}
			must(t, g.Close())
			must(t, g.Close())
			sameState(t, before, l.gw.state())
			if err := g.Subscribe(netip.MustParseAddr("10.0.0.1")); !errors.Is(err, ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

// TestForeignClsact: a qdisc of somebody else stays.
func TestForeignClsact(t *testing.T) {
	l := newLab(t)
	must(t, l.gw.nl.QdiscAdd(clsactOn(l.gw.link("lan0").Attrs().Index)))
	before := l.gw.state()
	cfg := l.config()
	cfg.Attach = AttachClsact
	must(t, l.open(cfg).Close())
	sameState(t, before, l.gw.state())
}

// TestCrash kills a gateway process and opens one again: it works, and leaves nothing.
func TestCrash(t *testing.T) {
	for _, clsact := range []bool{false, true} {
		for _, change := range []string{"same", "other devices", "other table"} {
			t.Run(fmt.Sprintf("clsact=%v, %s", clsact, change), func(t *testing.T) {
				l := newLab(t)
				before := l.gw.state()
				cfg := l.config()
				cfg.Attach = attachBy(clsact)
				crash(t, l, cfg)
				if slices.Equal(l.gw.state(), before) {
					t.Fatal("the crash left nothing: nothing is tested")
				}
				switch change {
				case "other devices":
					cfg.LAN, cfg.WAN = cfg.WAN, []string{"lo"}
				case "other table":
					cfg.Table += 1000
				}
				g := l.open(cfg)
				must(t, g.Subscribe(netip.MustParseAddr(ueIP[0])))
				if change != "other devices" {
					ue, ms, _ := l.connect(0, 8554)
					echo(t, ue, ms)
					next(t, g, "payload", func(e *Event) bool { return len(e.Payload) > 0 })
				}
				must(t, g.Close())
				sameState(t, before, l.gw.state())
			})
		}
	}
}

// crash opens a gateway in a process of its own and kills it.
func crash(t *testing.T, l *lab, cfg Config) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "SCAS_CRASH_TABLE="+strconv.Itoa(cfg.Table), "SCAS_CRASH_ATTACH="+strconv.Itoa(int(cfg.Attach)))
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, l.gw.do(cmd.Start)) // a child begins in its parent thread's namespace
	lines := bufio.NewScanner(out)
	ready := false
	for !ready && lines.Scan() {
		ready = strings.Contains(lines.Text(), "gateway is open")
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // killed: no success to expect
	if !ready {
		t.Fatal("helper did not open a gateway")
	}
}

// TestMain makes the test program the process TestCrash kills when it is asked to be.
func TestMain(m *testing.M) {
	if table := os.Getenv("SCAS_CRASH_TABLE"); table != "" {
		_, _ = os.Stdout.WriteString(openForCrash(table, os.Getenv("SCAS_CRASH_ATTACH")) + "\n")
		time.Sleep(time.Minute) // killed long before
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// openForCrash opens a gateway and arms a terminal: rules and the WAN hook come with the first to be
// steered.
func openForCrash(table, attach string) string {
	cfg := DefaultConfig()
	cfg.LAN, cfg.WAN = []string{"lan0"}, []string{"wan0"}
	var errs [5]error
	var way int
	cfg.Table, errs[0] = strconv.Atoi(table)
	way, errs[1] = strconv.Atoi(attach)
	cfg.Attach = Attach(way)
	g, err := Open(cfg)
	if errs[2] = err; err == nil {
		errs[3], errs[4] = g.Subscribe(netip.MustParseAddr(ueIP[0])), g.Arm(netip.MustParseAddr(ueIP[0]))
	}
	if err := errors.Join(errs[:]...); err != nil {
		return err.Error()
	}
	return "gateway is open"
}

// attachBy is the way of attaching a test is to use.
func attachBy(clsact bool) Attach {
	if clsact {
		return AttachClsact
	}
	return AttachAuto
}

// TestConflicts: what belongs to somebody else is not taken, and nothing is left of the attempt.
func TestConflicts(t *testing.T) {
	mask := ^uint32(0)
	for _, c := range []struct {
		name string
		what string // of the ConflictError; empty: no conflict
		set  func(t *testing.T, l *lab, cfg Config)
	}{
		{"priority", "priority", func(t *testing.T, l *lab, cfg Config) { l.addRule(cfg.RulePriority, 100, 0, nil, false) }},
		{"table by rule", "table", func(t *testing.T, l *lab, cfg Config) { l.addRule(100, cfg.Table, 0, nil, false) }},
		{"table by route", "table", func(t *testing.T, l *lab, cfg Config) {
			_, dst, err := net.ParseCIDR("203.0.113.0/24")
			must(t, err)
			must(t, l.gw.nl.RouteAdd(&netlink.Route{Dst: dst, Table: cfg.Table, LinkIndex: l.gw.link("wan0").Attrs().Index}))
		}},
		{"mark", "mark", func(t *testing.T, l *lab, cfg Config) { l.addRule(100, 100, cfg.Mark|1, &mask, false) }},
		{"WireGuard's rule", "", func(t *testing.T, l *lab, _ Config) { l.addRule(32764, 51820, 0xca6c, &mask, true) }},
		{"instance", "instance", func(t *testing.T, l *lab, cfg Config) { l.open(cfg) }},
		{"filter", "filter", func(t *testing.T, l *lab, cfg Config) {
			other := cfg
			other.Table++
			other.RulePriority++
			other.Mark <<= 1
			other.Attach = AttachClsact
			l.open(other)
		}},
		{"beside another one", "", func(t *testing.T, l *lab, cfg Config) {
			other := cfg
			other.Table++
			other.RulePriority++
			other.Mark <<= 1
			l.open(other)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			cfg := l.config()
			cfg.Attach = attachBy(c.what == "filter")
			if c.name == "beside another one" && !hasTCX() {
				c.what = "filter" // clsact filters of two gateways on one device clash
			}
			c.set(t, l, cfg)
			before := l.gw.state()
			var told []*ConflictError
			must(t, l.gw.do(func() (err error) {
				told, err = Check(cfg)
				return err
			}))
			if want := c.what != "" && c.what != "instance"; len(told) > 0 != want || want && told[0].What != c.what {
				t.Errorf("Check tells %v", told)
			}
			err := l.gw.do(func() error {
				g, err := Open(cfg)
				if err == nil {
					must(t, g.Close())
				}
				return err
			})
			var conflict *ConflictError
			if c.what == "" && err != nil {
				t.Errorf("error %v", err)
			}
			if c.what != "" && (!errors.As(err, &conflict) || conflict.What != c.what) {
				t.Errorf("error %v, want a conflict of %s", err, c.what)
			}
			sameState(t, before, l.gw.state())
		})
	}
}

func (l *lab) addRule(priority, table int, mark uint32, mask *uint32, invert bool) {
	l.tb.Helper()
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table, r.Mark, r.Mask, r.Invert = unix.AF_INET, priority, table, mark, mask, invert
	must(l.tb, l.gw.nl.RuleAdd(r))
}

// TestDeviceReturns: a device that was deleted and made again is watched and steered again.
func TestDeviceReturns(t *testing.T) {
	for _, clsact := range []bool{false, true} {
		t.Run(fmt.Sprintf("clsact=%v", clsact), func(t *testing.T) {
			l := newLab(t)
			cfg := l.config()
			cfg.Attach = attachBy(clsact)
			g := l.open(cfg)
			must(t, g.Subscribe(netip.MustParseAddr(ueIP[0])))
			must(t, l.gw.nl.LinkDel(l.gw.link("lan0")))
			veth(t, l.gw, "lan0", l.ue, "eth0")
			l.gw.addr("lan0", "10.78.1.1/24")
			l.ue.addr("eth0", ueIP[0]+"/24")
			l.ue.gateway("10.78.1.1")
			ping := l.ue.udp(ueIP[0] + ":9")
			eventually(t, g, "packets are seen again", func() bool {
				_, err := ping.WriteToUDPAddrPort([]byte("x"), netip.MustParseAddrPort(msIP[0]+":9"))
				return err == nil && g.Stats()["lan_in_other_udp"] > 0
			})
			ln := l.listener(g, 0)
			must(t, g.Arm(netip.MustParseAddr(ueIP[0])))
			ue, err := l.ue.dial("", msIP[0]+":8554")
			must(t, err)
			echo(t, ue, accept(t, ln))
			must(t, g.Close())
			for _, line := range l.gw.state() {
				if strings.HasPrefix(line, "tcx") && !strings.HasSuffix(line, " 0") || strings.Contains(line, "filter") || strings.Contains(line, "clsact") {
					t.Errorf("left behind: %s", line)
				}
			}
		})
	}
}

// TestOpenErrors: a device that is not there is named, and nothing is left.
func TestOpenErrors(t *testing.T) {
	l := newLab(t)
	before := l.gw.state()
	cfg := l.config()
	cfg.WAN = []string{"wan7"}
	err := l.gw.do(func() error { _, err := Open(cfg); return err })
	if err == nil || !strings.Contains(err.Error(), "wan7") {
		t.Errorf("error %v", err)
	}
	sameState(t, before, l.gw.state())
	if _, err := Open(Config{}); err == nil {
		t.Error("the zero configuration was accepted")
	}
}
