package admin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"scas/session"
)

// maxBody bounds the body of an order; a real one has under 300 bytes.
const maxBody = 4 << 10

// orderBody is what POST /v1/transfers takes.
type orderBody struct {
	Session         string `json:"session"` // empty: the newest playing one of the target's user
	To              string `json:"to"`      // name, address or SIP URI of a terminal
	Mode            string `json:"mode"`    // empty or "resume"
	RequirePosition bool   `json:"require_position"`
}

func (s *Server) postTransfer(w http.ResponseWriter, r *http.Request) {
	body, problem := readOrder(w, r)
	if problem != nil {
		if problem.status == http.StatusBadRequest {
			s.stats.refusedBody.Add(1)
		}
		problem.write(w)
		return
	}
	order, problem := s.resolve(body)
	if problem != nil {
		problem.write(w)
		return
	}
	t, err := s.src.Mover.Move(r.Context(), order)
	if err != nil {
		s.orderFailed(err, session.Busy).write(w)
		return
	}
	w.Header().Set("Location", "/v1/transfers/"+t.ID)
	writeOne(s, w, http.StatusCreated, t, encode[session.Transfer])
}

func (s *Server) deleteTransfer(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if _, ok := s.src.Table.Transfer(id); !ok {
		fail(w, http.StatusNotFound, codeNotFound, "no such transfer")
		return
	}
	t, err := s.src.Mover.Cancel(id)
	if err != nil {
		s.orderFailed(err, session.Busy).write(w) // busy: it cannot be cancelled any more
		return
	}
	writeOne(s, w, http.StatusOK, t, encode[session.Transfer])
}

// readOrder reads the body of an order. Everything but one JSON object of the known fields
// is refused.
func readOrder(w http.ResponseWriter, r *http.Request) (orderBody, *apiError) {
	var body orderBody
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil {
		return body, bad("body: " + unreadable(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return body, bad("body: more than one JSON object")
	}
	if body.To == "" {
		return body, bad(`body: "to" is missing: the name, address or SIP URI of a terminal`)
	}
	switch body.Mode {
	case "", "resume":
	case "retarget":
		return body, refused(session.Unsupported, "mode retarget is reserved for a part that is not built yet; resume is what there is")
	default:
		return body, bad(`body: "mode" is "resume" or "retarget"`)
	}
	return body, nil
}

// unreadable says what is wrong with a body in words of its sender.
func unreadable(err error) string {
	var long *http.MaxBytesError
	var kind *json.UnmarshalTypeError
	switch field, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); {
	case errors.As(err, &long):
		return "more than " + strconv.FormatInt(long.Limit, 10) + " bytes"
	case errors.As(err, &kind) && kind.Field == "":
		return "want a JSON object, not a " + kind.Value
	case errors.As(err, &kind):
		return strconv.Quote(kind.Field) + " must not be a " + kind.Value
	case unknown:
		return "there is no field " + field
	case errors.Is(err, io.EOF):
		return `it is empty: want a JSON object, as {"to":"tv"}`
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the JSON in it is cut off"
	}
	return "no JSON: " + err.Error()
}

// orderFailed turns an error of the Mover into an answer. One that is no order error is
// logged and shown as internal. An order error without a reason gets fallback.
func (s *Server) orderFailed(err error, fallback session.Reason) *apiError {
	var oe *session.OrderError
	if !errors.As(err, &oe) {
		s.log.Error("order could not be carried out", "err", err)
		return &apiError{http.StatusInternalServerError, codeInternal, "the order could not be carried out"}
	}
	reason := oe.Reason
	if reason == "" {
		reason = fallback
	}
	return refused(reason, oe.Text)
}
