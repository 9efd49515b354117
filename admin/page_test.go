package admin

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"scas/session"
)

func TestPage(t *testing.T) {
	w := newWorld()
	w.Put(fullRecord())
	hostile := fullRecord()
	hostile.ID, hostile.URL = "s2", session.Ptr(`rtsp://m/<script>alert(1)</script>"'`)
	w.Put(hostile)
	w.PutTransfer(fullTransfer())
	_, hs := serve(t, w, Config{Version: "1.2.3"}, false)
	resp := do(t, "GET", hs.URL+"/", "")
	raw, _ := io.ReadAll(resp.Body)
	text := string(raw)
	for _, want := range []string{"1.2.3", "rtsp://media.example/film", "0:01:01.3", "1:30:00.5", "server-refused:453", "EventSource", "10.10.1.3", "3.5 s", "phone → tv", "2026-07-01", "of 1:30:00.5"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(text, "%!") || strings.Contains(text, "ZgotmplZ") {
		t.Error("a value cannot be printed")
	}
	if strings.Contains(text, "<script>alert") {
		t.Error("markup of a stranger")
	}
	if m := regexp.MustCompile(`(?i)(src|href)\s*=|@import|url\(`).FindString(text); m != "" {
		t.Errorf("not self-contained: %q", m)
	}
	policy := resp.Header.Get("Content-Security-Policy")
	nonce := regexp.MustCompile(`script-src 'nonce-([A-Z0-9]+)'`).FindStringSubmatch(policy)
	if nonce == nil || strings.Count(text, `nonce="`+nonce[1]+`"`) != 2 {
		t.Errorf("policy %q", policy)
	}
	if resp := do(t, "GET", hs.URL+"/index.html", ""); resp.StatusCode != 404 {
		t.Error(resp.Status)
	}
}

func TestMetrics(t *testing.T) {
	w := newWorld()
	r := fullRecord()
	w.Put(r)
	w.PutTransfer(fullTransfer())
	_, hs := serve(t, w, Config{Version: "1.2.3"}, false)
	for range 2 { // a second scrape says the same
		raw, _ := io.ReadAll(do(t, "GET", hs.URL+"/metrics", "").Body)
		for _, want := range []string{
			`scas_build_info{goversion="go`, `version="1.2.3"} 1`, `scas_sessions{state="playing"} 1`, `scas_sessions{state="ended"} 0`,
			`scas_transfers{state="failed"} 1`, `scas_transfers{state="armed"} 0`, "scas_bpf_ring_overflow_total 3",
			"scas_bpf_map_full_flows_total 1", "\nscas_bpf_subscribers 2",
			"TYPE scas_bpf_subscribers gauge", "TYPE scas_bpf_ring_overflow_total counter", "scas_admin_requests_total ", "scas_sessions_steered 1", "scas_terminals 5", "go_goroutines",
		} {
			if !strings.Contains(string(raw), want) {
				t.Errorf("%q is missing in\n%s", want, raw)
			}
		}
		for _, secret := range []string{"bob", "10.10.1", "film", "phone"} {
			if strings.Contains(string(raw), secret) {
				t.Errorf("metrics say %q", secret)
			}
		}
	}
	// Two servers in one process do not meet in a registry.
	_, other := serve(t, newWorld(), Config{}, false)
	if resp := do(t, "GET", other.URL+"/metrics", ""); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}
