package rtsp

import (
	"errors"
	"testing"
	"time"
)

const unset = time.Duration(-1)

func value(d *time.Duration) time.Duration {
	if d == nil {
		return unset
	}
	return *d
}

func TestParseRange(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	tests := []struct {
		in, unit   string
		start, end time.Duration
		now        bool
		moved      string // WithStart of 45 s; "" when unchanged
		startText  string
	}{
		{"npt=45-", "npt", ms(45000), unset, false, "npt=45.000-", "45"},
		{"npt=0.000-", "npt", 0, unset, false, "npt=45.000-", "0.000"},
		{"npt=0-180.032", "npt", 0, ms(180032), false, "npt=45.000-180.032", "0"},
		{"npt=22.856967007-", "npt", 22856967007, unset, false, "npt=45.000-", "22.856967007"},
		{"npt=11.91084874-180.032", "npt", 11910848740, ms(180032), false, "npt=45.000-180.032", "11.91084874"},
		{"npt=45.000000-", "npt", ms(45000), unset, false, "npt=45.000-", "45.000000"},
		{"npt=now-", "npt", unset, unset, true, "", "now"},
		{"npt=NOW-60", "npt", unset, ms(60000), true, "", "NOW"},
		{"npt= 0-", "npt", 0, unset, false, "npt= 45.000-", "0"},
		{" npt = 0 - 180.032 ", "npt", 0, ms(180032), false, " npt = 45.000 - 180.032 ", "0"},
		{"NPT=5-", "npt", ms(5000), unset, false, "NPT=45.000-", "5"},
		{"npt=0:01:02.5-", "npt", ms(62500), unset, false, "npt=45.000-", "0:01:02.5"},
		{"npt=12:05:35.3-12:06:00", "npt", ms(43535300), ms(43560000), false, "npt=45.000-12:06:00", "12:05:35.3"},
		{"npt=-20", "npt", unset, ms(20000), false, "npt=45.000-20", ""},
		{"npt= -20", "npt", unset, ms(20000), false, "npt= 45.000-20", ""},
		{"npt=5.-.5", "npt", ms(5000), ms(500), false, "npt=45.000-.5", "5."},
		{"npt=-", "npt", unset, unset, false, "npt=45.000-", ""},
		{"npt=30-;time=19970123T143720Z", "npt", ms(30000), unset, false, "npt=45.000-;time=19970123T143720Z", "30"},
		{"npt=30-60, npt=70-", "npt", ms(30000), ms(60000), false, "npt=45.000-60, npt=70-", "30"},
		{"npt=1.1234567899-", "npt", 1123456789, unset, false, "npt=45.000-", "1.1234567899"},
		{"clock=19961108T142300Z-", "clock", unset, unset, false, "", "19961108T142300Z"},
		{"smpte=10:07:00-10:07:33:05.01", "smpte", 36419916866666, 36453117033000, false, "smpte=00:00:44:28-10:07:33:05.01", "10:07:00"},
		{"smpte-25=10:07:00-10:07:33:05.01", "smpte-25", ms(36420000), 36453*time.Second + 200400000, false, "smpte-25=00:00:45:00-10:07:33:05.01", "10:07:00"},
		{"smpte-30=0:0:1:15-", "smpte-30", ms(1500), unset, false, "smpte-30=00:00:45:00-", "0:0:1:15"},
		{"smpte-30-drop=0:0:1:15-", "smpte-30-drop", 1501500 * time.Microsecond, unset, false, "smpte-30-drop=00:00:44:28-", "0:0:1:15"},
		{"smpte-fast=0:0:1-", "smpte-fast", unset, unset, false, "", ""},
		{"bytes=0-", "bytes", unset, unset, false, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			r, err := ParseRange(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			end := value(r.End)
			if tt.unit == UnitSMPTE && end != unset {
				end = end.Truncate(time.Microsecond)
			}
			if r.Unit != tt.unit || value(r.Start) != tt.start || end != tt.end || r.Now != tt.now || r.StartText() != tt.startText {
				t.Errorf("got %q %v-%v now %v start %q", r.Unit, value(r.Start), value(r.End), r.Now, r.StartText())
			}
			if r.String() != tt.in {
				t.Errorf("written %q", r.String())
			}
			moved := tt.moved
			if moved == "" {
				moved = tt.in
			}
			if got, _, ok := r.WithStart(Scale{}, 45*time.Second); got != moved || ok != (tt.moved != "") {
				t.Errorf("moved %q, want %q", got, moved)
			}
		})
	}
}

func TestParseRangeClock(t *testing.T) {
	r, err := ParseRange("clock=19961108T142300Z-19961108T143520.25Z")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(1996, 11, 8, 14, 23, 0, 0, time.UTC)
	end := time.Date(1996, 11, 8, 14, 35, 20, 250e6, time.UTC)
	if !r.StartClock.Equal(start) || !r.EndClock.Equal(end) {
		t.Errorf("got %v - %v", r.StartClock, r.EndClock)
	}
	built := Range{Unit: UnitClock, StartClock: start, EndClock: start.Add(time.Minute)}
	if got := built.String(); got != "clock=19961108T142300Z-19961108T142400Z" {
		t.Errorf("written %q", got)
	}
}

func TestParseRangeErrors(t *testing.T) {
	for _, in := range []string{
		"", "npt", "=0-", "npt=", "npt=5", "npt=x-", "npt=5-x", "npt=0:5-", "npt=1:2:3:4-", "npt=.-", "npt=1.2.3-",
		"npt=99999999999-", "npt=9999999:0:0-", "npt=+5-", "npt=5--6", "clock=1996-", "clock=19961108T142300Z-x",
		"smpte=5-", "smpte=1:2:3.4-", "smpte=1:2:3:x-", "smpte=1:2:3:4:5-", "smpte=1:2:3:5000000-",
	} {
		var herr *HeaderError
		if r, err := ParseRange(in); !errors.As(err, &herr) {
			t.Errorf("%q: %+v, %v", in, r, err)
		}
	}
}

func TestRangeBuilt(t *testing.T) {
	start, end := 44064*time.Millisecond, 180032*time.Millisecond
	r := Range{Unit: UnitNPT, Start: &start, End: &end}
	if got := r.String(); got != "npt=44.064-180.032" {
		t.Errorf("written %q", got)
	}
	if got, _, _ := r.WithStart(Scale{}, 45*time.Second); got != "npt=45.000-180.032" {
		t.Errorf("moved %q", got)
	}
	if got := (Range{Unit: UnitNPT, Now: true}).String(); got != "npt=now-" {
		t.Errorf("live %q", got)
	}
	if got, _, _ := (Range{Unit: UnitNPT}).WithStart(Scale{}, time.Second); got != "npt=1.000-" {
		t.Errorf("empty %q", got)
	}
	if got := (Range{}).StartText(); got != "" {
		t.Errorf("zero value %q", got)
	}
}

func TestFormatNPT(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.000", 45 * time.Second: "45.000", 44064 * time.Millisecond: "44.064",
		499 * time.Microsecond: "0.000", 500 * time.Microsecond: "0.001", 999999 * time.Microsecond: "1.000",
		-time.Second: "0.000", 100 * time.Hour: "360000.000",
	} {
		if got := FormatNPT(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
		if d >= 0 {
			if back, ok := ParseNPT(FormatNPT(d)); !ok || back != d.Round(time.Millisecond) {
				t.Errorf("%v comes back as %v", d, back)
			}
		}
	}
}
