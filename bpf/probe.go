package bpf

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// noDevice is an interface index nobody has: asking to attach there shows whether the kernel
// knows the way of attaching, and changes nothing.
const noDevice = 1<<30 - 1

// probe is one thing to try; err nil: it works.
type probe struct {
	name     string
	required bool
	hint     string
	try      func() (detail string, err error)
}

// Probe tries what the datapath needs or can use in the network namespace of the caller, and
// changes nothing. It needs root; without it most features show as missing.
func Probe() []Feature {
	var found []Feature
	for _, p := range append(kernelProbes(), hostProbes()...) {
		detail, err := p.try()
		f := Feature{Name: p.name, Required: p.required, OK: err == nil, Detail: detail}
		if err != nil {
			f.Hint = p.hint
			if f.Detail == "" {
				f.Detail = err.Error()
			}
		}
		found = append(found, f)
	}
	return found
}

func kernelProbes() []probe {
	const old = "needs Linux 6.1 or later"
	helper := func(fn asm.BuiltinFunc) func() (string, error) {
		return func() (string, error) { return "", features.HaveProgramHelper(ebpf.SchedCLS, fn) }
	}
	return []probe{
		{"privileges", true, "run as root, or with CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW and CAP_PERFMON", probePrivileges},
		{"btf", false, "the kernel was built without CONFIG_DEBUG_INFO_BTF", func() (string, error) {
			_, err := btf.LoadKernelSpec()
			return "", err
		}},
		{"tc_programs", true, old, func() (string, error) { return "", features.HaveProgramType(ebpf.SchedCLS) }},
		{"ring_buffer", true, old, func() (string, error) { return "", features.HaveMapType(ebpf.RingBuf) }},
		{"sockmap", true, "the kernel was built without CONFIG_BPF_STREAM_PARSER", func() (string, error) { return "", features.HaveMapType(ebpf.SockMap) }},
		{"bpf_loop", true, old, helper(asm.FnLoop)},
		{"sk_assign", true, old, helper(asm.FnSkAssign)},
		{"skc_lookup_tcp", true, old, helper(asm.FnSkcLookupTcp)},
		{"tcx", false, "clsact is used instead; Linux 6.6 has TCX", probeTCX},
		{"clsact", false, "the kernel was built without CONFIG_NET_SCH_INGRESS or CONFIG_NET_CLS_BPF; needed below Linux 6.6", probeClsact},
		{"xdp", false, "not used by this version", func() (string, error) { return "", features.HaveProgramType(ebpf.XDP) }},
		{"programs_load", true, "report this with the detail: the kernel's verifier refuses the programs", probeLoad},
	}
}

func hostProbes() []probe {
	return []probe{
		{"ip_transparent", true, "needs CAP_NET_ADMIN or CAP_NET_RAW", func() (string, error) {
			return "", withSocket(unix.AF_INET, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1) })
		}},
		{"ipv6_transparent", false, "IPv6 is not steered", func() (string, error) {
			return "", withSocket(unix.AF_INET6, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1) })
		}},
		{"tcp_repair", false, "needs CAP_NET_ADMIN; a connection that is only watched cannot be taken over", func() (string, error) {
			return "", withSocket(unix.AF_INET, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_REPAIR, 1) })
		}},
		{"lo_up", true, "ip link set lo up", func() (string, error) {
			lo, err := net.InterfaceByName("lo")
			if err == nil && lo.Flags&net.FlagUp == 0 {
				err = errors.New("lo is down")
			}
			return "", err
		}},
		{"ip_forward", true, "sysctl -w net.ipv4.ip_forward=1", func() (string, error) { return wantSysctl("net/ipv4/ip_forward", "1") }},
		{"ipv6_forward", false, "sysctl -w net.ipv6.conf.all.forwarding=1, if terminals use IPv6", func() (string, error) {
			return wantSysctl("net/ipv6/conf/all/forwarding", "1")
		}},
		{"rp_filter", false, "cannot be read", probeReversePath},
	}
}

func probePrivileges() (string, error) {
	prog, err := emptyProgram()
	if err != nil {
		return "", err
	}
	defer prog.Close()
	_, err = prog.Run(&ebpf.RunOptions{Data: make([]byte, 64)})
	return fmt.Sprintf("uid %d", os.Geteuid()), err
}

// emptyProgram passes every packet on.
func emptyProgram() (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		License:      "Dual MIT/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
}

func probeTCX() (string, error) {
	prog, err := emptyProgram()
	if err != nil {
		return "", err
	}
	defer prog.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: noDevice, Program: prog, Attach: ebpf.AttachTCXIngress})
	if err == nil {
		return "", l.Close()
	}
	if errors.Is(err, unix.ENODEV) {
		return "", nil
	}
	return "", err
}

func hasTCX() bool {
	_, err := probeTCX()
	return err == nil
}

// probeClsact asks for the qdisc on a device that does not exist: a kernel that knows the kind
// complains of the device.
func probeClsact() (string, error) {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return "", err
	}
	defer nl.Close()
	if err := nl.QdiscAdd(clsactOn(noDevice)); !errors.Is(err, unix.ENODEV) {
		return "", err
	}
	for _, m := range []string{"sch_ingress", "cls_bpf"} {
		if !moduleKnown(m) {
			return "", fmt.Errorf("module %s not found", m)
		}
	}
	return "", nil
}

// moduleKnown reports whether a module is loaded, built in or on disk for the running kernel;
// true when that cannot be told.
func moduleKnown(name string) bool {
	if _, err := os.Stat("/sys/module/" + name); err == nil {
		return true
	}
	var uts unix.Utsname
	if unix.Uname(&uts) != nil {
		return true
	}
	dir := "/lib/modules/" + unix.ByteSliceToString(uts.Release[:]) + "/"
	known := true
	for _, list := range []string{"modules.dep", "modules.builtin"} {
		b, err := os.ReadFile(dir + list)
		if err != nil {
			return true
		}
		if strings.Contains(string(b), "/"+name+".ko") {
			return true
		}
		known = false
	}
	return known
}

// probeLoad loads the real programs with small maps.
func probeLoad() (string, error) {
	cfg := DefaultConfig()
	cfg.MaxSubscribers, cfg.MaxFlows, cfg.RingBytes = 16, 16, 64<<10
	k, err := load(cfg, true)
	if err != nil {
		return "", err
	}
	k.close()
	return "", nil
}

func withSocket(family int, f func(fd int) error) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return f(fd)
}

func sysctl(name string) (string, error) {
	b, err := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(b)), err
}

func wantSysctl(name, want string) (string, error) {
	got, err := sysctl(name)
	if err != nil {
		return "", err
	}
	if got != want {
		return got, fmt.Errorf("%s is %s", name, got)
	}
	return got, nil
}

// probeReversePath tells of strict reverse path checks. They do no harm to steering, whose rules
// name the interface; a router with two ways to one network needs them loose for its own sake.
func probeReversePath() (string, error) {
	dirs, err := os.ReadDir("/proc/sys/net/ipv4/conf")
	if err != nil {
		return "", err
	}
	var strict []string
	for _, d := range dirs {
		if v, err := sysctl("net/ipv4/conf/" + d.Name() + "/rp_filter"); err == nil && v == "1" {
			strict = append(strict, d.Name())
		}
	}
	if len(strict) == 0 {
		return "off or loose", nil
	}
	return "strict on " + strings.Join(strict, ", ") + " (steering works with it)", nil
}
