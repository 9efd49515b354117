package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"scas/session"
)

// described is openapi.yaml, read.
type described map[string]any

func readDescription(t *testing.T) described {
	t.Helper()
	var d described
	if err := yaml.Unmarshal(openapiYAML, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// find returns what is below names; a $ref is followed.
func (d described) find(at map[string]any, names ...string) (map[string]any, bool) {
	for _, name := range names {
		next, ok := at[name].(map[string]any)
		if !ok {
			return nil, false
		}
		at = next
		if ref, ok := at["$ref"].(string); ok {
			if at, ok = d.find(d, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...); !ok {
				return nil, false
			}
		}
	}
	return at, true
}

// check reports where v, which JSON gave, is not what schema says. Fields that schema does not
// name are wrong as well.
func (d described) check(path string, schema map[string]any, v any) (wrong []string) {
	if ref, ok := schema["$ref"].(string); ok {
		schema, _ = d.find(d, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
	if all, ok := schema["allOf"].([]any); ok && v != nil {
		for _, part := range all {
			wrong = append(wrong, d.check(path, part.(map[string]any), v)...)
		}
		return wrong
	}
	if v == nil {
		if schema["nullable"] != true {
			wrong = append(wrong, path+" is null")
		}
		return wrong
	}
	bad := func(ok bool) []string {
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s is %v, no %v", path, v, schema["type"]))
		}
		return wrong
	}
	switch schema["type"] {
	case "object":
		fields, ok := v.(map[string]any)
		if !ok {
			return bad(false)
		}
		return d.checkFields(path, schema, fields)
	case "array":
		items, ok := v.([]any)
		for i, item := range items {
			wrong = append(wrong, d.check(fmt.Sprintf("%s[%d]", path, i), schema["items"].(map[string]any), item)...)
		}
		return bad(ok)
	case "string":
		s, ok := v.(string)
		if words, limited := schema["enum"].([]any); limited {
			ok = ok && slices.Contains(words, any(s))
		}
		if schema["format"] == "date-time" {
			_, err := time.Parse(time.RFC3339Nano, s)
			ok = ok && err == nil
		}
		return bad(ok)
	case "integer", "number":
		f, ok := v.(float64)
		return bad(ok && (schema["type"] == "number" || f == float64(int64(f))))
	case "boolean":
		_, ok := v.(bool)
		return bad(ok)
	}
	return bad(false)
}

func (d described) checkFields(path string, schema, fields map[string]any) (wrong []string) {
	properties, _ := schema["properties"].(map[string]any)
	for name, v := range fields {
		p, ok := properties[name].(map[string]any)
		if !ok {
			wrong = append(wrong, path+"."+name+" is not described")
			continue
		}
		wrong = append(wrong, d.check(path+"."+name, p, v)...)
	}
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := fields[name.(string)]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s.%s is missing", path, name))
		}
	}
	return wrong
}

// bare is a record of which nothing is known but what always is.
func bare() session.Record {
	at := time.Date(2026, 7, 1, 20, 15, 30, 0, time.UTC)
	r := fullRecord()
	return session.Record{ID: "s2", Gateway: "gw1", Terminal: r.Terminal, Protocol: session.RTSP, Transport: session.TransportUnknown,
		State: session.Setup, Started: at, Updated: at}
}

// TestAnswersAreAsDescribed asks every route of openapi.yaml, rightly and wrongly, and holds the
// answer against its schema: status, content type, each field.
func TestAnswersAreAsDescribed(t *testing.T) {
	d := readDescription(t)
	w := newWorld()
	rec, moved := fullRecord(), fullTransfer()
	w.history = &fakeHistory{entries: []Entry{
		{At: rec.Started, Event: "play", Gateway: "gw1", AoR: rec.AoR, Session: &rec}, {At: rec.Updated, Event: "transfer", Gateway: "gw1", Transfer: &moved}}}
	w.terminals = append(w.terminals, Terminal{Name: "bare", Source: "register"})
	_, hs := serve(t, w, Config{}, true)
	orders := []string{`{"session":"s1","to":"tv"}`, `{"session":"s1","to":"fridge"}`, `{"session":"s1","to":"10.10.1.4"}`, `{`,
		`{"session":"s1","to":"tv","mode":"retarget"}`}
	seen := map[string]bool{}
	ask := func(method, path, route, body string, headers ...string) {
		t.Helper()
		resp := do(t, method, hs.URL+path, body, headers...)
		seen[fmt.Sprintf("%s %s %d", method, route, resp.StatusCode)] = true
		operation, ok := d.find(d, "paths", route, strings.ToLower(method))
		if !ok {
			t.Fatalf("%s %s is not described", method, route)
		}
		answers, _ := d.find(operation, "responses")
		answer, ok := d.find(answers, fmt.Sprint(resp.StatusCode))
		if !ok {
			t.Errorf("%s %s: %s is not described", method, path, resp.Status)
			return
		}
		kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
		content, ok := d.find(answer, "content", kind)
		if !ok {
			t.Errorf("%s %s: %s with content type %q", method, path, resp.Status, kind)
			return
		}
		raw, _ := io.ReadAll(resp.Body)
		var v any
		if err := json.Unmarshal(raw, &v); kind != "application/json" || err != nil {
			if kind == "application/json" || len(raw) == 0 {
				t.Errorf("%s %s: %v %s", method, path, err, raw)
			}
			return
		}
		for _, wrong := range d.check("", content["schema"].(map[string]any), v) {
			t.Errorf("%s %s: %s", method, path, wrong)
		}
	}
	asJSON := "Content-Type: application/json"
	for _, full := range []bool{false, true} {
		if full {
			w.Put(rec)
			w.Put(bare())
			w.PutTransfer(moved)
			w.PutTransfer(session.Transfer{ID: "t2", State: session.Armed, Trigger: session.Push, From: rec.Terminal, To: rec.Terminal})
		}
		paths, _ := d.find(d, "paths")
		for route := range paths {
			operations, _ := d.find(paths, route)
			if _, ok := operations["get"]; ok && route != "/v1/events" {
				for _, id := range []string{"s1", "s2", "t1", "none"} {
					ask("GET", strings.ReplaceAll(route, "{id}", id), route, "")
				}
			}
		}
		ask("GET", "/v1/log?event=nothing", "/v1/log", "")
		for _, body := range orders {
			ask("POST", "/v1/transfers", "/v1/transfers", body, asJSON)
		}
		ask("POST", "/v1/transfers", "/v1/transfers", orders[0], "Content-Type: text/plain")
		ask("DELETE", "/v1/transfers/t2", "/v1/transfers/{id}", "")
		w.cancErr = &session.OrderError{Reason: session.DaemonRestart, Text: "gone"}
		ask("DELETE", "/v1/transfers/t2", "/v1/transfers/{id}", "")
		w.cancErr = nil
	}
	w.ready = io.EOF
	ask("GET", "/readyz", "/readyz", "")
	for _, want := range []string{"GET /v1/sessions/{id} 200", "GET /v1/sessions/{id} 404", "GET /v1/log 400", "GET /readyz 503", "POST /v1/transfers 201",
		"POST /v1/transfers 400", "POST /v1/transfers 403", "POST /v1/transfers 404", "POST /v1/transfers 415", "POST /v1/transfers 501",
		"DELETE /v1/transfers/{id} 200", "DELETE /v1/transfers/{id} 404", "DELETE /v1/transfers/{id} 503"} {
		if !seen[want] {
			t.Errorf("%s was not asked", want)
		}
	}
}

// TestEventsAreAsDescribed: what a stream of events brings are the same records.
func TestEventsAreAsDescribed(t *testing.T) {
	d := readDescription(t)
	w := newWorld()
	_, hs := serve(t, w, Config{}, true)
	ch := follow(t, hs.URL+"/v1/events")
	w.Put(bare())
	w.PutTransfer(fullTransfer())
	for _, name := range []string{"Session", "Transfer"} {
		e := next(t, ch)
		var v any
		if err := json.Unmarshal([]byte(e.data), &v); err != nil || e.event != strings.ToLower(name) {
			t.Fatalf("%v %+v", err, e)
		}
		schema, _ := d.find(d, "components", "schemas", name)
		for _, wrong := range d.check(name, schema, v) {
			t.Error(wrong)
		}
	}
}

// TestSchemaCheck: the check itself finds what is wrong.
func TestSchemaCheck(t *testing.T) {
	d := readDescription(t)
	schema, _ := d.find(d, "components", "schemas", "Session")
	raw, err := encodeRecord(fullRecord())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(map[string]any){
		"as it is": func(map[string]any) {}, "missing": func(m map[string]any) { delete(m, "lossy") },
		"null": func(m map[string]any) { m["state"] = nil }, "not described": func(m map[string]any) { m["more"] = 1.0 },
		"time": func(m map[string]any) { m["started"] = "yesterday" }, "word": func(m map[string]any) { m["state"] = "idle" },
		"below": func(m map[string]any) { delete(m["position"].(map[string]any), "at") },
	} {
		var v map[string]any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		change(v)
		if wrong := d.check("", schema, v); (len(wrong) == 0) != (name == "as it is") {
			t.Errorf("%s: %q", name, wrong)
		}
	}
}

// TestMetricsConventions holds /metrics against Prometheus' own rules.
func TestMetricsConventions(t *testing.T) {
	w := newWorld()
	w.Put(fullRecord())
	s, _ := serve(t, w, Config{Version: "1.2.3"}, true)
	rec := httptest.NewRecorder()
	s.handler(true).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	problems, err := promlint.New(bytes.NewReader(rec.Body.Bytes())).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", err, problems)
	}
}
