package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"scas/session"
)

// Entry is one line of the history: a session that played (play) or ended (end), or a
// transfer that ended (transfer).
type Entry struct {
	At       time.Time         `json:"at"`
	Event    string            `json:"event"`
	Gateway  string            `json:"gateway"`
	AoR      *string           `json:"aor"`
	Session  *session.Record   `json:"session"` // as it was then
	Transfer *session.Transfer `json:"transfer"`
}

// Filter says which entries are wanted; zero fields do not matter.
type Filter struct {
	Since, Until time.Time // Until is not included
	AoR          string
	Gateway      string
	Event        string
	Terminal     string // name or address; of a transfer either end
	Limit        int    // the newest so many
}

// History gives what was kept of the past, the oldest first.
type History interface {
	Log(ctx context.Context, f Filter) ([]Entry, error)
}

// Bounds on one answer of the history.
const (
	defaultEntries = 1000
	maxEntries     = 10000
)

func (s *Server) listLog(w http.ResponseWriter, r *http.Request) {
	f, wrong := logFilter(r.URL.Query())
	if wrong != nil {
		wrong.write(w)
		return
	}
	if s.src.History == nil {
		refused(session.Unsupported, "no history is kept: the configuration has no section sip, or no state.dir").write(w)
		return
	}
	entries, err := s.src.History.Log(r.Context(), f)
	if err != nil {
		fail(w, http.StatusServiceUnavailable, codeNotReady, err.Error())
		return
	}
	writeList(s, w, entries, encodeEntry)
}

// logFilter reads the query of GET /v1/log.
func logFilter(q url.Values) (Filter, *apiError) {
	f := Filter{Limit: defaultEntries}
	for name, values := range q {
		v := values[len(values)-1]
		var err error
		switch name {
		case "since":
			f.Since, err = time.Parse(time.RFC3339Nano, v)
		case "until":
			f.Until, err = time.Parse(time.RFC3339Nano, v)
		case "limit":
			if f.Limit, err = strconv.Atoi(v); err == nil && (f.Limit < 1 || f.Limit > maxEntries) {
				return f, bad("limit is not within 1 and " + strconv.Itoa(maxEntries))
			}
		case "aor":
			f.AoR = v
		case "terminal":
			f.Terminal = v
		case "gateway":
			f.Gateway = v
		case "event":
			if f.Event = v; v != "play" && v != "end" && v != "transfer" {
				return f, bad("event is none of play, end and transfer")
			}
		default:
			return f, bad("there is no parameter " + strconv.Quote(name))
		}
		if err != nil {
			return f, bad(name + " cannot be read: times are RFC 3339, limit a number")
		}
	}
	return f, nil
}

// encodeEntry encodes e with its session as everywhere else.
func encodeEntry(e Entry) ([]byte, error) {
	wire := struct {
		Entry
		Session  json.RawMessage   `json:"session"` // these two hide Entry's own
		Transfer *session.Transfer `json:"transfer"`
	}{Entry: e, Session: json.RawMessage("null"), Transfer: e.Transfer}
	if e.Session != nil {
		raw, err := encodeRecord(*e.Session)
		if err != nil {
			return nil, err
		}
		wire.Session = raw
	}
	return json.Marshal(wire)
}
