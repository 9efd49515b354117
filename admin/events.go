package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"scas/session"
)

// events sends every change of a session or transfer from now on as Server-Sent Events:
// "session" and "transfer", each with the whole record as JSON in one data line. Headers go
// out after the watch has begun, so a reader that then reads the lists misses nothing.
//
// A reader that does not read is dropped: by the table when it lags 1024 changes, by the
// write deadline when its socket takes nothing for Stall. It comes back and reads the lists.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if s.streams.Add(1) > int64(s.cfg.MaxStreams) {
		s.streams.Add(-1)
		s.stats.streamsRefused.Add(1)
		w.Header().Set("Retry-After", "5")
		w.Header().Set("Connection", "close") // it shall not keep others from asking
		fail(w, http.StatusServiceUnavailable, codeTooMany, "too many event streams are open")
		return
	}
	defer s.streams.Add(-1)
	s.stats.streams.Add(1)

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.stop, cancel)()
	changes := s.src.Table.Watch(ctx)

	out := stream{w: w, rc: http.NewResponseController(w), stall: s.cfg.Stall}
	// The server's ReadTimeout would end the request while its answer still runs.
	_ = out.rc.SetReadDeadline(time.Time{}) // a writer without deadlines (tests) has no timeout either
	w.Header().Set("Content-Type", "text/event-stream")
	if out.send("retry: 2000\n\n") != nil || r.Method == http.MethodHead {
		return
	}
	beat := time.NewTicker(s.cfg.Heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			err = out.send(": still here\n\n")
		case c, ok := <-changes:
			if !ok {
				if ctx.Err() == nil {
					s.stats.streamsDropped.Add(1)
				}
				return
			}
			err = s.sendChange(&out, c)
		}
		if err != nil {
			s.stats.streamsDropped.Add(1)
			return
		}
	}
}

func (s *Server) sendChange(out *stream, c session.Change) error {
	var kind string
	var body []byte
	var err error
	switch {
	case c.Record != nil:
		kind = "session"
		body, err = encodeRecord(*c.Record)
	case c.Transfer != nil:
		kind = "transfer"
		body, err = encode(*c.Transfer)
	default:
		return nil
	}
	if err != nil {
		s.unencodable(err)
		return nil
	}
	return out.send(fmt.Sprintf("event: %s\ndata: %s\n\n", kind, body))
}

// stream writes and flushes, each write within stall.
type stream struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	stall time.Duration
}

func (o *stream) send(text string) error {
	_ = o.rc.SetWriteDeadline(time.Now().Add(o.stall)) // a writer without deadlines cannot stall
	if _, err := o.w.Write([]byte(text)); err != nil {
		return err
	}
	return o.rc.Flush()
}
