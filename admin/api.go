package admin

import (
	"bufio"
	_ "embed" // the description of the API is part of the program
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"scas/session"
)

//go:embed openapi.yaml
var openapiYAML []byte

func (s *Server) listSessions(w http.ResponseWriter, _ *http.Request) {
	writeList(s, w, s.src.Sessions.List(), encodeRecord)
}

func (s *Server) getSession(w http.ResponseWriter, r *http.Request) {
	rec, ok := s.src.Sessions.Get(r.PathValue("id"))
	if !ok {
		refused(session.NoSession, "no such session").write(w)
		return
	}
	writeOne(s, w, http.StatusOK, rec, encodeRecord)
}

func (s *Server) listTerminals(w http.ResponseWriter, _ *http.Request) {
	writeList(s, w, s.src.Terminals.Terminals(), encodeTerminal)
}

func (s *Server) listTransfers(w http.ResponseWriter, _ *http.Request) {
	writeList(s, w, s.src.Table.Transfers(), encode[session.Transfer])
}

func (s *Server) getTransfer(w http.ResponseWriter, r *http.Request) {
	t, ok := s.src.Table.Transfer(r.PathValue("id"))
	if !ok {
		fail(w, http.StatusNotFound, codeNotFound, "no such transfer")
		return
	}
	writeOne(s, w, http.StatusOK, t, encode[session.Transfer])
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	writeOne(s, w, http.StatusOK, map[string]string{"status": "ok"}, encode[map[string]string])
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if err := s.src.Ready(); err != nil {
		fail(w, http.StatusServiceUnavailable, codeNotReady, err.Error())
		return
	}
	writeOne(s, w, http.StatusOK, map[string]string{"status": "ready"}, encode[map[string]string])
}

func (s *Server) openapi(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	send(w, openapiYAML)
}

// encodeRecord encodes r with what does not apply as null (DESIGN §7): a server that was
// not seen, and tracks as a list even when there is none.
func encodeRecord(r session.Record) ([]byte, error) {
	if r.Tracks == nil {
		r.Tracks = []session.Track{}
	}
	wire := struct {
		session.Record
		Server *netip.AddrPort `json:"server"` // hides Record's own
	}{Record: r}
	if r.Server.IsValid() {
		wire.Server = &r.Server
	}
	return json.Marshal(wire)
}

// encodeTerminal encodes t with an address that is not known as null.
func encodeTerminal(t Terminal) ([]byte, error) {
	wire := struct {
		AoR       *string     `json:"aor"`
		Name      string      `json:"name"`
		IP        *netip.Addr `json:"ip"`
		Instance  *string     `json:"instance"`
		Source    string      `json:"source"`
		Expires   *time.Time  `json:"expires"`
		Active    bool        `json:"active"`
		UserAgent *string     `json:"user_agent"`
	}{t.AoR, t.Name, nil, t.Instance, t.Source, t.Expires, t.Active, t.UserAgent}
	if t.IP.IsValid() {
		wire.IP = &t.IP
	}
	return json.Marshal(wire)
}

func encode[T any](v T) ([]byte, error) { return json.Marshal(v) }

func writeOne[T any](s *Server, w http.ResponseWriter, status int, v T, enc func(T) ([]byte, error)) {
	body, err := enc(v)
	if err != nil {
		s.unencodable(err)
		fail(w, http.StatusInternalServerError, codeInternal, "a value cannot be shown")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	send(w, append(body, '\n'))
}

// send writes the end of an answer. When the reader went away there is nobody to tell.
func send(w http.ResponseWriter, body []byte) { _, _ = w.Write(body) }

// writeList writes vs as an array, one element a line, without holding the whole text. An
// element that cannot be encoded is left out and counted rather than taking the list down.
func writeList[T any](s *Server, w http.ResponseWriter, vs []T, enc func(T) ([]byte, error)) {
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriter(w)
	sep := "["
	for _, v := range vs {
		body, err := enc(v)
		if err != nil {
			s.unencodable(err)
			continue
		}
		fmt.Fprintf(out, "%s\n%s", sep, body)
		sep = ","
	}
	if sep == "[" {
		fmt.Fprint(out, sep)
	}
	fmt.Fprint(out, "]\n")
	_ = out.Flush() // as send
}

func (s *Server) unencodable(err error) {
	s.stats.unencodable.Add(1)
	s.log.Warn("API value cannot be encoded", "err", err)
}
