package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"math"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"scas/session"
)

func update() bool { return flag.Lookup("update").Value.String() == "true" }

func TestMain(m *testing.M) {
	flag.Bool("update", false, "rewrite the golden files")
	flag.Parse()
	os.Exit(m.Run())
}

func fullRecord() session.Record {
	at := time.Date(2026, 7, 1, 20, 15, 30, 123456789, time.UTC)
	return session.Record{
		ID: "s1", Gateway: "gw1", AoR: session.Ptr(bob), Terminal: session.Terminal{Name: "phone", IP: netip.MustParseAddr("10.10.1.2")},
		Protocol: session.RTSP, Transport: session.UDP, URL: session.Ptr("rtsp://media.example/film"),
		Server: netip.MustParseAddrPort("192.0.2.80:554"), UserAgent: session.Ptr("Lavf60.3.100"), State: session.Playing,
		Seekable: true, Duration: session.Ptr(5400.5), Lossy: true,
		Position: &session.Position{NPT: session.Ptr(61.25), Rendered: session.Ptr(60.0), Error: 0.05, Source: session.SourceRTP, At: at},
		Tracks: []session.Track{{ID: 1, Media: "video", Codec: "H264", ClockRate: 90000, Language: session.Ptr("de"),
			SSRC: session.Ptr(uint32(4294967295)), Packets: 12, Lost: -1, Jitter: 0.002}},
		Started: at, Updated: at.Add(time.Second), Steered: true,
	}
}

func fullTransfer() session.Transfer {
	at := time.Date(2026, 7, 1, 20, 15, 30, 5, time.UTC)
	return session.Transfer{
		ID: "t1", Session: "s1", AoR: session.Ptr(bob), From: session.Terminal{Name: "phone", IP: netip.MustParseAddr("10.10.1.2")},
		To: session.Terminal{Name: "tv", IP: netip.MustParseAddr("10.10.1.3")}, Trigger: session.API, State: session.Failed,
		Reason: session.Ptr(session.ServerRefused("453")), URL: "rtsp://media.example/film", Position: session.Ptr(59.0),
		StartedAt: session.Ptr(58.0), Repeated: session.Ptr(3.5), Silence: session.Ptr(-0.5), OriginBuffered: true,
		Times: session.Times{Armed: &at, Attached: &at, Ended: &at},
	}
}

// The forms that others rely on, whole and with all that can be unknown.
func TestGoldenJSON(t *testing.T) {
	w := newWorld()
	w.Put(fullRecord())
	w.Put(session.Record{ID: "empty"})
	w.PutTransfer(fullTransfer())
	w.PutTransfer(session.Transfer{ID: "empty"})
	w.terminals = []Terminal{w.terminals[0], {Name: "bare", Source: "register"}}
	_, hs := serve(t, w, Config{}, true)
	for name, path := range map[string]string{
		"session": "/v1/sessions/s1", "session-empty": "/v1/sessions/empty", "transfer": "/v1/transfers/t1",
		"transfer-empty": "/v1/transfers/empty", "terminals": "/v1/terminals",
	} {
		t.Run(name, func(t *testing.T) {
			resp := do(t, "GET", hs.URL+path, "")
			if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
				t.Fatal(resp.Status, resp.Header)
			}
			raw, _ := io.ReadAll(resp.Body)
			var got bytes.Buffer
			if err := json.Indent(&got, raw, "", "  "); err != nil {
				t.Fatal(err)
			}
			file := "testdata/" + name + ".json"
			if update() {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%v\n%s", err, got.String())
			}
		})
	}
}

func TestReads(t *testing.T) {
	w := newWorld()
	_, hs := serve(t, w, Config{}, true)
	body := func(path string, status int) string {
		t.Helper()
		resp := do(t, "GET", hs.URL+path, "")
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != status {
			t.Errorf("%s: %s %s", path, resp.Status, b)
		}
		return strings.TrimSpace(string(b))
	}
	if got := body("/v1/sessions", 200); got != "[]" {
		t.Errorf("empty list: %q", got)
	}
	w.put("a", "10.10.1.2", session.Playing, 2)
	w.put("b", "10.10.1.3", session.Paused, 1)
	var list []session.Record
	if err := json.Unmarshal([]byte(body("/v1/sessions", 200)), &list); err != nil || len(list) != 2 || list[0].ID != "b" {
		t.Errorf("%v %+v", err, list)
	}
	// One record that JSON cannot say does not take the others away.
	bad, _ := w.Get("a")
	bad.Duration = session.Ptr(math.NaN())
	w.Put(bad)
	if err := json.Unmarshal([]byte(body("/v1/sessions", 200)), &list); err != nil || len(list) != 1 {
		t.Errorf("%v %+v", err, list)
	}
	body("/v1/sessions/a", 500)
	for path, code := range map[string]string{
		"/v1/sessions/none": "no-session", "/v1/transfers/none": "not-found", "/nothing": "not-found", "/v1": "not-found",
	} {
		if got := body(path, 404); !strings.Contains(got, `"code":"`+code+`"`) {
			t.Errorf("%s: %s", path, got)
		}
	}
	if resp := do(t, "PUT", hs.URL+"/v1/transfers", "{}", "Content-Type: application/json"); resp.StatusCode != 405 ||
		!strings.Contains(resp.Header.Get("Allow"), "POST") {
		t.Error(resp.Status, resp.Header)
	}
	body("/healthz", 200)
	body("/readyz", 200)
	w.ready = errors.New("not attached")
	if got := body("/readyz", 503); !strings.Contains(got, "not attached") {
		t.Error(got)
	}
}

// openapi.yaml lists the served routes, no more and no fewer.
func TestOpenAPI(t *testing.T) {
	w := newWorld()
	w.history = &fakeHistory{}
	s, hs := serve(t, w, Config{}, true)
	var served, listed []string
	for _, r := range s.routes() {
		served = append(served, r.method+" "+r.path)
	}
	resp := do(t, "GET", hs.URL+"/openapi.yaml", "")
	text, _ := io.ReadAll(resp.Body)
	paths := regexp.MustCompile(`(?s)\npaths:\n(.*?)\ncomponents:`).FindSubmatch(text)
	if paths == nil {
		t.Fatal("no paths")
	}
	path := ""
	for line := range strings.Lines(string(paths[1])) {
		if m := regexp.MustCompile(`^  (/\S*):$`).FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			path = m[1]
		}
		if m := regexp.MustCompile(`^    (get|post|put|delete|patch):`).FindStringSubmatch(line); m != nil {
			listed = append(listed, strings.ToUpper(m[1])+" "+path)
		}
	}
	slices.Sort(served)
	slices.Sort(listed)
	if !slices.Equal(served, listed) {
		t.Errorf("served %q\nlisted %q", served, listed)
	}
	for _, route := range served {
		method, path, _ := strings.Cut(route, " ")
		if method != "GET" || path == "/v1/events" {
			continue
		}
		if resp := do(t, method, hs.URL+strings.ReplaceAll(path, "{id}", "x"), ""); resp.StatusCode != http.StatusOK &&
			!(resp.StatusCode == 404 && strings.Contains(path, "{id}")) {
			t.Errorf("%s: %s", route, resp.Status)
		}
	}
}

// Every field of the JSON forms is described.
func TestOpenAPIFields(t *testing.T) {
	for _, file := range []string{"session", "transfer", "terminals"} {
		raw, err := os.ReadFile("testdata/" + file + ".json")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"([a-z_]+)":`).FindAllStringSubmatch(string(raw), -1) {
			if !regexp.MustCompile(`\n +` + m[1] + `:`).Match(openapiYAML) {
				t.Errorf("%s: field %s is not in openapi.yaml", file, m[1])
			}
		}
	}
}
