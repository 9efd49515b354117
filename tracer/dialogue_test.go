package tracer

import (
	"bufio"
	"compress/gzip"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"scas/session"
)

// change is a change of state, seconds after the first packet.
type change struct {
	at    float64
	state session.State
}

// transcript is what a signalling transcript says happened to the sessions of a capture.
type transcript struct {
	ids    map[string][]change // Session id -> changes
	tracks map[string]int
	url    string // of the last DESCRIBE that was answered 200
	agent  string
	t0     float64 // Unix time of what the transcript counts from
}

type asked struct {
	method, url, session string
}

// readTranscript follows a transcript line by line: it is an independent reading of the same
// bytes, made by another program.
func readTranscript(t *testing.T, name string) transcript {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata/rtsp", name+".txt.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^ *([0-9.]+)  ([CS])>[CS] #(\d+) (.*)$`)
	header := regexp.MustCompile(`(?i)^ +(cseq|session|user-agent): *([^;]*)`)
	x := transcript{ids: map[string][]change{}, tracks: map[string]int{}}
	pending := map[string]asked{}
	var cur struct {
		at                    float64
		from, conn, first     string
		cseq, session, agents string
	}
	flush := func() {
		if cur.first == "" {
			return
		}
		key := cur.conn + "/" + cur.cseq
		words := strings.Fields(cur.first)
		switch {
		case cur.from == "C" && strings.HasSuffix(cur.first, "RTSP/1.0"), cur.from == "C" && strings.HasSuffix(cur.first, "RTSP/2.0"):
			pending[key] = asked{words[0], words[1], cur.session}
			if cur.agents != "" {
				x.agent = cur.agents
			}
		case cur.from == "S" && strings.HasPrefix(cur.first, "RTSP/"):
			x.answered(pending[key], words[1], cur.session, cur.at)
		}
		cur.first = ""
	}
	s := bufio.NewScanner(z)
	for s.Scan() {
		if v, ok := strings.CutPrefix(s.Text(), "# t0 = "); ok {
			x.t0, _ = strconv.ParseFloat(strings.Fields(v)[0], 64)
		}
		if m := line.FindStringSubmatch(s.Text()); m != nil {
			flush()
			cur.at, _ = strconv.ParseFloat(m[1], 64)
			cur.from, cur.conn, cur.first = m[2], m[3], m[4]
			cur.cseq, cur.session, cur.agents = "", "", ""
			if strings.HasPrefix(cur.first, "TCP") {
				cur.first = ""
			}
			continue
		}
		if m := header.FindStringSubmatch(s.Text()); m != nil {
			v := strings.TrimSpace(m[2])
			switch strings.ToLower(m[1]) {
			case "cseq":
				cur.cseq = v
			case "session":
				cur.session = v
			case "user-agent":
				if cur.agents == "" {
					cur.agents = v
				}
			}
		}
	}
	flush()
	return x
}

func (x *transcript) answered(r asked, status, id string, at float64) {
	if id == "" {
		id = r.session
	}
	if status != "200" || r.method == "" {
		return
	}
	add := func(s session.State) {
		if c := x.ids[id]; len(c) > 0 && c[len(c)-1].state == s && s == session.Setup {
			return
		}
		x.ids[id] = append(x.ids[id], change{at, s})
	}
	switch r.method {
	case "DESCRIBE":
		x.url = r.url
	case "SETUP":
		x.tracks[id]++
		add(session.Setup)
	case "PLAY":
		add(session.Playing)
	case "PAUSE":
		add(session.Paused)
	case "TEARDOWN":
		add(session.Ended)
	}
}

// TestDialogueOnCaptures compares sessions, URLs, states, seeks, pauses and tracks with the
// transcripts.
func TestDialogueOnCaptures(t *testing.T) {
	for _, name := range captures(t) {
		if strings.HasPrefix(name, "gsttls") || strings.Contains(name, "-http-") {
			continue // opaque: see TestOpaqueCaptures
		}
		t.Run(name, func(t *testing.T) {
			want := readTranscript(t, name)
			w, _ := replay(t, name, Config{AnyPort: true}, nil, nil)
			byStart := map[string][]session.Record{}
			var order []string
			for _, r := range w.records {
				if _, ok := byStart[r.ID]; !ok {
					order = append(order, r.ID)
				}
				byStart[r.ID] = append(byStart[r.ID], r)
			}
			if len(order) != len(want.ids) {
				t.Fatalf("%d sessions, want %d", len(order), len(want.ids))
			}
			for _, id := range order {
				compareSession(t, name, byStart[id], want, w.d.byID[id].key.id)
			}
		})
	}
}

func compareSession(t *testing.T, name string, recs []session.Record, want transcript, rtspID string) {
	t.Helper()
	last := recs[len(recs)-1]
	if last.URL == nil || *last.URL != want.url {
		t.Errorf("url %v, want %s", last.URL, want.url)
	}
	if last.UserAgent == nil || *last.UserAgent != want.agent && !strings.Contains(name, "mplayer") {
		t.Errorf("user agent %v, want %s", last.UserAgent, want.agent)
	}
	if len(last.Tracks) != want.tracks[rtspID] {
		t.Errorf("%d tracks, want %d", len(last.Tracks), want.tracks[rtspID])
	}
	var got []change
	var state session.State
	var play float64
	for _, r := range recs {
		at := float64(r.Updated.UnixMicro())/1e6 - want.t0
		if r.State != state || r.State == session.Playing && at-play > 0.001 && isPlay(want.ids[rtspID], at) {
			got = append(got, change{at, r.State})
			state, play = r.State, at
		}
	}
	expected := want.ids[rtspID]
	for i, e := range expected {
		if i < len(got) && e.state == session.Ended && got[i].at < e.at {
			got[i].at = max(got[i].at, min(e.at, got[i].at+0.01)) // the terminal's FIN came before the reply
		}
		if i >= len(got) || got[i].state != e.state || math.Abs(got[i].at-e.at) > 0.002 {
			t.Fatalf("changes %v, want %v", got, expected)
		}
	}
	if extra := got[len(expected):]; len(extra) > 1 || len(extra) == 1 && extra[0].state != session.Ended {
		t.Errorf("more happened than the transcript says: %v", extra) // an end by FIN or RST is no reply
	}
}

func isPlay(all []change, at float64) bool {
	for _, c := range all {
		if c.state == session.Playing && math.Abs(c.at-at) < 0.002 {
			return true
		}
	}
	return false
}

func TestOpaqueCaptures(t *testing.T) {
	for name, want := range map[string]session.Protocol{
		"gsttls-gst-tcp-start": session.RTSPS,
		"l5-ffplay-http-start": session.RTSPHTTP,
	} {
		w, _ := replay(t, name, Config{AnyPort: true}, nil, nil)
		if len(w.records) == 0 {
			t.Errorf("%s: nothing shown", name)
			continue
		}
		ids := map[string]bool{}
		for _, r := range w.records {
			ids[r.ID] = true
			if r.Protocol != want || !r.Opaque || r.Position != nil {
				t.Errorf("%s: %s opaque %v position %v", name, r.Protocol, r.Opaque, r.Position)
			}
		}
		if len(ids) != 1 {
			t.Errorf("%s: %d sessions, want 1", name, len(ids))
		}
	}
}
