package peers

import (
	"context"
	"errors"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Starter returns a command that runs name with args in network namespace ns; it does not
// start it. (*lab.Lab).Command is one.
type Starter func(ctx context.Context, ns, name string, args ...string) *exec.Cmd

// Host is the Starter that ignores the namespace: programs run where the test runs.
func Host(ctx context.Context, _, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, args...)
}

// process is a program of ours: alone in its process group, killed when this process dies.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it was reaped

	mu    sync.Mutex
	ended time.Time
	err   error
}

// startProcess starts cmd. The thread that starts it stays alive and locked until it ends:
// Pdeathsig is sent when the parent's *thread* dies (prctl(2), PR_SET_PDEATHSIG).
func startProcess(cmd *exec.Cmd) (*process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		err := cmd.Wait()
		p.mu.Lock()
		p.ended, p.err = time.Now(), err
		p.mu.Unlock()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// signal sends sig to the process group, unless it ended already.
func (p *process) signal(sig syscall.Signal) {
	select {
	case <-p.done:
	default:
		if err := syscall.Kill(-p.cmd.Process.Pid, sig); errors.Is(err, syscall.ESRCH) {
			_ = p.cmd.Process.Signal(sig)
		}
	}
}

// wait reports whether the process ended within d.
func (p *process) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.done:
		return true
	case <-t.C:
		return false
	}
}

// stop ends the process: SIGTERM, after grace SIGKILL. It returns when it was reaped.
func (p *process) stop(grace time.Duration) {
	p.signal(syscall.SIGTERM)
	if !p.wait(grace) {
		p.signal(syscall.SIGKILL)
		<-p.done
	}
}

// cpu is the processor time the process took; zero while it runs.
func (p *process) cpu() time.Duration {
	select {
	case <-p.done:
		return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	default:
		return 0
	}
}
