package admin

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"scas/session"
)

func apiCode(t *testing.T, body io.Reader) (code, text string) {
	t.Helper()
	var e struct{ Error, Code string }
	raw, _ := io.ReadAll(body)
	if err := json.Unmarshal(raw, &e); err != nil || e.Error == "" {
		t.Fatalf("not the form of an error: %q (%v)", raw, err)
	}
	return e.Code, e.Error
}

func TestPostTransferBodies(t *testing.T) {
	const asJSON = "Content-Type: application/json"
	tests := map[string]struct {
		body, ctype string
		status      int
		code        string
	}{
		"good":                 {`{"session":"a","to":"tv"}`, asJSON, 201, ""},
		"good, charset":        {`{"session":"a","to":"tv","mode":"resume"}`, asJSON + "; charset=utf-8", 201, ""},
		"nulls":                {`{"session":"a","to":"tv","mode":null}`, asJSON, 201, ""},
		"empty":                {``, asJSON, 400, "bad-request"},
		"no object":            {`[]`, asJSON, 400, "bad-request"},
		"cut":                  {`{"session":"a","to":"t`, asJSON, 400, "bad-request"},
		"twice":                {`{"session":"a","to":"tv"}{}`, asJSON, 400, "bad-request"},
		"rubbish behind":       {`{"session":"a","to":"tv"} x`, asJSON, 400, "bad-request"},
		"unknown field":        {`{"session":"a","to":"tv","x":1}`, asJSON, 400, "bad-request"},
		"wrong type":           {`{"session":1,"to":"tv"}`, asJSON, 400, "bad-request"},
		"no target":            {`{"session":"a"}`, asJSON, 400, "bad-request"},
		"bad mode":             {`{"session":"a","to":"tv","mode":"beam"}`, asJSON, 400, "bad-request"},
		"deep":                 {strings.Repeat("[", 3000), asJSON, 400, "bad-request"},
		"huge":                 {`{"session":"` + strings.Repeat("a", 1<<20) + `"}`, asJSON, 400, "bad-request"},
		"retarget":             {`{"session":"a","to":"tv","mode":"retarget"}`, asJSON, 501, "unsupported"},
		"form of another page": {`{"session":"a","to":"tv"}`, "Content-Type: text/plain", 415, "bad-request"},
		"no content type":      {`{"session":"a","to":"tv"}`, "Content-Type: ", 415, "bad-request"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.put("a", "10.10.1.2", session.Playing, 1)
			_, hs := serve(t, w, Config{}, true)
			resp := do(t, "POST", hs.URL+"/v1/transfers", tt.body, tt.ctype)
			if resp.StatusCode != tt.status {
				t.Fatal(resp.Status)
			}
			if tt.status == 201 {
				if resp.Header.Get("Location") != "/v1/transfers/t1" {
					t.Error(resp.Header)
				}
				return
			}
			code, text := apiCode(t, resp.Body)
			if code != tt.code || strings.Contains(text, "json:") || strings.Contains(text, "Go ") || strings.Contains(text, "EOF") {
				t.Error(code, text)
			}
			if len(w.orders) != 0 {
				t.Errorf("ordered %+v", w.orders)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	type sess struct {
		id, ip  string
		state   session.State
		started int
	}
	playing := sess{"a", "10.10.1.2", session.Playing, 1}
	tests := map[string]struct {
		sessions    []sess
		session, to string
		status      int
		code        string
		wantSession string
		wantIP      string
	}{
		"by name":                  {[]sess{playing}, "a", "tv", 201, "", "a", "10.10.1.3"},
		"by name, any case":        {[]sess{playing}, "a", "TV", 201, "", "a", "10.10.1.3"},
		"by address":               {[]sess{playing}, "a", "10.10.1.3", 201, "", "a", "10.10.1.3"},
		"by mapped address":        {[]sess{playing}, "a", "::ffff:10.10.1.3", 201, "", "a", "10.10.1.3"},
		"by address of its prefix": {[]sess{playing}, "a", "fd00:1::99", 201, "", "a", "fd00:1::99"},
		"by contact":               {[]sess{playing}, "a", "sip:bob@10.10.1.3:5060;transport=tcp", 201, "", "a", "10.10.1.3"},
		"by contact, IPv6":         {[]sess{playing}, "a", "sip:[fd00:1::2]:5060", 201, "", "a", "fd00:1::2"},
		"by user, two left":        {[]sess{playing}, "a", bob, 400, "bad-request", "", ""},
		"another's address":        {[]sess{playing}, "a", "10.10.1.4", 403, "not-allowed", "", ""},
		"another's name":           {[]sess{playing}, "a", "tablet", 404, "not-found", "", ""},
		"unknown name":             {[]sess{playing}, "a", "fridge", 404, "not-found", "", ""},
		"stranger's address":       {[]sess{playing}, "a", "10.10.9.9", 404, "not-found", "", ""},
		"unknown session":          {[]sess{playing}, "zz", "tv", 404, "no-session", "", ""},
		"no session named":         {[]sess{playing}, "", "10.10.1.3", 201, "", "", "10.10.1.3"},
		"no session, name of one":  {[]sess{playing}, "", "tablet", 201, "", "", "10.10.1.4"},
		"no session, name of two":  {[]sess{playing}, "", "tv", 400, "bad-request", "", ""},
		"no session, unknown":      {[]sess{playing}, "", "fridge", 404, "not-found", "", ""},
		"no session, user of two":  {[]sess{playing}, "", alice, 400, "bad-request", "", ""},
		"by user, one left":        {[]sess{{"p", "10.10.1.4", session.Playing, 1}}, "p", alice, 201, "", "p", "10.10.1.5"},
		"by user, another's":       {[]sess{playing}, "a", alice, 403, "not-allowed", "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			for _, s := range tt.sessions {
				w.put(s.id, s.ip, s.state, s.started)
			}
			_, hs := serve(t, w, Config{}, true)
			body, _ := json.Marshal(map[string]string{"session": tt.session, "to": tt.to})
			resp := do(t, "POST", hs.URL+"/v1/transfers", string(body), "Content-Type: application/json")
			if resp.StatusCode != tt.status {
				raw, _ := io.ReadAll(resp.Body)
				t.Fatal(resp.Status, string(raw))
			}
			if tt.status != 201 {
				if code, _ := apiCode(t, resp.Body); code != tt.code {
					t.Error(code)
				}
				return
			}
			o := w.orders[0]
			if o.Session != tt.wantSession || o.To.IP.String() != tt.wantIP || o.Trigger != session.API || o.To.Name == "" {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestOrderErrors(t *testing.T) {
	for reason, status := range map[session.Reason]int{
		session.NoSession: 404, session.NotAllowed: 403, session.SameTerminal: 409, session.Busy: 409,
		session.Unsupported: 501, session.NotSeekable: 409, session.Offline: 404, session.DaemonRestart: 503, session.OriginEnded: 409,
	} {
		w := newWorld()
		w.put("a", "10.10.1.2", session.Playing, 1)
		w.moveErr = &session.OrderError{Reason: reason, Text: "because"}
		_, hs := serve(t, w, Config{}, true)
		resp := do(t, "POST", hs.URL+"/v1/transfers", `{"session":"a","to":"tv"}`, "Content-Type: application/json")
		if code, text := apiCode(t, resp.Body); resp.StatusCode != status || code != string(reason) || text != "because" {
			t.Errorf("%s: %s %q %q", reason, resp.Status, code, text)
		}
	}
	w := newWorld()
	w.put("a", "10.10.1.2", session.Playing, 1)
	w.moveErr = errors.New("secret detail")
	_, hs := serve(t, w, Config{}, true)
	resp := do(t, "POST", hs.URL+"/v1/transfers", `{"session":"a","to":"tv"}`, "Content-Type: application/json")
	if code, text := apiCode(t, resp.Body); resp.StatusCode != 500 || code != "internal" || strings.Contains(text, "secret") {
		t.Error(resp.Status, code, text)
	}
}

func TestDeleteTransfer(t *testing.T) {
	w := newWorld()
	_, hs := serve(t, w, Config{}, true)
	if resp := do(t, "DELETE", hs.URL+"/v1/transfers/t1", ""); resp.StatusCode != 404 {
		t.Error(resp.Status)
	}
	w.PutTransfer(session.Transfer{ID: "t1", State: session.Armed})
	for _, tt := range []struct {
		err    *session.OrderError
		status int
		code   string
	}{
		{&session.OrderError{Text: "committed"}, 409, "busy"},
		{&session.OrderError{Reason: session.Busy, Text: "committed"}, 409, "busy"},
		{&session.OrderError{Reason: session.DaemonRestart, Text: "its gateway does not answer"}, 503, "daemon-restart"},
		{&session.OrderError{Reason: session.NoSession, Text: "its gateway does not know it"}, 404, "no-session"},
	} {
		w.cancErr = tt.err
		resp := do(t, "DELETE", hs.URL+"/v1/transfers/t1", "")
		if code, text := apiCode(t, resp.Body); resp.StatusCode != tt.status || code != tt.code || text != tt.err.Text {
			t.Error(resp.Status, code, text)
		}
	}
	w.cancErr = nil
	resp := do(t, "DELETE", hs.URL+"/v1/transfers/t1", "")
	var got session.Transfer
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != 200 || got.State != session.Cancelled {
		t.Error(resp.Status, err, got)
	}
}
