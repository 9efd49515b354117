package rtsp

import (
	"testing"
	"time"
)

func TestSessionHeader(t *testing.T) {
	tests := []struct {
		in, id  string
		timeout time.Duration
		out     string
	}{
		{"YY4XzwVWzIBf1Qbd", "YY4XzwVWzIBf1Qbd", 0, "YY4XzwVWzIBf1Qbd"},
		{"3e53b320fdc37488;timeout=60", "3e53b320fdc37488", time.Minute, "3e53b320fdc37488;timeout=60"},
		{" uY2z+81RZgrGdqVS ; Timeout = 20 ;x", "uY2z+81RZgrGdqVS", 20 * time.Second, "uY2z+81RZgrGdqVS;timeout=20"},
		{`a;timeout="55"`, "a", 55 * time.Second, "a;timeout=55"},
		{"a;timeout=", "a", 0, "a"},
		{"a;timeout=-5", "a", 0, "a"},
	}
	for _, tt := range tests {
		s, err := ParseSession(tt.in)
		if err != nil || s.ID != tt.id || s.Timeout != tt.timeout || s.String() != tt.out {
			t.Errorf("%q: %+v, %v", tt.in, s, err)
		}
	}
	for _, in := range []string{"", " ", ";timeout=60"} {
		if s, err := ParseSession(in); err == nil {
			t.Errorf("%q: %+v", in, s)
		}
	}
}
