package tracer

import (
	"bufio"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
)

// TestMMSExample follows the worked example of the grammar's test data, message by message.
func TestMMSExample(t *testing.T) {
	f, err := os.Open("mms/testdata/example.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := &watcher{}
	d := NewDecoder(Config{AnyPort: true}, sessionSink{w})
	at := time.Unix(1000, 0)
	name := ""
	var raw []byte
	var shown []string
	hand := func() {
		if n := strings.Fields(name); len(n) > 1 && n[0][0] != 'V' && len(raw) > 0 {
			dir := bpf.ToServer
			if n[1] == "S>C" {
				dir = bpf.ToTerminal
			}
			d.Stream(mmsFlow(), dir, raw, at)
			at = at.Add(time.Second)
		}
		raw = nil
	}
	for s := bufio.NewScanner(f); s.Scan(); {
		if n, _, ok := strings.Cut(s.Text(), " | "); ok {
			hand()
			if name = n; strings.HasPrefix(name, "V1.") || strings.HasPrefix(name, "packet") {
				break
			}
			continue
		}
		b, _ := hex.DecodeString(strings.ReplaceAll(s.Text(), " ", ""))
		raw = append(raw, b...)
	}
	for _, r := range w.records {
		if p := r.Position; len(shown) == 0 || shown[len(shown)-1] != string(r.State) {
			shown = append(shown, string(r.State))
			if r.State == session.Paused && (p == nil || *p.NPT != 1.5 || p.Source != session.SourceMedia) {
				t.Errorf("paused at %+v", p)
			}
		}
	}
	if got := strings.Join(shown, " "); got != "setup playing paused ended" {
		t.Error(got)
	}
	r := w.records[len(w.records)-1]
	if *r.URL != "mms://192.0.2.10/vod/a.asf" || *r.Duration != 3 || !r.Seekable || len(r.Tracks) != 1 || r.Tracks[0].Codec != "PCM" {
		t.Errorf("%+v", r)
	}
}
