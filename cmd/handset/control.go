package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"scas/internal/command"
)

// The control socket joins a command to the handset that runs: one request as a line of JSON,
// answered by events, one a line, until the connection ends.

// maxRequest is the longest request line.
const maxRequest = 4096

// serveControl answers commands until ctx ends. It waits for those under way.
func serveControl(ctx context.Context, path string, g *agent) (wait func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("a handset runs already at %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		_ = l.Close()
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { answerControl(ctx, conn, g) })
		}
	})
	return wg.Wait, nil
}

func answerControl(ctx context.Context, conn net.Conn, g *agent) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	in := bufio.NewReaderSize(conn, maxRequest)
	line, err := in.ReadSlice('\n')
	var r request
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err == nil {
		go func() { // the command was called off
			_, _ = in.ReadByte()
			cancel()
		}()
		err = g.do(ctx, r, func(v event) { _, _ = conn.Write(v.line()) })
	}
	if err != nil {
		_, _ = conn.Write(newEvent(kindError, message{Text: err.Error()}).line())
	}
}

// ask sends a request to the handset that runs and hands on what it answers. The error is an
// command.UnreachableError when none does.
func ask(ctx context.Context, path string, r request, tell func(event)) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return command.UnreachableError("no handset runs here (handset run): " + err.Error())
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := conn.Write(append(raw, '\n')); err != nil {
		return err
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		v, err := parseEvent(lines.Bytes())
		if err != nil {
			return err
		}
		tell(v)
	}
	return lines.Err()
}
