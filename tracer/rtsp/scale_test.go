package rtsp

import (
	"testing"
	"time"
)

// Labels of drop frames leave out 0 and 1 in each minute but every tenth (SMPTE 12M).
func TestDropFrames(t *testing.T) {
	drop := frameRate{30, true}
	for label, frame := range map[string]int64{
		"00:00:00:00": 0, "00:00:59:29": 1799, "00:01:00:02": 1800, "00:01:59:29": 3597, "00:02:00:02": 3598,
		"00:09:59:29": 17981, "00:10:00:00": 17982, "00:11:00:02": 17982 + 1800, "01:00:00:00": 107892,
	} {
		if got, ok := drop.label(frame); got != label || !ok {
			t.Errorf("frame %d is %s, want %s", frame, got, label)
		}
		r, err := ParseRange("smpte=" + label + "-")
		if err != nil || *r.Start != drop.at(frame) {
			t.Errorf("%s is %v (%v), want %v", label, value(r.Start), err, drop.at(frame))
		}
	}
	if d := drop.at(107892) - time.Hour; d.Abs() > 4*time.Millisecond { // what the dropping is for
		t.Errorf("an hour of labels is off by %v", d)
	}
}

// What is written is what is read again, at most one frame before what was asked for.
func TestScaleRoundTrip(t *testing.T) {
	clock := time.Date(2026, 1, 2, 3, 4, 5, 250e6, time.UTC)
	for _, s := range []Scale{
		{}, {Unit: UnitNPT}, {Unit: UnitClock, Clock: clock}, {Unit: UnitSMPTE}, {Unit: "smpte-30-drop", Zero: 10*time.Hour + 1234567},
		{Unit: "smpte-25", Zero: time.Hour}, {Unit: "smpte-30"}, {Unit: "smpte-24"},
	} {
		for at := time.Duration(0); at < 3*time.Hour; at += 7*time.Second + 123456789 {
			text, written, ok := s.Start(at)
			r, err := ParseRange(text)
			if !ok || err != nil {
				t.Fatalf("%q: %v, %v", text, ok, err)
			}
			start, _ := r.Media(s)
			if start == nil || (*start-written).Abs() > time.Microsecond || written > at && at > 42*time.Millisecond || written < at-42*time.Millisecond {
				t.Fatalf("%v is %q, written %v, read %v", at, text, written, value(start))
			}
		}
	}
}

func TestScaleRefuses(t *testing.T) {
	for _, s := range []Scale{{Unit: UnitClock}, {Unit: "bytes"}, {Unit: "smpte-"}, {Unit: "smpte-0"}, {Unit: "smpte25"}, {Unit: "smpte-1000"}} {
		if text, _, ok := s.Start(time.Second); ok {
			t.Errorf("%+v writes %q", s, text)
		}
	}
	if text, _, ok := (Scale{Unit: "smpte-25", Zero: 99 * time.Hour}).Start(2 * time.Hour); ok {
		t.Errorf("too far for a label: %q", text)
	}
	if _, _, ok := (Scale{}).Start(1 << 62); ok {
		t.Error("no film is that long")
	}
}
