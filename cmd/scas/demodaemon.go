package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"scas/internal/lab"
)

// demoConfig is the configuration of the demo's gateway.
const demoConfig = `node: demo
gateway: {lan: [%s, %s], wan: [%s], services: {rtsp: [8554], mms: [1755], mmsh: [80]}}
transfer: {overlap: %s, settle: %s}
subscribers: [{aor: "sip:bob@ims.example", terminals: [{name: phone, ip: %s}, {name: tv, ip: %s}]}]
api: {listen: "", socket: %s}
state: {dir: %s}
`

// demoDaemon is `scas serve`, this very program, in the gateway's namespace.
type demoDaemon struct {
	cmd  *exec.Cmd
	api  *client
	said lastWords
	done <-chan struct{} // closed when it has ended
}

// lastWords keeps the end of what the daemon logs, to be shown when the demo fails.
type lastWords struct {
	mu   sync.Mutex
	text []byte
}

// Write takes a piece of the log.
func (w *lastWords) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, b...)
	if over := len(w.text) - 16<<10; over > 0 {
		w.text = bytes.Clone(w.text[over:])
	}
	return len(b), nil
}

func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}

// startDemoDaemon starts the daemon with its files in dir and returns when it is ready.
func startDemoDaemon(ctx context.Context, e *env, l *lab.Lab, dir string) (*demoDaemon, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	socket, file := filepath.Join(dir, "scas.sock"), filepath.Join(dir, "scas.yaml")
	text := fmt.Sprintf(demoConfig, lab.LAN0, lab.LAN1, lab.WAN0, demoOverlap, demoSettle, l.Addr(lab.UE1), l.Addr(lab.UE2),
		socket, filepath.Join(dir, "state"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	d := &demoDaemon{api: (&clientFlags{socket: socket}).client(e)}
	d.cmd = exec.Command(self, "serve", "-c", file)
	d.cmd.Args[0] = "scas"                           // whatever the file is called
	d.cmd.Env = []string{"PATH=" + e.getenv("PATH")} // none of the operator's SCAS_*
	d.cmd.Stdout, d.cmd.Stderr = &d.said, &d.said
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM} // Ctrl-C is the demo's to handle
	if d.done, err = l.Start(lab.GW, d.cmd); err != nil {
		return nil, fmt.Errorf("start scas serve: %w", err)
	}
	if err := d.ready(ctx); err != nil {
		d.stop()
		return nil, fmt.Errorf("scas serve in the gateway: %w\n%s", err, d.said.String())
	}
	return d, nil
}

// ready waits until the daemon says that it is.
func (d *demoDaemon) ready(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var answer struct{ Status string }
		_, err := d.api.get(ctx, "/readyz", &answer)
		if err == nil {
			return nil
		}
		select {
		case <-d.done:
			return errors.New("ended at once")
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		case <-tick.C:
		}
	}
}

// stop ends the daemon as systemd would, and returns its exit code; -1 when it had to be killed.
func (d *demoDaemon) stop() int {
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-d.done:
	case <-time.After(15 * time.Second):
		_ = d.cmd.Process.Kill()
		<-d.done
	}
	return d.cmd.ProcessState.ExitCode()
}
