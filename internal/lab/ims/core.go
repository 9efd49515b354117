package ims

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"text/template"
	"time"

	"github.com/vishvananda/netlink"

	"scas/internal/lab"
	"scas/internal/lab/peers"
)

//go:embed conf
var configs embed.FS

// Config says what a core is like and where it runs.
type Config struct {
	Lab   *lab.Lab
	NS    string // namespace, whose interface lab.UEIface leads to the gateway
	Plan  Plan
	Users []User
	Dir   string // for configurations, sockets and logs; a short path
}

// Core is a running IMS core. Close ends it. Safe for concurrent use, but for Restart.
type Core struct {
	cfg     Config
	hss     *hss
	log     *eventLog
	capture *capture

	mu    sync.Mutex
	nodes map[string]*peers.Process
}

// How long a node may take to answer, to end by itself before it is started again, and at the
// end of all, where nobody needs what it still writes.
const (
	readyTime = 60 * time.Second
	endTime   = 10 * time.Second
	closeTime = time.Second
)

// inside is where the processes of the core find its directory.
const inside = "/tmp"

// Programs are what has to be installed: Debian kamailio, kamailio-ims-modules,
// kamailio-presence-modules, kamailio-sqlite-modules (with its table definitions), sqlite3,
// sip-tester.
func Programs() []string { return []string{"kamailio", "sqlite3", "sipp"} }

// nodes are the Kamailio processes, in the order of their start, and their addresses.
func (p Plan) nodes() []node {
	return []node{{"scscf", "S-CSCF", p.SCSCF}, {"pcscf", "P-CSCF", p.PCSCF}, {"presence", "presence server", p.Presence}}
}

type node struct {
	file, name string
	addr       netip.Addr
}

// Start starts the core and returns when all of it answers and the S-CSCF has found the HSS.
// ctx bounds only the start.
func Start(ctx context.Context, cfg Config) (*Core, error) {
	c := &Core{cfg: cfg, log: &eventLog{}, nodes: map[string]*peers.Process{}}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("ims: %w", err), c.Close())
	}
	return c, nil
}

func (c *Core) start(ctx context.Context) error {
	if err := os.MkdirAll(c.cfg.Dir, 0o755); err != nil {
		return err
	}
	if err := c.number(); err != nil {
		return err
	}
	if err := c.database(ctx); err != nil {
		return err
	}
	if err := c.configure(); err != nil {
		return err
	}
	var err error
	if c.capture, err = startCapture(c.cfg.Lab.Host(c.cfg.NS), c.cfg.Plan, c.log); err != nil {
		return err
	}
	if c.hss, err = startHSS(ctx, c.cfg.Lab.Host(c.cfg.NS), c.cfg.Plan, c.cfg.Users, c.log); err != nil {
		return err
	}
	return c.startNodes(ctx)
}

// number gives the namespace the core's addresses.
func (c *Core) number() error {
	return c.cfg.Lab.Do(c.cfg.NS, func() error {
		link, err := netlink.LinkByName(lab.UEIface)
		if err != nil {
			return err
		}
		for _, a := range c.cfg.Plan.own() {
			prefix := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
			if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: prefix}); err != nil {
				return fmt.Errorf("address %s: %w", a, err)
			}
		}
		return nil
	})
}

// tables are the table definitions that the presence server needs.
const tables = "/usr/share/kamailio/db_sqlite/%s-create.sql"

// database makes the presence server's database.
func (c *Core) database(ctx context.Context) error {
	var all []byte
	for _, name := range []string{"standard", "presence"} {
		text, err := os.ReadFile(fmt.Sprintf(tables, name))
		if err != nil {
			return err
		}
		all = append(all, text...)
	}
	// without it every one of hundreds of statements would wait for the disk
	quick := "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY;\nBEGIN;\n" + string(all) + "\nCOMMIT;\n"
	cmd := exec.CommandContext(ctx, "sqlite3", filepath.Join(c.cfg.Dir, "presence.db"))
	cmd.Stdin = strings.NewReader(quick)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sqlite3: %w: %s", err, said)
	}
	return nil
}

// configure writes the configurations.
func (c *Core) configure() error {
	all, err := template.ParseFS(configs, "conf/*")
	if err != nil {
		return err
	}
	write := func(name string, n node) error {
		f, err := os.Create(filepath.Join(c.cfg.Dir, name))
		if err != nil {
			return err
		}
		defer f.Close()
		return all.ExecuteTemplate(f, name, struct {
			Plan
			Self, Name, Dir string
		}{c.cfg.Plan, n.addr.String(), n.name, inside})
	}
	err = write("cdp.xml", node{})
	for _, n := range c.cfg.Plan.nodes() {
		err = errors.Join(err, write(n.file+".cfg", n))
	}
	return err
}

func (c *Core) startNodes(ctx context.Context) error {
	for _, n := range c.cfg.Plan.nodes() {
		if err := c.startNode(ctx, n); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for _, n := range c.cfg.Plan.nodes() {
		if err := c.answers(ctx, n); err != nil {
			return fmt.Errorf("%s does not answer: %w\n%s", n.name, err, c.said(n))
		}
	}
	for !c.hss.connected() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the S-CSCF does not find the HSS: %w\n%s", ctx.Err(), c.said(c.cfg.Plan.nodes()[0]))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// startNode starts one Kamailio.
func (c *Core) startNode(ctx context.Context, n node) error {
	log, err := os.OpenFile(c.logFile(n), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	run := filepath.Join(c.cfg.Dir, n.file)
	if err := os.MkdirAll(run, 0o755); err != nil {
		return err
	}
	// The workers would outlive a test that is killed: in a process namespace of its own they end
	// with the first process. There the process ids repeat, of which the S-CSCF makes names in
	// /tmp: the core has its own. -DD: no daemon, but workers; -m, -M: MiB of memory.
	cmd := c.cfg.Lab.Command(context.WithoutCancel(ctx), c.cfg.NS, "unshare", "--mount", "--pid", "--fork", "--kill-child",
		"sh", "-c", `mount --bind "$0" `+inside+` && exec "$@"`, c.cfg.Dir, "kamailio", "-f", filepath.Join(inside, n.file+".cfg"),
		"-m", "64", "-M", "8", "-DD", "-E", "-Y", filepath.Join(inside, n.file), "-P", filepath.Join(inside, n.file, "pid"))
	cmd.Stdout, cmd.Stderr = log, log
	p, err := peers.StartProcess(cmd)
	if err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[n.file] = p
	return nil
}

func (c *Core) logFile(n node) string { return filepath.Join(c.cfg.Dir, n.file+".log") }

// said is the end of what a node wrote.
func (c *Core) said(n node) string {
	said, _ := os.ReadFile(c.logFile(n)) // it may not have begun
	return string(said[max(0, len(said)-4<<10):])
}

// Said is the end of what each node of the core wrote.
func (c *Core) Said() string {
	var b strings.Builder
	for _, n := range c.cfg.Plan.nodes() {
		fmt.Fprintf(&b, "%s:\n%s\n", n.name, c.said(n))
	}
	return b.String()
}

// answers asks a node by OPTIONS until it answers 200.
func (c *Core) answers(ctx context.Context, n node) error {
	sock, err := c.cfg.Lab.Host(c.cfg.NS).ListenUDP(netip.AddrPortFrom(c.cfg.Plan.HSS, 0))
	if err != nil {
		return err
	}
	defer sock.Close()
	me := sock.LocalAddr().String()
	buf := make([]byte, 4096)
	for try := 0; ; try++ {
		ask := fmt.Sprintf("OPTIONS sip:%s:5060 SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKp%d\r\nMax-Forwards: 9\r\nFrom: <sip:probe@%s>;tag=p\r\n"+
			"To: <sip:%s:5060>\r\nCall-ID: probe%d@%s\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", n.addr, me, try, c.cfg.Plan.Domain, n.addr, try, me)
		_, err := sock.WriteToUDPAddrPort([]byte(ask), netip.AddrPortFrom(n.addr, 5060)) // refused as long as nobody listens
		if err == nil {
			_ = sock.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if size, err := sock.Read(buf); err == nil && strings.HasPrefix(string(buf[:size]), "SIP/2.0 200") {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.nodes[n.file].Done():
			return fmt.Errorf("it ended with code %d", c.nodes[n.file].ExitCode())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Restart stops and starts P-CSCF, S-CSCF and presence server: the S-CSCF has forgotten every
// registration and subscription. It returns when all answer again, with the moment when the last
// of the old ones had ended.
func (c *Core) Restart(ctx context.Context) (down time.Time, err error) {
	c.Note("", "the core restarts")
	c.stopNodes(endTime)
	down = time.Now()
	err = c.startNodes(ctx)
	c.Note("", "the core is back")
	return down, err
}

// Name gives an address a column of the ladder.
func (c *Core) Name(a netip.Addr, column string) { c.capture.name(a, column) }

// Remove takes a user's registrations away from the network's side (Cx RTR).
func (c *Core) Remove(user string) error { return c.hss.remove(user) }

func (c *Core) stopNodes(grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all sync.WaitGroup
	for name, p := range c.nodes {
		all.Go(func() { p.Stop(grace) })
		delete(c.nodes, name)
	}
	all.Wait()
}

// Close ends the core. The events stay readable.
func (c *Core) Close() error {
	c.stopNodes(closeTime)
	if c.hss != nil {
		c.hss.close()
	}
	if c.capture != nil {
		c.capture.close()
	}
	return nil
}
