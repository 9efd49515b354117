package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// openHTTP asks for the description and then, on another connection, for the film.
func (p *MMSPlayer) openHTTP(ctx context.Context, at mmsAsk) error {
	w, r, err := p.get(ctx, at, false)
	if err != nil {
		return err
	}
	film, err := p.headerChunks(r)
	w.close()
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.film = film
	p.mu.Unlock()
	if w, r, err = p.get(ctx, at, true); err != nil {
		return err
	}
	p.use(w)
	w.wg.Go(func() { p.readHTTP(w, r) })
	return nil
}

// get sends a Describe or a Play and reads the head of its reply.
func (p *MMSPlayer) get(ctx context.Context, at mmsAsk, play bool) (*mmsWire, *bufio.Reader, error) {
	w, err := p.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	_ = w.conn.SetDeadline(time.Now().Add(replyTimeout))
	stop := context.AfterFunc(ctx, func() { w.conn.Close() })
	defer stop()
	r := bufio.NewReader(w.conn)
	head := []string(nil)
	if _, err = io.WriteString(w.conn, p.request(at, play)); err == nil {
		head, err = readHead(r)
	}
	if err == nil {
		if f := strings.Fields(head[0]); len(f) < 2 || f[1] != strconv.Itoa(http.StatusOK) {
			status := 0
			if len(f) > 1 {
				status, _ = strconv.Atoi(f[1])
			}
			err = &StatusError{Method: map[bool]string{false: "Describe", true: "Play"}[play], Status: status}
		}
	}
	if err != nil {
		w.close()
		return nil, nil, err
	}
	_ = w.conn.SetDeadline(time.Time{})
	return w, r, nil
}

// request returns a request as libmms and VLC write it, or with ffmpeg's forgotten line end.
func (p *MMSPlayer) request(at mmsAsk, play bool) string {
	ms := strconv.FormatInt(int64(at.seconds*1000+0.5), 10)
	offset := "0:0"
	if at.location != 0 {
		offset = fmt.Sprintf("0:%d", int(at.location)*p.film.PacketSize) // counted from the first packet, as VLC does
	}
	var b strings.Builder
	fmt.Fprintf(&b, "GET /%s HTTP/1.0\r\nAccept: */*\r\nUser-Agent: %s\r\nHost: %s\r\n", p.path, p.mms.Subscriber, p.hostHeader())
	if !play {
		fmt.Fprintf(&b, "Pragma: no-cache,rate=1.000000,stream-time=0,stream-offset=0:0,request-context=1,max-duration=0\r\n")
		fmt.Fprintf(&b, "Pragma: xClientGUID=%s\r\nConnection: Close\r\n\r\n", p.mms.GUID)
		return b.String()
	}
	if p.mms.ForgetCRLF {
		fmt.Fprintf(&b, "Pragma: no-cache,rate=1.000000,stream-time=%sConnection: Close\r\n", ms)
	} else {
		fmt.Fprintf(&b, "Pragma: no-cache,rate=1.000000,stream-time=%s,stream-offset=%s,packet-num=4294967295,max-duration=0\r\nConnection: Close\r\n", ms, offset)
	}
	fmt.Fprintf(&b, "Pragma: xPlayStrm=1\r\nPragma: xClientGUID=%s\r\nPragma: stream-switch-count=%d\r\nPragma: stream-switch-entry=", p.mms.GUID, len(p.film.Streams))
	for _, s := range p.film.Streams {
		fmt.Fprintf(&b, "ffff:%d:0 ", s.Number)
	}
	b.WriteString("\r\n\r\n")
	return b.String()
}

// headerChunks collects the ASF header.
func (p *MMSPlayer) headerChunks(r *bufio.Reader) (*ASF, error) {
	var header []byte
	for {
		u, kind, err := readDataChunk(r)
		if err != nil {
			return nil, fmt.Errorf("header: %w", err)
		}
		if kind != chunkHeader {
			return nil, fmt.Errorf("header: chunk %q: %w", kind, errMMS)
		}
		header = append(header, u.payload...)
		if len(header) > p.mms.HeaderMost {
			return nil, fmt.Errorf("header of more than %d bytes: %w", len(header), errMMS)
		}
		if u.flags&0x08 != 0 {
			return parseASFHeader(header)
		}
	}
}

// readDataChunk reads a chunk; of $H and $D also the data header, whose size must be right.
func readDataChunk(r *bufio.Reader) (mmsUnit, byte, error) {
	kind, body, err := readChunk(r)
	if err != nil || kind != chunkHeader && kind != chunkData {
		return mmsUnit{payload: body}, kind, err
	}
	u, err := readMMSData(strings.NewReader(string(body)))
	if err == nil && len(u.payload)+mmsDataHeader != len(body) {
		err = fmt.Errorf("data packet of %d bytes in a chunk of %d: %w", len(u.payload), len(body), errMMS)
	}
	return u, kind, err
}

// readHTTP takes the film.
func (p *MMSPlayer) readHTTP(w *mmsWire, r *bufio.Reader) {
	for {
		p.holdBack(w)
		u, kind, err := readDataChunk(r)
		if err != nil {
			p.ended(mmsStop{wire: w, err: err})
			return
		}
		switch {
		case kind == chunkData:
			p.mu.Lock()
			p.got.take(&p.book, p.film, u, true, time.Now())
			p.changed()
			p.mu.Unlock()
		case kind == chunkEnd && (mmsMessage{raw: u.payload}).u32(0) != 1:
			p.ended(mmsStop{wire: w, eos: true})
		}
	}
}

// seekHTTP opens the film again, elsewhere.
func (p *MMSPlayer) seekHTTP(ctx context.Context, npt time.Duration) error {
	at := mmsAsk{seconds: npt.Seconds()}
	switch p.mms.Seek {
	case MMSSeekNone:
		return ErrNoSeek
	case MMSSeekPacket, MMSSeekByte:
		at = mmsAsk{location: p.packetAt(npt)}
	}
	if p.mms.AddPreroll {
		at.seconds += p.film.Preroll.Seconds()
	}
	old := p.currentWire()
	old.close() // its end is of no interest any more
	p.mu.Lock()
	p.got.begin(&p.book, npt)
	p.mu.Unlock()
	if err := p.openHTTP(ctx, at); err != nil {
		return fmt.Errorf("seek: %w", err)
	}
	return nil
}
