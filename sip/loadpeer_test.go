package sip

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"scas/session"
)

// serveAlone makes the test binary a server: it prints where it listens, and serves until its
// stdin ends.
const serveAlone = "SCAS_SIP_SERVE_ALONE"

func TestMain(m *testing.M) {
	if os.Getenv(serveAlone) == "" {
		os.Exit(m.Run())
	}
	if err := aloneServer(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func aloneServer() error {
	s, err := New(loadConfig(), Deps{Store: NewMemory(), Gate: &fakeGate{open: map[netip.Addr]session.Binding{}}}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	_, addr, _ := strings.Cut(s.Addrs()[0], "://")
	if _, err := fmt.Fprintln(os.Stdout, addr); err != nil {
		return errors.Join(err, s.Close())
	}
	return s.Serve(ctx)
}

// BenchmarkRegistrars sends the same b.N third-party REGISTERs at 2000/s to a server of ours and to
// a stock Kamailio that keeps them in its memory (registrar, usrloc), each in a process of its own,
// one after the other. It reports how many each answers in a second of processor time, the ratio,
// and what memory each takes then. scas reads the REGISTER inside and opens an address for each;
// Kamailio does not look at the body.
func BenchmarkRegistrars(b *testing.B) {
	rate := map[string]float64{}
	for _, r := range []struct {
		name  string
		start func(b *testing.B) (netip.AddrPort, *exec.Cmd)
	}{{"kamailio", startKamailio}, {"scas", startAlone}} {
		to, cmd := r.start(b)
		g := newLoad(b, to, b.N)
		before := processorTime(b, cmd.Process.Pid)
		g.run(loadRate)
		used := processorTime(b, cmd.Process.Pid) - before
		rate[r.name] = float64(b.N) / max(used, time.Second/ticksPerSecond).Seconds()
		b.ReportMetric(rate[r.name], r.name+"-req/cpu-s")
		b.ReportMetric(float64(g.quantile(0.99).Microseconds()), r.name+"-µs-p99")
		b.ReportMetric(float64(g.repeated), r.name+"-retransmissions")
		b.ReportMetric(resident(b, cmd.Process.Pid)/(1<<20), r.name+"-MiB")
		if g.lost > 0 {
			b.Errorf("%s lost %d of %d", r.name, g.lost, b.N)
		}
	}
	b.ReportMetric(rate["scas"]/rate["kamailio"], "ratio")
	b.ReportMetric(0, "ns/op") // the rate is given
}

// startAlone starts a server of ours.
func startAlone(b *testing.B) (netip.AddrPort, *exec.Cmd) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveAlone+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	startPeer(b, cmd)
	b.Cleanup(func() { in.Close() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return netip.MustParseAddrPort(strings.TrimSpace(line)), cmd
}

// kamailioConfig is a registrar as Kamailio's own documentation has it, without a database.
const kamailioConfig = `#!KAMAILIO
debug=0
log_stderror=yes
listen=udp:%s
disable_tcp=yes
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("usrloc", "db_mode", 0)
request_route {
	if (method == "REGISTER") {
		save("location");
		exit;
	}
	sl_send_reply("405", "Method Not Allowed");
}
`

// startKamailio starts Kamailio with as many workers as it starts by itself.
func startKamailio(b *testing.B) (netip.AddrPort, *exec.Cmd) {
	b.Helper()
	program, err := exec.LookPath("kamailio")
	if err != nil {
		if _, err = os.Stat("/usr/sbin/kamailio"); err == nil {
			program = "/usr/sbin/kamailio"
		}
	}
	switch {
	case err != nil && os.Getenv("SCAS_PRIV") == "1":
		b.Fatal(err)
	case err != nil:
		b.Skip(err)
	}
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	to := netip.MustParseAddrPort(free.LocalAddr().String())
	free.Close()
	dir := b.TempDir()
	file := filepath.Join(dir, "kamailio.cfg")
	if err := os.WriteFile(file, fmt.Appendf(nil, kamailioConfig, to), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(program, "-f", file, "-DD", "-E", "-Y", dir, "-m", "256", "-P", filepath.Join(dir, "pid"))
	said := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = said, said
	startPeer(b, cmd)
	b.Cleanup(func() {
		if b.Failed() {
			b.Logf("kamailio said:\n%s", said)
		}
	})
	until(b, "kamailio answers", func() bool { return answers(b, to) })
	return to, cmd
}

// answers reports whether a server says anything to OPTIONS.
func answers(b *testing.B, to netip.AddrPort) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	_, _ = fmt.Fprintf(c, "OPTIONS sip:x@%[1]v SIP/2.0\r\nVia: SIP/2.0/UDP %[2]v;rport;branch=z9hG4bKo\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:x@%[1]v>\r\n"+
		"Call-ID: o\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n", to, c.LocalAddr())
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	_, err = c.Read(make([]byte, 4096))
	return err == nil
}

// startPeer starts cmd in a process group of its own, which ends with the benchmark.
func startPeer(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
		}
	})
}

// ticksPerSecond of /proc/PID/stat (proc(5), USER_HZ).
const ticksPerSecond = 100

// processorTime is what all processes of a group have taken so far.
func processorTime(b *testing.B, group int) time.Duration {
	b.Helper()
	ticks := 0
	for _, f := range processes(b, group) {
		user, err1 := strconv.Atoi(f[11])
		system, err2 := strconv.Atoi(f[12])
		if err := errors.Join(err1, err2); err != nil {
			b.Fatal(err)
		}
		ticks += user + system
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond
}

// resident is the memory that a group takes, in bytes; what its processes share counts once.
func resident(b *testing.B, group int) (bytes float64) {
	b.Helper()
	for _, f := range processes(b, group) {
		text, err := os.ReadFile(filepath.Join("/proc", f[len(f)-1], "smaps_rollup"))
		if err != nil {
			continue // not ours to read, or gone
		}
		for line := range strings.Lines(string(text)) {
			if w := strings.Fields(line); len(w) > 1 && w[0] == "Pss:" {
				kib, _ := strconv.Atoi(w[1])
				bytes += float64(kib) * 1024
			}
		}
	}
	return bytes
}

// processes returns the fields of /proc/PID/stat from the state on, and last the PID, of a group.
func processes(b *testing.B, group int) (all [][]string) {
	b.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		i := strings.LastIndex(string(text), ")")
		if err != nil || i < 0 {
			continue // it ended
		}
		if f := strings.Fields(string(text[i+1:])); len(f) > 12 && f[2] == strconv.Itoa(group) {
			all = append(all, slices.Concat(f, []string{filepath.Base(filepath.Dir(file))}))
		}
	}
	return all
}
