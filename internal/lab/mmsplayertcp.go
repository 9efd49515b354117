package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// mmsAsk is a start a player asks for; the zero value is the beginning.
type mmsAsk struct {
	seconds  float64
	location uint32 // 0: not used
}

// errPieces is what a player with OneRead says.
var errPieces = errors.New("a reply came in pieces")

// openTCP goes through the handshake of MMST up to the first StartPlaying.
func (p *MMSPlayer) openTCP(ctx context.Context) error {
	w, err := p.dial(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { w.conn.Close() })
	defer stop()
	_ = w.conn.SetReadDeadline(time.Now().Add(replyTimeout))
	h := mmsHandshake{p: p, w: w, r: bufio.NewReaderSize(w.conn, maxMMSMessage)}
	if err := h.run(); err != nil {
		if p.mms.CloseFile {
			_ = w.send(midCloseFile, uint32(1), uint32(1))
		}
		w.close()
		return err
	}
	_ = w.conn.SetReadDeadline(time.Time{})
	p.use(w)
	w.wg.Go(func() { p.readTCP(w, h.r) })
	return nil
}

// mmsHandshake is what happens before the reader of a connection runs.
type mmsHandshake struct {
	p *MMSPlayer
	w *mmsWire
	r *bufio.Reader
}

func (h *mmsHandshake) run() error {
	c := h.p.mms
	if err := h.connect(c); err != nil {
		return err
	}
	spare, length, flags, deadline, fileInc := uint32(notUsed), uint32(0x8000), uint32(notUsed), 3600.0, uint32(1)
	if c.Zeros {
		spare, length, flags, deadline, fileInc = 0, 0, 0, 0, 0
	}
	opened, err := h.ask(midReportOpenFile, midOpenFile, fileInc, spare, uint32(0), uint32(0), h.p.path)
	if err != nil {
		return err
	}
	if _, err := h.ask(midReportReadBlock, midReadBlock, uint32(1), uint32(0), uint32(0), length, flags, uint32(0),
		0.0, deadline, uint32(c.HeaderInc), uint32(0)); err != nil {
		return err
	}
	if h.p.film, err = h.header(opened); err != nil {
		return err
	}
	if err := h.streamSwitch(); err != nil {
		return err
	}
	return h.w.start(mmsAsk{}, c.MediaInc, c.Zeros)
}

// connect gets a funnel.
func (h *mmsHandshake) connect(c MMSPlayerConfig) error {
	subscriber := fmt.Sprintf("%s; %s; Host: %s", c.Subscriber, c.GUID, h.p.addr.Addr())
	if _, err := h.ask(midReportConnected, midConnect, uint32(0), uint32(macToViewerRevision), uint32(viewerToMacRevision), subscriber); err != nil {
		return err
	}
	if c.FunnelInfo {
		if _, err := h.ask(midReportFunnelInfo, midFunnelInfo, uint32(noPacketPair), uint32(0)); err != nil {
			return err
		}
	}
	funnel := func(end string) error {
		_, err := h.ask(midReportFunnel, midConnectFunnel, uint32(0), uint32(notUsed), uint32(0), uint32(0x989680), uint32(2), c.FunnelName+end)
		return err
	}
	if !h.p.udp {
		return funnel(`\TCP\1037`)
	}
	err := funnel(`\UDP\7000`)
	var refused *StatusError
	if errors.As(err, &refused) && c.TCPAfter {
		return funnel(`\TCP\1037`)
	}
	if err == nil {
		err = fmt.Errorf("media over UDP: %w", errMMS) // the lab has no receiver
	}
	return err
}

// ask sends a request and returns its reply, which must come next; only a Ping may come before.
func (h *mmsHandshake) ask(want, mid uint32, fields ...any) (mmsMessage, error) {
	if err := h.w.send(mid, fields...); err != nil {
		return mmsMessage{}, err
	}
	for {
		if h.p.mms.OneRead {
			if err := h.whole(); err != nil {
				return mmsMessage{}, err
			}
		}
		m, err := readMMS(h.r)
		switch {
		case err != nil:
			return m, fmt.Errorf("%s: %w", requestName(mid), err)
		case m.mid == midPing:
			if err := h.w.send(midPong, uint32(0), uint32(0)); err != nil {
				return m, err
			}
			continue
		case m.mid != want && refusedBy(m) == nil:
			return m, fmt.Errorf("%s: answered by %08x: %w", requestName(mid), m.mid, errMMS)
		}
		return m, refusedBy(m)
	}
}

// whole fails when not all of a message is there after one read of the connection.
func (h *mmsHandshake) whole() error {
	_, err := h.r.Peek(1) // one read, when nothing is left of the one before
	if err != nil {
		return err
	}
	have := h.r.Buffered()
	if have >= mmsBody {
		head, _ := h.r.Peek(mmsBody)
		m := mmsMessage{raw: head}
		if have >= int(m.u32(8))+16 {
			return nil
		}
	}
	return fmt.Errorf("%d bytes: %w", have, errPieces)
}

// header collects the ASF header.
func (h *mmsHandshake) header(opened mmsMessage) (*ASF, error) {
	var b []byte
	for {
		u, err := readMMSUnit(h.r)
		if err != nil {
			return nil, fmt.Errorf("header: %w", err)
		}
		if u.message != nil || u.inc != h.p.mms.HeaderInc {
			return nil, fmt.Errorf("header: something else came: %w", errMMS)
		}
		b = append(b, u.payload...)
		if len(b) > h.p.mms.HeaderMost {
			return nil, fmt.Errorf("header of more than %d bytes: %w", len(b), errMMS)
		}
		if u.flags&0x08 != 0 {
			break
		}
	}
	film, err := parseASFHeader(b)
	switch {
	case err != nil:
		return nil, err
	case len(b) != int(opened.u32(108)) || film.PacketSize != int(opened.u32(92)) || !slices.Equal(b[len(b)-2:], []byte{1, 1}):
		return nil, fmt.Errorf("header of %d bytes and ReportOpenFile differ: %w", len(b), errMMS)
	}
	return film, nil
}

// streamSwitch asks for all streams.
func (h *mmsHandshake) streamSwitch() error {
	_, err := h.ask(midReportSwitch, midStreamSwitch, uint32(len(h.p.film.Streams)), switchEntries(h.p.film))
	return err
}

func switchEntries(film *ASF) []uint16 {
	var out []uint16
	for _, s := range film.Streams {
		out = append(out, 0xffff, uint16(s.Number), 0)
	}
	return out
}

// start sends StartPlaying.
func (w *mmsWire) start(at mmsAsk, inc uint8, zeros bool) error {
	location, frame := uint32(notUsed), uint32(0x00ffffff)
	if at.location != 0 {
		location = at.location
	}
	if zeros {
		frame = 0
	}
	return w.send(midStartPlaying, uint32(1), uint32(0x0001ffff), at.seconds, uint32(notUsed), location, frame, uint32(inc))
}

// readTCP takes what the server sends once the film was asked for.
func (p *MMSPlayer) readTCP(w *mmsWire, r *bufio.Reader) {
	for {
		p.holdBack(w)
		u, err := readMMSUnit(r)
		if err != nil {
			w.once.Do(func() { close(w.over) }) // nobody needs to wait for a reply
			p.ended(mmsStop{wire: w, err: err})
			return
		}
		now := time.Now()
		p.mu.Lock()
		if u.message == nil {
			p.got.take(&p.book, p.film, u, false, now)
			p.changed()
		} else if u.message.mid == midReportStarted {
			p.got.starts--
			p.got.waiting = p.got.starts > 0
		}
		stopping := p.got.waiting
		p.mu.Unlock()
		if u.message == nil {
			continue
		}
		switch m := *u.message; {
		case m.mid == midPing:
			_ = w.send(midPong, uint32(0), uint32(0))
		case m.mid == midEndOfStream && !stopping && m.u32(40) != 1:
			p.ended(mmsStop{wire: w, eos: true, hr: m.u32(40)})
		default:
			select {
			case w.got <- m:
			default: // nobody asked
			}
		}
	}
}

// ended tells run; a server that ends again and again is not heard.
func (p *MMSPlayer) ended(s mmsStop) {
	select {
	case p.ends <- s:
	default:
	}
}

// holdBack returns when the player wants to read on.
func (p *MMSPlayer) holdBack(w *mmsWire) {
	for p.mms.ReadAhead > 0 {
		p.mu.Lock()
		hold := !p.got.waiting && p.book.ahead(time.Now()) >= p.mms.ReadAhead
		p.mu.Unlock()
		if !hold {
			return
		}
		select {
		case <-w.over:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// seekTCP goes to npt in the way of the player.
func (p *MMSPlayer) seekTCP(ctx context.Context, w *mmsWire, npt time.Duration) error {
	p.mu.Lock()
	first := p.got.firstLoc
	p.mu.Unlock()
	var at mmsAsk
	byTime := npt.Seconds()
	if p.mms.AddPreroll {
		byTime += p.film.Preroll.Seconds()
	}
	stop, book := false, false
	switch p.mms.Seek {
	case MMSSeekNone, MMSSeekHTTP:
		return ErrNoSeek
	case MMSSeekPacket:
		at.location, stop = p.packetAt(npt), true
	case MMSSeekTime:
		at.seconds = byTime
	case MMSSeekByte:
		at.location = first + p.packetAt(npt)
	case MMSSeekBook:
		at.seconds, stop, book = byTime, true, true
	}
	if err := p.restart(ctx, w, at, stop, book, &npt); err != nil {
		return fmt.Errorf("seek: %w", err)
	}
	return nil
}

// packetAt returns the packet at a place in the file that is as far as npt is in the time: what
// a player without an index can do.
func (p *MMSPlayer) packetAt(npt time.Duration) uint32 {
	packets := float64(p.film.count())
	if p.film.Duration <= 0 {
		return 0
	}
	return uint32(math.Max(0, math.Min(packets-1, packets*npt.Seconds()/p.film.Duration.Seconds())))
}

// restart stops the stream, if the player does that, and starts it elsewhere. A new segment
// begins unless npt is nil.
func (p *MMSPlayer) restart(ctx context.Context, w *mmsWire, at mmsAsk, stop, book bool, npt *time.Duration) error {
	p.mu.Lock()
	was := p.got.inc
	if !stop || book {
		p.got.inc++
	}
	inc := p.got.inc
	p.got.waiting = true
	p.got.starts++
	if npt != nil {
		p.got.begin(&p.book, *npt)
	}
	p.mu.Unlock()
	for len(w.got) > 0 {
		<-w.got // replies to what was asked before
	}
	if stop {
		if err := w.stopPlaying(was); err != nil {
			return err
		}
	}
	if book {
		if err := w.await(ctx, midEndOfStream); err != nil {
			return err
		}
		if err := w.send(midStreamSwitch, uint32(len(p.film.Streams)), switchEntries(p.film)); err != nil {
			return err
		}
		if err := w.await(ctx, midReportSwitch); err != nil {
			return err
		}
	}
	if err := w.start(at, inc, p.mms.Zeros); err != nil {
		return err
	}
	if stop && !book {
		if err := w.await(ctx, midEndOfStream); err != nil {
			return err
		}
	}
	return w.await(ctx, midReportStarted)
}

// stopPlaying sends StopPlaying; VLC says 1FFFFF for the incarnation, nobody checks it.
func (w *mmsWire) stopPlaying(inc uint8) error {
	return w.send(midStopPlaying, uint32(1), uint32(inc))
}

// hostHeader is the Host of an HTTP request.
func (p *MMSPlayer) hostHeader() string { return strings.TrimSuffix(p.addr.String(), ":80") }
