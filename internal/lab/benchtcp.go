package lab

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/pion/rtp"
)

// TCPLoad is one interleaved RTSP session that sends as fast as the network takes it: a real
// DESCRIBE, SETUP and PLAY, then frames of RTP without a pause.
type TCPLoad struct {
	Terminal string         // namespace, default UE1
	Server   netip.AddrPort // default port 554 of the IPv4 address of ms
	Payload  int            // bytes of RTP payload in a frame, default 1200
	Warmup   time.Duration  // not measured, default 200 ms
	Duration time.Duration  // measured, default 1 s
}

func (w TCPLoad) withDefaults(l *Lab) TCPLoad {
	if w.Terminal == "" {
		w.Terminal = UE1
	}
	if !w.Server.IsValid() {
		w.Server = netip.AddrPortFrom(l.Addr(MS), 554)
	}
	if w.Payload <= 0 || w.Payload > 60000 {
		w.Payload = 1200
	}
	if w.Warmup <= 0 {
		w.Warmup = 200 * time.Millisecond
	}
	if w.Duration <= 0 {
		w.Duration = time.Second
	}
	return w
}

// TCPResult is what came of a load.
type TCPResult struct {
	Bytes   uint64 // received in Elapsed
	Elapsed time.Duration
}

// Mbit returns the throughput in Mbit/s.
func (r TCPResult) Mbit() float64 { return float64(r.Bytes) * 8 / r.Elapsed.Seconds() / 1e6 }

// PushInterleaved runs a load and measures what the terminal receives.
func (l *Lab) PushInterleaved(ctx context.Context, w TCPLoad) (TCPResult, error) {
	w = w.withDefaults(l)
	ctx, cancel := context.WithTimeout(ctx, w.Warmup+w.Duration+replyTimeout)
	defer cancel()
	ln, err := l.Host(MS).ListenTCP(ctx, w.Server)
	if err != nil {
		return TCPResult{}, fmt.Errorf("lab: tcp load: %w", err)
	}
	pushed := make(chan error, 1)
	go func() { pushed <- pushTo(ctx, ln, w) }()
	res, err := l.drink(ctx, w)
	ln.Close()
	if perr := <-pushed; err == nil && perr != nil {
		err = perr
	}
	if err != nil {
		return res, fmt.Errorf("lab: tcp load: %w", err)
	}
	return res, nil
}

// drink is the player of a load: it sets up and counts.
func (l *Lab) drink(ctx context.Context, w TCPLoad) (TCPResult, error) {
	var res TCPResult
	c, err := l.Host(w.Terminal).DialTCP(ctx, w.Server)
	if err != nil {
		return res, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	r := bufio.NewReaderSize(c, 256<<10)
	url := "rtsp://" + w.Server.String() + "/load"
	for i, step := range []struct {
		method, url string
		head        []field
	}{
		{"OPTIONS", url, nil},
		{"DESCRIBE", url, []field{{"Accept", "application/sdp"}}},
		{"SETUP", url + "/stream=0", []field{{"Transport", "RTP/AVP/TCP;unicast;interleaved=0-1"}}},
		{"PLAY", url + "/", []field{{"Session", "5ca5"}, {"Range", "npt=0.000-"}}},
	} {
		if _, err := c.Write(request(step.method, step.url, i+1, step.head...).marshal()); err != nil {
			return res, err
		}
		u, err := readUnit(r)
		if err != nil {
			return res, err
		}
		if u.msg == nil || u.msg.status() != 200 {
			return res, fmt.Errorf("%s: %w", step.method, errGrammar)
		}
	}
	if _, err := readFor(r, w.Warmup); err != nil {
		return res, err
	}
	began := time.Now()
	res.Bytes, err = readFor(r, w.Duration)
	res.Elapsed = time.Since(began)
	return res, err
}

// readFor reads for a time and returns how much came.
func readFor(r io.Reader, d time.Duration) (uint64, error) {
	buf := make([]byte, 256<<10)
	var total uint64
	for end := time.Now().Add(d); time.Now().Before(end); {
		n, err := r.Read(buf)
		total += uint64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// pushTo is the server of a load. It ends without an error when the player goes away.
func pushTo(ctx context.Context, ln *net.TCPListener, w TCPLoad) error {
	c, err := ln.AcceptTCP()
	if err != nil {
		if errors.Is(err, net.ErrClosed) {
			return nil // the player could not connect, and says why
		}
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	film := &Server{cfg: ServerConfig{Film: Film{NoAudio: true, Duration: time.Hour}}.withDefaults()}
	r := bufio.NewReader(c)
	for {
		u, err := readUnit(r)
		if err != nil {
			return err
		}
		if u.msg == nil {
			continue
		}
		method, url, err := u.msg.requestLine()
		if err != nil {
			return err
		}
		reply := response(200, field{"CSeq", u.msg.get("CSeq")}, field{"Session", "5ca5"})
		switch method {
		case "DESCRIBE":
			reply.add("Content-Type", "application/sdp")
			reply.add("Content-Base", url+"/")
			reply.body = []byte(film.sdp(url, w.Server.Addr()))
		case "SETUP":
			reply.add("Transport", fmt.Sprintf("RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=%08X", loadSSRC))
		case "PLAY":
			reply.add("Range", "npt=0.000-3600.000")
			reply.add("RTP-Info", "url="+strings.TrimSuffix(url, "/")+"/stream=0;seq=0;rtptime=0")
		}
		if _, err := c.Write(reply.marshal()); err != nil {
			return err
		}
		if method == "PLAY" {
			pushFrames(c, w.Payload)
			return nil
		}
	}
}

const loadSSRC = 0x5ca50000

// pushFrames writes frames of RTP, many at a time, until the connection ends.
func pushFrames(c io.Writer, payload int) {
	p := rtp.Packet{
		Header:  rtp.Header{Version: 2, PayloadType: videoPT, SSRC: loadSSRC},
		Payload: make([]byte, payload),
	}
	one, err := p.Marshal()
	if err != nil {
		return
	}
	frame := append([]byte{'$', 0, byte(len(one) >> 8), byte(len(one))}, one...)
	var chunk []byte
	for len(chunk) < 64<<10 {
		chunk = append(chunk, frame...)
	}
	for n := uint32(0); ; {
		for at := 4; at < len(chunk); at += len(frame) {
			binary.BigEndian.PutUint16(chunk[at+2:], uint16(n))
			binary.BigEndian.PutUint32(chunk[at+4:], n/8*3600)
			n++
		}
		if _, err := c.Write(chunk); err != nil {
			return // the player has seen enough
		}
	}
}
