package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"scas/internal/lab"
	"scas/internal/lab/peers"
	"scas/session"
)

// watch lets the phone play and compares what is traced with what its player has and shows.
func (d *demo) watch(ctx context.Context) error {
	start, err := d.phone.first(ctx)
	if err != nil {
		return fmt.Errorf("phone: %w", err)
	}
	d.tellAt(start.at, "phone", "first picture on the screen, %s in the film", playTime(&start.npt))
	var traced, rendered []float64
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	var told time.Time
	for end := d.e.now().Add(demoWatch); d.e.now().Before(end); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := d.find(ctx); err != nil {
			return err
		}
		p := d.record.Position
		if p == nil || p.NPT == nil || p.Rendered == nil {
			continue
		}
		screen, ok := d.phone.onScreen(p.At)
		if !ok {
			continue
		}
		d.fig.Samples++
		rendered = append(rendered, math.Abs(*p.Rendered-screen.npt))
		line := fmt.Sprintf("traced %s ± %.2f s by %s; on the screen %s, traced %s", playTime(p.NPT), p.Error, p.Source,
			playTime(&screen.npt), playTime(p.Rendered))
		if have, ok := d.phone.delivered(p.At); ok {
			traced = append(traced, math.Abs(*p.NPT-have))
			line = fmt.Sprintf("the phone has %s, %s", playTime(&have), line)
		}
		if d.e.now().Sub(told) > time.Second {
			told = d.e.now()
			d.tellAt(p.At, "position", "%s", line)
		}
	}
	d.fig.TracedError, d.fig.RenderedError = median(traced), median(rendered)
	return nil
}

// find reads the phone's session, and tells of it the first time.
func (d *demo) find(ctx context.Context) error {
	var list []session.Record
	if _, err := d.daemon.api.get(ctx, "/v1/sessions", &list); err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(r session.Record) bool {
		return r.Terminal.IP == d.lab.Addr(lab.UE1) && r.State != session.Ended
	})
	if i < 0 {
		return nil // not yet: a demo without positions fails by its figures
	}
	if d.record.ID == "" {
		d.tell("traced", "session %s of %s: %s, %s long, %d tracks, %s/%s", list[i].ID, list[i].Terminal.Name, list[i].State,
			orDash(length(list[i])), len(list[i].Tracks), list[i].Protocol, list[i].Transport)
	}
	d.record = list[i]
	return nil
}

// move orders the transfer, lets the TV open the film, and follows it to its end.
func (d *demo) move(ctx context.Context) error {
	changes, err := d.daemon.api.watchTransfers(ctx)
	if err != nil {
		return err
	}
	raw, err := d.daemon.api.call(ctx, http.MethodPost, "/v1/transfers", map[string]string{"session": d.record.ID, "to": "tv"})
	if err != nil {
		return fmt.Errorf("order the move: %w", err)
	}
	var t session.Transfer
	if err := json.Unmarshal(raw, &t); err != nil {
		return err
	}
	d.tell("order", "scas transfer %s --to tv: %s", t.Session, t.State)
	d.opened = d.e.now()
	d.tell("tv", "opens %s", t.URL)
	if d.tv, err = d.stage.play(ctx, lab.UE2, t.URL); err != nil {
		return fmt.Errorf("tv: %w", err)
	}
	pictured := make(chan error, 1)
	go func() { pictured <- d.firstOnTV(ctx) }()
	if err := d.follow(ctx, t.ID, changes); err != nil {
		return err
	}
	return <-pictured
}

// firstOnTV notes the first picture on the TV.
func (d *demo) firstOnTV(ctx context.Context) error {
	first, err := d.tv.first(ctx)
	if err != nil {
		return fmt.Errorf("tv: %w", err)
	}
	d.fig.WentOnAt, d.fig.TVAfter = &first.npt, session.Ptr(first.at.Sub(d.opened).Seconds())
	phone, _ := d.phone.onScreen(first.at)
	d.tellAt(first.at, "tv", "first picture on the screen, %s in the film; the phone shows %s", playTime(&first.npt), playTime(&phone.npt))
	return nil
}

// follow tells the states of the transfer as they come, until its end.
func (d *demo) follow(ctx context.Context, id string, changes <-chan []byte) error {
	for raw := range changes {
		var t session.Transfer
		if err := json.Unmarshal(raw, &t); err != nil || t.ID != id {
			continue
		}
		again := d.fig.Transfer != nil && d.fig.Transfer.State == t.State
		d.fig.Transfer = &t
		if again {
			continue
		}
		switch t.State {
		case session.Armed: // told with the order
		case session.Attached:
			d.tell("rewrite", "the TV's start request now asks for %s", orDash(playTime(t.Position)))
		case session.Committed:
			d.tell("committed", "the TV plays from %s; the phone's film ends now", orDash(playTime(t.StartedAt)))
		case session.Done:
			d.tell("done", "the server has ended the phone's session")
		default:
			d.tell("transfer", "%s", transferState(t))
		}
		if t.Times.Committed != nil && d.ended == nil {
			d.ended = make(chan ending, 1)
			go d.phoneEnds(ctx)
		}
		if !t.State.Open() {
			return nil
		}
	}
	return errors.Join(errors.New("the transfer was not followed to its end"), ctx.Err())
}

// afterwards looks at what became of the phone, the TV and the server.
func (d *demo) afterwards(ctx context.Context) error {
	defer d.tv.quit()
	d.fig.Asked = d.stage.asked(d.lab.Addr(lab.UE2))
	twice := demoOverlap + demoGOP + d.phone.buffer() + 2*time.Second
	if d.fig.Protocol == protocolRTSP {
		twice += demoSettle // over UDP only: a player may still fall back to TCP
	}
	d.fig.SeenTwiceMax = twice.Seconds()
	if d.real {
		d.fig.SeenTwiceMax += 3 // GStreamer falls back to TCP late: the gateway waits 6 s
	}
	d.fig.PhoneEndMax = (d.phone.buffer() + 5*time.Second).Seconds()
	if d.ended != nil {
		d.phoneEnded(<-d.ended)
	}
	if d.fig.LeftAt != nil && d.fig.WentOnAt != nil {
		picture := 1.0 / peers.Rate // all films have 25 a second
		d.fig.SeenTwice = session.Ptr(math.Round((*d.fig.LeftAt-*d.fig.WentOnAt+picture)*1000) / 1000)
	}
	if err := d.silence(ctx); err != nil {
		return err
	}
	d.fig.Missing = d.phone.missing() + d.tv.missing()
	d.fig.Sessions = d.stage.sessions()
	d.tell("server", "holds %s", plural(uint64(d.fig.Sessions), "session"))
	return nil
}

// ending is how a terminal's film ended: when, with which picture, and whether as at its end.
type ending struct {
	at    time.Time
	last  scene
	clean bool
	err   error
}

// phoneEnds tells of the end of the phone's film and hands it on.
func (d *demo) phoneEnds(ctx context.Context) {
	limit, cancel := context.WithTimeout(ctx, 12*time.Second)
	defer cancel()
	var end ending
	if end.at, end.last, end.clean, end.err = d.phone.ended(limit); end.err != nil {
		d.tell("phone", "has not ended: %v", end.err)
	} else {
		d.tellAt(end.at, "phone", "ended by itself; its last picture was %s in the film", playTime(&end.last.npt))
	}
	d.ended <- end
}

func (d *demo) phoneEnded(end ending) {
	if end.err != nil {
		return
	}
	d.fig.PhoneClean, d.fig.LeftAt = end.clean, &end.last.npt
	d.fig.PhoneEnded = session.Ptr(max(0, end.at.Sub(*d.fig.Transfer.Times.Committed).Seconds()))
}

// silence counts what still reaches the phone in a second.
func (d *demo) silence(ctx context.Context) error {
	received := func() (n uint64, err error) {
		err = d.lab.Do(lab.UE1, func() error {
			traffic, err := peers.NetDev("/proc/thread-self/net/dev", lab.UEIface)
			n = traffic.RxPackets
			return err
		})
		return n, err
	}
	before, err := received()
	if err != nil {
		return err
	}
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := received()
	d.fig.Strays = int(after - before)
	return err
}

func median(values []float64) *float64 {
	if len(values) == 0 {
		return nil
	}
	slices.Sort(values)
	return session.Ptr(math.Round(values[len(values)/2]*1000) / 1000)
}
