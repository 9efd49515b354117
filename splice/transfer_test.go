package splice

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
)

func linger(fd int) (on, secs int32, err error) {
	var l syscall.Linger
	n := uint32(unsafe.Sizeof(l))
	_, _, e := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, syscall.SO_LINGER,
		uintptr(unsafe.Pointer(&l)), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		err = e
	}
	return l.Onoff, l.Linger, err
}

func (b *bed) url() string { return fmt.Sprintf("rtsp://%v/film", b.server) }

// detail is a film session of a terminal, watched, over UDP.
func (b *bed) detail(terminal, id string) tracer.Detail {
	url := b.url()
	now := time.Now()
	ip := netip.MustParseAddr(terminal)
	flow := func(p, q uint16) bpf.Flow {
		return bpf.Flow{Terminal: netip.AddrPortFrom(ip, p), Server: netip.AddrPortFrom(b.server.Addr(), q)}
	}
	return tracer.Detail{
		Record: session.Record{
			ID: id, Terminal: session.Terminal{IP: ip}, Protocol: session.RTSP, Transport: session.UDP, URL: &url,
			Server: b.server, State: session.Playing, Seekable: true, Duration: session.Ptr(180.0), Started: now,
			Position: &session.Position{NPT: session.Ptr(61.5), Rendered: session.Ptr(60.25), Source: session.SourceRTP, At: now},
			Tracks: []session.Track{
				{ID: 0, Media: "video", Codec: "H264", ClockRate: 90000}, {ID: 1, Media: "audio", Codec: "mpeg4-generic", ClockRate: 16000},
			},
		},
		Control: bpf.Flow{Terminal: netip.AddrPortFrom(ip, 40000), Server: b.server}, RTSPSession: "S-" + id,
		Version: "RTSP/1.0", BaseURL: url + "/", ContentURL: url, RangeUnit: "npt", SDPRange: "npt=0-180.032",
		Timeout: time.Minute, LastCSeq: 7, Depth: 20 * time.Millisecond, LastMedia: now,
		Tracks: []tracer.TrackDetail{
			{ID: 0, SSRC: 0x11, HaveSSRC: true, PT: 96, ClockRate: 90000, Channel: -1, RTP: flow(5000, 6000), RTCP: flow(5001, 6001), Control: url + "/stream=0"},
			{ID: 1, SSRC: 0x22, HaveSSRC: true, PT: 97, ClockRate: 16000, Channel: -1, RTP: flow(5002, 6002), RTCP: flow(5003, 6003), Control: url + "/stream=1"},
		},
	}
}

// origin puts a playing session on the phone, and has every connection of the tv become one.
func (b *bed) origin() {
	b.tr.mu.Lock()
	defer b.tr.mu.Unlock()
	d := b.detail(phone, "s1")
	b.tr.details["s1"] = d
	b.table.Put(d.Record)
	n := 0
	b.tr.adopt = func(f bpf.Flow) (string, tracer.Detail) {
		if f.Terminal.Addr().String() != tv {
			return "", tracer.Detail{}
		}
		n++
		id := fmt.Sprintf("t%d", n)
		d := b.detail(tv, id)
		d.Control = f
		d.FirstMedia, d.LastMedia = time.Time{}, time.Time{}
		d.Record.Position = nil
		d.Record.State = session.Setup
		return id, d
	}
}

func (b *bed) move(o session.Order) session.Transfer {
	b.t.Helper()
	if o.Session == "" {
		o.Session = "s1"
	}
	if !o.To.IP.IsValid() {
		o.To = session.Terminal{Name: "tv", IP: netip.MustParseAddr(tv)}
	}
	x, err := b.s.Move(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	return x
}

// await waits until a transfer has reached a state.
func (b *bed) await(id string, s session.TransferState, reason session.Reason) session.Transfer {
	b.t.Helper()
	var x session.Transfer
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		x, _ = b.table.Transfer(id)
		if x.State == s {
			break
		}
		if time.Now().After(end) || !x.State.Open() && s.Open() {
			b.t.Fatalf("transfer is %s (%v), not %s", x.State, deref(x.Reason), s)
		}
	}
	if deref(x.Reason) != reason {
		b.t.Errorf("%s for %q, want %q", s, deref(x.Reason), reason)
	}
	return x
}

func deref(r *session.Reason) session.Reason {
	if r == nil {
		return ""
	}
	return *r
}
