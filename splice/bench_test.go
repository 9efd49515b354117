package splice

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
)

// BenchmarkRelay compares a relayed connection with what io.Copy between the same sockets
// does (which is splice(2) on Linux), for interleaved media and both ends on this machine.
func BenchmarkRelay(b *testing.B) {
	frames := map[string][]byte{
		"1400": bytes.Repeat(rtpFrame(0, 1, 2, 1400), 64),
		"150":  bytes.Repeat(rtpFrame(0, 1, 2, 150), 256),
	}
	for _, size := range []string{"1400", "150"} {
		b.Run("relay/"+size, func(b *testing.B) { benchRelay(b, frames[size], false) })
		b.Run("looked-at/"+size, func(b *testing.B) { benchRelay(b, frames[size], true) })
		b.Run("io.Copy/"+size, func(b *testing.B) { benchCopy(b, frames[size], false) })
		b.Run("copy-in-Go/"+size, func(b *testing.B) { benchCopy(b, frames[size], true) })
	}
}

func benchRelay(b *testing.B, chunk []byte, armed bool) {
	bed := newBed(b, quietConfig())
	bed.tr = nil
	bed.s.t = silentTracer{newFakeTracer()}
	if armed {
		tr := newFakeTracer()
		bed.tr = tr
		bed.s.t = silentTracer{tr}
		bed.origin()
		bed.move(session.Order{})
	}
	term, serv, _ := bed.connect(tv)
	pour(b, serv, term, chunk)
}

func benchCopy(b *testing.B, chunk []byte, plain bool) {
	front, back := loopback(b), loopback(b)
	dial := func(l *net.TCPListener) (out, in *net.TCPConn) {
		o, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		i, err := l.AcceptTCP()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { o.Close(); i.Close() })
		return o.(*net.TCPConn), i
	}
	term, near := dial(front)
	far, serv := dial(back)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if plain {
			io.CopyBuffer(struct{ io.Writer }{near}, struct{ io.Reader }{far}, make([]byte, downBuffer))
		} else {
			io.Copy(near, far)
		}
		near.CloseWrite()
	}()
	pour(b, serv, term, chunk)
	<-done
}

// pour sends b.N chunks and waits until they have come out.
func pour(b *testing.B, from, to *net.TCPConn, chunk []byte) {
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			if _, err := from.Write(chunk); err != nil {
				b.Error(err)
				break
			}
		}
		from.CloseWrite()
	}()
	sink := make([]byte, 256<<10)
	total := 0
	for {
		n, err := to.Read(sink)
		total += n
		if err != nil {
			break
		}
	}
	b.StopTimer()
	if total != b.N*len(chunk) {
		b.Errorf("%d bytes of %d", total, b.N*len(chunk))
	}
}

// silentTracer keeps nothing of what is streamed.
type silentTracer struct{ *fakeTracer }

func (silentTracer) Stream(bpf.Flow, bpf.Dir, []byte, time.Time) {}
