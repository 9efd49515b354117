package lab

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"
)

func syntheticASF(t *testing.T, f Film) *ASF {
	t.Helper()
	a, err := f.ASF(0)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// The synthetic film has every packet of the film in it, in time order, and says what it is.
func TestFilmASF(t *testing.T) {
	f := Film{Duration: 5 * time.Second}
	a := syntheticASF(t, f)
	if a.Duration != f.Duration || a.Preroll != 3*time.Second || len(a.Streams) != 2 || !a.Streams[0].Video {
		t.Errorf("duration %v preroll %v streams %v", a.Duration, a.Preroll, a.Streams)
	}
	if !bytes.HasSuffix(a.Header, []byte{1, 1}) || len(a.Header) > 8192 {
		t.Errorf("header of %d bytes ends with %x", len(a.Header), a.Header[len(a.Header)-2:])
	}
	f = f.withDefaults()
	pictures := map[uint32]int{}
	last := uint32(0)
	for n, b := range a.Packets {
		if len(b) != a.PacketSize {
			t.Fatalf("packet %d has %d bytes", n, len(b))
		}
		for i, form := range [][]byte{b, stripASF(nil, b)} {
			p, err := parseASFPacket(form)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range p.payloads {
				s, err := ReadStamp(x.data)
				if err != nil {
					t.Fatalf("packet %d: %v", n, err)
				}
				if got := time.Duration(x.pts)*time.Millisecond - a.Preroll; got != s.NPT.Truncate(time.Millisecond) || x.stream != s.Track+1 {
					t.Errorf("packet %d: stream %d at %v says %+v", n, x.stream, got, s)
				}
				if s.Track == VideoTrack && i == 0 {
					pictures[s.Number]++
				}
			}
			if p.send < last {
				t.Errorf("packet %d is sent at %d, after %d", n, p.send, last)
			}
			last = p.send
		}
	}
	for n := range uint32(125) {
		if pictures[n] != f.fragments(VideoTrack, n) {
			t.Errorf("picture %d has %d packets", n, pictures[n])
		}
	}
}

func TestASFStart(t *testing.T) {
	a := syntheticASF(t, Film{Duration: 10 * time.Second})
	for _, tt := range []struct {
		start mmsStart
		key   time.Duration
	}{
		{mmsStart{packet: -1, byteOff: -1}, 0},
		{mmsStart{packet: -1, byteOff: -1, seconds: 3.99}, 3 * time.Second},
		{mmsStart{packet: -1, byteOff: -1, seconds: 4}, 4 * time.Second},
		{mmsStart{packet: -1, byteOff: -1, seconds: 1e200}, 9 * time.Second},
	} {
		n := a.packetOf(tt.start)
		if got := a.Key(n); got != tt.key {
			t.Errorf("%+v: packet %d with key picture %v, want %v", tt.start, n, got, tt.key)
		}
		off := int64(len(a.Header) + n*a.PacketSize)
		if n > 0 && (a.packetOf(mmsStart{packet: int64(n), byteOff: -1}) != n || a.packetOf(mmsStart{packet: -1, byteOff: off}) != n) {
			t.Errorf("packet %d is not found by its number and its place", n)
		}
		if s := a.Send(n); s > tt.key || tt.key-s > time.Second {
			t.Errorf("packet %d is sent at %v for %v", n, s, tt.key)
		}
	}
	if n := a.packetOf(mmsStart{packet: 1 << 31, byteOff: -1}); n != len(a.Packets) {
		t.Errorf("a packet that is not there: %d", n)
	}
}

// A file made by another hand is understood; the worked example of the protocol document.
func TestASFVector(t *testing.T) {
	a, err := ParseASF(worked(t))
	if err != nil {
		t.Fatal(err)
	}
	if a.Duration != 3*time.Second || a.Preroll != 3*time.Second || a.PacketSize != 120 || len(a.Packets) != 3 || a.BitRate != 64000 {
		t.Errorf("%v %v %d %d %d", a.Duration, a.Preroll, a.PacketSize, len(a.Packets), a.BitRate)
	}
	for i, want := range []time.Duration{0, 1500 * time.Millisecond, 2 * time.Second} {
		if got := a.Delivered(i); got != want {
			t.Errorf("packet %d delivers up to %v, want %v", i, got, want)
		}
	}
	if got := len(stripASF(nil, a.Packets[0])); got != 43-mmsDataHeader {
		t.Errorf("packet 0 without padding has %d bytes", got)
	}
	if a.broadcast()[a.properties+88] != 1 || a.Header[a.properties+88] != 2 {
		t.Error("a broadcast is made of the film, and the film remains")
	}
}

func TestASFHostile(t *testing.T) {
	good := worked(t)
	for cut := range good {
		if _, err := ParseASF(good[:cut]); cut < 326+120 && !errors.Is(err, ErrASF) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0xff
		_, _ = ParseASF(bad) // must not panic
	}
	for cut := range 120 {
		_, _ = parseASFPacket(good[326:][:cut])
	}
}

func worked(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/mms-worked.asf")
	if err != nil {
		t.Fatal(err)
	}
	return b
}
