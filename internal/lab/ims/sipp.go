package ims

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"scas/internal/lab/peers"
)

//go:embed sipp
var scenarios embed.FS

// Scenario is one run of SIPp: a terminal, or for load the S-CSCF.
type Scenario struct {
	Name string // of the file below sipp/, without .xml
	NS   string
	From netip.AddrPort    // an address of the namespace
	To   netip.AddrPort    // zero: the P-CSCF
	Keys map[string]string // what the scenario names in brackets, beside domain, as, scscf, pcscf
	User User              // for digest
	Args []string          // further options of sipp(1)
}

// sippTime is how long a scenario may take.
const sippTime = 30 * time.Second

// ErrScenario is returned for a scenario that SIPp says has failed.
var ErrScenario = errors.New("the scenario failed")

// Run plays a scenario to its end. The error tells what SIPp missed.
func (c *Core) Run(ctx context.Context, s Scenario) error {
	dir, err := os.MkdirTemp(c.cfg.Dir, s.Name+"-")
	if err != nil {
		return err
	}
	text, err := scenarios.ReadFile("sipp/" + s.Name + ".xml")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, s.Name+".xml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return err
	}
	to := s.To
	if !to.IsValid() {
		to = netip.AddrPortFrom(c.cfg.Plan.PCSCF, sipPort)
	}
	args := []string{to.String(), "-sf", file, "-i", s.From.Addr().String(), "-p", strconv.Itoa(int(s.From.Port())), "-nostdin",
		"-default_behaviors", "abortunexp", "-timeout", strconv.Itoa(int(sippTime / time.Second)), "-timeout_error",
		"-trace_err", "-error_file", filepath.Join(dir, "errors"), "-trace_logs", "-log_file", filepath.Join(dir, "log")}
	p := c.cfg.Plan
	keys := map[string]string{"domain": p.Domain, "as": p.AS.String(), "scscf": p.SCSCF.String(), "pcscf": p.PCSCF.String()}
	maps.Copy(keys, s.Keys)
	for name, value := range keys {
		args = append(args, "-key", name, value)
	}
	if s.User.Name != "" {
		private := s.User.Name + "@" + p.Domain
		args = append(args, "-key", "user", s.User.Name, "-key", "impi", private, "-au", private, "-ap", s.User.Password)
	}
	cmd := c.cfg.Lab.Command(context.WithoutCancel(ctx), s.NS, "sipp", append(args, s.Args...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TERM=dumb")
	run, err := peers.StartProcess(cmd)
	if err != nil {
		return fmt.Errorf("sipp %s: %w", s.Name, err)
	}
	select {
	case <-run.Done():
	case <-ctx.Done():
		run.Stop(time.Second)
		return fmt.Errorf("sipp %s: %w", s.Name, ctx.Err())
	}
	if run.ExitCode() != 0 {
		said, _ := os.ReadFile(filepath.Join(dir, "errors")) // there need not be any
		return fmt.Errorf("sipp %s: exit code %d: %w\n%s", s.Name, run.ExitCode(), ErrScenario, said)
	}
	return nil
}
