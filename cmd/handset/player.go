package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// schemes are the URLs that a player is started for. Nothing else: an offer comes from the
// network.
func schemes() []string { return []string{"rtsp", "rtsps", "mms", "mmsh", "http", "https"} }

// maxURL is the longest URL that is handed to a player.
const maxURL = 2048

// players are the commands to start, by scheme; "" is for all others.
type players map[string][]string

// Set takes "COMMAND ARGS" or "SCHEME=COMMAND ARGS". The words are split at blanks, with quotes
// as in a shell, and no shell sees them; {url} stands for the URL, else it is the last word.
func (p players) Set(text string) error {
	scheme := ""
	if s, rest, ok := strings.Cut(text, "="); ok && slices.Contains(schemes(), s) {
		scheme, text = s, rest
	}
	argv, err := split(text)
	if err != nil {
		return err
	}
	if len(argv) == 0 {
		return errors.New("no command")
	}
	p[scheme] = argv
	return nil
}

func (p players) String() string { return "" }

// Type names the value in the help.
func (p players) Type() string { return "[SCHEME=]COMMAND" }

// split splits a command line at blanks; '..' and ".." keep them.
func split(text string) ([]string, error) {
	var out []string
	var word strings.Builder
	quote, open := rune(0), false
	for _, r := range text {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, open = r, true
		case r == ' ' || r == '\t':
			if open || word.Len() > 0 {
				out = append(out, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if open || word.Len() > 0 {
		out = append(out, word.String())
	}
	return out, nil
}

// command returns the argv that plays a URL; login is put into it as user information.
func (p players) command(link, login string) ([]string, error) {
	scheme, err := checkURL(link)
	if err != nil {
		return nil, err
	}
	argv := p[scheme]
	if argv == nil {
		argv = p[""]
	}
	if argv == nil {
		return nil, fmt.Errorf("no player for %s", scheme)
	}
	link = withLogin(link, login)
	out, placed := []string{argv[0]}, false
	for _, w := range argv[1:] {
		if strings.Contains(w, "{url}") {
			w, placed = strings.ReplaceAll(w, "{url}", link), true
		}
		out = append(out, w)
	}
	if !placed {
		out = append(out, link)
	}
	return out, nil
}

// checkURL returns the scheme of a URL that may be given to a player.
func checkURL(link string) (string, error) {
	if len(link) > maxURL {
		return "", errors.New("the URL is too long")
	}
	for _, r := range link {
		if r <= ' ' || r == 0x7f || r == 0xfffd {
			return "", errors.New("the URL has characters that no URL has")
		}
	}
	u, err := url.Parse(link)
	if err != nil || u.Host == "" {
		return "", errors.New("that is no URL of a film")
	}
	if !slices.Contains(schemes(), u.Scheme) {
		return "", errors.New("no player is started for that kind of URL")
	}
	return u.Scheme, nil
}

// withLogin puts user information into a URL; all other bytes stay.
func withLogin(link, login string) string {
	if login == "" {
		return link
	}
	scheme, rest, _ := strings.Cut(link, "://")
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority = rest[:i]
	}
	host := authority[strings.LastIndexByte(authority, '@')+1:]
	user, password, has := strings.Cut(login, ":")
	info := url.User(user)
	if has {
		info = url.UserPassword(user, password)
	}
	return scheme + "://" + info.String() + "@" + host + rest[len(authority):]
}

// stage runs players and waits for them.
type stage struct {
	wg  sync.WaitGroup
	mu  sync.Mutex
	run map[*exec.Cmd]struct{}
}

// stopTime is how long a player gets to end by itself.
const stopTime = 3 * time.Second

// start starts a player: started is called with its process id, then ended once with its exit
// code, -1 when a signal ended it.
func (s *stage) start(argv []string, out io.Writer, started, ended func(n int)) error {
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:gosec // the user's own command, no shell
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	started(cmd.Process.Pid)
	s.mu.Lock()
	if s.run == nil {
		s.run = map[*exec.Cmd]struct{}{}
	}
	s.run[cmd] = struct{}{}
	s.mu.Unlock()
	s.wg.Go(func() {
		_ = cmd.Wait() // its exit code is told
		s.mu.Lock()
		delete(s.run, cmd)
		s.mu.Unlock()
		ended(cmd.ProcessState.ExitCode())
	})
	return nil
}

// stop ends all players, with force when they do not go.
func (s *stage) stop() {
	s.signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(stopTime):
		s.signal(syscall.SIGKILL)
		<-done
	}
}

func (s *stage) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cmd := range s.run {
		_ = syscall.Kill(-cmd.Process.Pid, sig) // with all it started; gone already: nothing to end
	}
}
