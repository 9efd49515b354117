package bpf

import "testing"

// TestProbe: where the other tests run, everything required is there, and asking leaves nothing.
func TestProbe(t *testing.T) {
	l := newLab(t)
	before := l.gw.state()
	var features []Feature
	must(t, l.gw.do(func() error {
		features = Probe()
		return nil
	}))
	names := make(map[string]bool)
	for _, f := range features {
		if names[f.Name] {
			t.Errorf("%s is there twice", f.Name)
		}
		names[f.Name] = true
		if !f.OK && (f.Required || f.Hint == "") {
			t.Errorf("%+v", f)
		}
		t.Logf("%-18s ok=%-5v required=%-5v %s %s", f.Name, f.OK, f.Required, f.Detail, f.Hint)
	}
	sameState(t, before, l.gw.state())
}
