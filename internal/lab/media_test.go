package lab

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func TestPayloadRoundTrip(t *testing.T) {
	for _, tc := range []struct {
		name string
		film Film
	}{
		{"default", Film{}},
		{"8 Mbit/s", Film{Bitrate: 8_000_000}},
		{"tiny packets", Film{PacketSize: 1, Bitrate: 100_000}},
		{"50 pictures/s", Film{FPS: 50, GOP: 12, Bitrate: 2_000_000, PacketSize: 1400}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := tc.film.withDefaults()
			for track := range trackCount {
				for n := range uint32(2 * f.GOP) {
					frags := f.fragments(track, n)
					for i := range frags {
						b := f.appendPayload(nil, track, n, i)
						if len(b) > f.PacketSize && track == VideoTrack {
							t.Fatalf("%d bytes, limit %d", len(b), f.PacketSize)
						}
						want := Stamp{track, track == VideoTrack && n%uint32(f.GOP) == 0, n, i, frags, f.npt(track, n).Truncate(time.Microsecond)}
						if got, err := ReadStamp(b); err != nil || got != want {
							t.Fatalf("%+v %v, want %+v", got, err, want)
						}
					}
				}
			}
		})
	}
}

func TestFilmBitrate(t *testing.T) {
	f := Film{Bitrate: 8_000_000}.withDefaults()
	total := 0
	for n := range uint32(f.FPS) {
		for i := range f.fragments(VideoTrack, n) {
			total += len(f.appendPayload(nil, VideoTrack, n, i))
		}
	}
	if total*8 < 7_800_000 || total*8 > 8_200_000 {
		t.Errorf("%d bit in a second", total*8)
	}
	if n := (Film{}).withDefaults().fragments(VideoTrack, 25); n < 2 {
		t.Errorf("key picture of %d packets", n)
	}
}

func TestStampSeesEveryFlippedByte(t *testing.T) {
	f := Film{}.withDefaults()
	for track := range trackCount {
		good := f.appendPayload(nil, track, 25, 0)
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 0x20
			if _, err := ReadStamp(bad); !errors.Is(err, ErrCorrupt) {
				t.Errorf("track %d byte %d: %v", track, i, err)
			}
		}
		for n := range good {
			if _, err := ReadStamp(good[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("track %d cut at %d: %v", track, n, err)
			}
		}
	}
}

func TestFilmPlaces(t *testing.T) {
	f := Film{}.withDefaults()
	for _, tc := range []struct {
		npt, key time.Duration
		video    uint32
		audio    uint32
	}{
		{0, 0, 0, 0},
		{time.Millisecond, 0, 1, 1},
		{45 * time.Second, 45 * time.Second, 1125, 704},
		{45990 * time.Millisecond, 45 * time.Second, 1150, 719},
	} {
		if v, a := f.firstAt(VideoTrack, tc.npt), f.firstAt(AudioTrack, tc.npt); v != tc.video || a != tc.audio {
			t.Errorf("%v: video %d audio %d", tc.npt, v, a)
		}
		if k := f.keyBefore(tc.npt); k != tc.key {
			t.Errorf("%v: key picture at %v, want %v", tc.npt, k, tc.key)
		}
	}
	odd := Film{FPS: 30}.withDefaults()
	for n := range uint32(100) {
		if got := odd.firstAt(VideoTrack, odd.npt(VideoTrack, n)); got != n {
			t.Errorf("picture %d found as %d", n, got)
		}
	}
	if got := ticks(VideoTrack, 40*time.Hour); got != uint32(40*3600*90000&0xffffffff) {
		t.Errorf("ticks do not wrap: %d", got)
	}
}

func FuzzReadStamp(f *testing.F) {
	film := Film{}.withDefaults()
	f.Add(film.appendPayload(nil, VideoTrack, 3, 0))
	f.Add(film.appendPayload(nil, AudioTrack, 3, 0))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = ReadStamp(b) })
}
