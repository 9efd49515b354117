package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
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

// Process is a running program of ours: alone in its session and process group, killed when
// this process dies. It is safe for concurrent use.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it was reaped

	mu    sync.Mutex
	ended time.Time
}

// hurry gives the calling goroutine a thread of its own, which ends with it, and that thread,
// and programs started from it, priority over the rest of a busy test machine: a player that
// waits for a processor drops pictures. Without privileges the priority stays as it is.
func hurry() {
	runtime.LockOSThread()
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, -10) // of this thread only; see setpriority(2)
}

// preferred does for a session what hurry does within one: where the kernel shares the
// processors among sessions first (sched(7), autogroup), priorities do not reach further.
func preferred(pid int) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte("-10"), 0)
}

// StartProcess starts cmd. The thread that starts it stays alive and locked until it ends:
// Pdeathsig is sent when the parent's *thread* dies (prctl(2), PR_SET_PDEATHSIG).
func StartProcess(cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true // its own process group, and its own share of a busy processor
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.WaitDelay = 2 * time.Second // bounds the copying of stderr when a grandchild holds it
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		hurry()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		preferred(cmd.Process.Pid)
		started <- nil
		_ = cmd.Wait() // what it ended with is in ProcessState
		p.mu.Lock()
		p.ended = time.Now()
		p.mu.Unlock()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// signal sends sig to the process group, unless it ended already.
func (p *Process) signal(sig syscall.Signal) {
	select {
	case <-p.done:
	default:
		if err := syscall.Kill(-p.cmd.Process.Pid, sig); errors.Is(err, syscall.ESRCH) {
			_ = p.cmd.Process.Signal(sig)
		}
	}
}

// wait reports whether the process ended within d.
func (p *Process) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.done:
		return true
	case <-t.C:
		return false
	}
}

// Done is closed when the process was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Pid is the process id: /proc/<pid>/net shows its namespace.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// ExitCode is what the process ended with, -1 when a signal ended it; it must be Done.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Stop ends the process: SIGTERM, after grace SIGKILL. It returns when it was reaped.
func (p *Process) Stop(grace time.Duration) {
	p.signal(syscall.SIGTERM)
	if !p.wait(grace) {
		p.signal(syscall.SIGKILL)
		<-p.done
	}
}

// cpu is the processor time the process took; zero while it runs.
func (p *Process) cpu() time.Duration {
	select {
	case <-p.done:
		return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	default:
		return 0
	}
}
