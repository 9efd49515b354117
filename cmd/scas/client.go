package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"scas/admin"
	"scas/internal/command"
)

// client asks a daemon over its unix socket.
type client struct {
	socket string
	http   *http.Client
}

// clientFlags are the flags of the commands that ask a daemon.
type clientFlags struct{ socket string }

func (f *clientFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.socket, "socket", "", "the daemon's socket `PATH` (default $SCAS_SOCKET or "+admin.DefaultConfig().Socket+")")
}

func (f *clientFlags) client(e *env) *client {
	path := f.socket
	if path == "" {
		path = e.getenv("SCAS_SOCKET")
	}
	if path == "" {
		path = admin.DefaultConfig().Socket
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: 5 * time.Second}
		return d.DialContext(ctx, "unix", path)
	}
	return &client{socket: path, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// apiError is a refusal by the daemon.
type apiError struct {
	status     int
	code, text string
}

func (e *apiError) Error() string { return e.text + " (" + e.code + ")" }

// call sends a request, with body as JSON unless nil, and returns the answer's body.
// Errors: command.UnreachableError, *apiError.
func (c *client) call(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(text)
	}
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, command.UnreachableError("the daemon at " + c.socket + " stopped answering: " + err.Error())
	}
	if resp.StatusCode/100 != 2 {
		return nil, refusal(resp, raw)
	}
	return raw, nil
}

func (c *client) send(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://scas"+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err == nil {
		return resp, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var why *url.Error
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		err = errno
	case errors.As(err, &why):
		err = why.Err
	}
	hint := ""
	switch {
	case errors.Is(err, fs.ErrPermission):
		hint = "; you need to be root or in the group of that socket"
	case errors.Is(err, fs.ErrNotExist):
		hint = "; is `scas serve` running?"
	}
	return nil, command.UnreachableError(fmt.Sprintf("no daemon answers at %s: %v%s", c.socket, err, hint))
}

func refusal(resp *http.Response, raw []byte) error {
	var e struct{ Error, Code string }
	if json.Unmarshal(raw, &e) != nil || e.Error == "" {
		e.Error, e.Code = "the daemon answered "+resp.Status, "internal"
	}
	return &apiError{resp.StatusCode, e.Code, e.Error}
}

// get asks for path and decodes the answer into dst.
func (c *client) get(ctx context.Context, path string, dst any) (json.RawMessage, error) {
	raw, err := c.call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, dst); err != nil {
		return nil, fmt.Errorf("the daemon's answer cannot be read: %w", err)
	}
	return raw, nil
}

// watchTransfers returns the data of every transfer event from now on. The channel is closed
// when the stream ends.
func (c *client) watchTransfers(ctx context.Context) (<-chan []byte, error) {
	resp, err := c.send(ctx, http.MethodGet, "/v1/events", nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		raw, _ := io.ReadAll(resp.Body) // what cannot be read is shown as the status
		return nil, refusal(resp, raw)
	}
	events := make(chan []byte)
	go readTransfers(ctx, resp.Body, events)
	return events, nil
}

// readTransfers hands on the data of transfer events until the stream or ctx ends.
func readTransfers(ctx context.Context, stream io.ReadCloser, events chan<- []byte) {
	defer stream.Close()
	defer close(events)
	in, kind := bufio.NewReaderSize(stream, 64<<10), ""
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		name, data, _ := strings.Cut(strings.TrimRight(line, "\n"), ": ")
		switch {
		case name == "event":
			kind = data
		case name == "data" && kind == "transfer":
			select {
			case events <- []byte(data):
			case <-ctx.Done():
				return
			}
		}
	}
}
