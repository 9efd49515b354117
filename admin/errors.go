package admin

import (
	"encoding/json"
	"net/http"

	"scas/session"
)

// The codes of errors that are not reasons of the contract.
const (
	codeBadRequest   = "bad-request"
	codeUnauthorized = "unauthorized"
	codeForbidden    = "forbidden"
	codeNotFound     = "not-found"
	codeTooMany      = "too-many"
	codeNotReady     = "not-ready"
	codeInternal     = "internal"
)

// apiError is the answer to a request that cannot be done.
type apiError struct {
	status     int
	code, text string
}

func (e *apiError) Error() string { return e.text }

func bad(text string) *apiError { return &apiError{http.StatusBadRequest, codeBadRequest, text} }

func refused(reason session.Reason, text string) *apiError {
	return &apiError{statusOf(reason), string(reason), text}
}

// statusOf is the one place where the contract's reasons become HTTP statuses.
func statusOf(r session.Reason) int {
	switch r {
	case session.NoSession, session.Offline:
		return http.StatusNotFound
	case session.NotAllowed:
		return http.StatusForbidden
	case session.Unsupported:
		return http.StatusNotImplemented
	case session.DaemonRestart:
		return http.StatusServiceUnavailable
	}
	return http.StatusConflict
}

func (e *apiError) write(w http.ResponseWriter) { fail(w, e.status, e.code, e.text) }

// fail answers with the API's one form of error.
func fail(w http.ResponseWriter, status int, code, text string) {
	body, _ := json.Marshal(struct { // two strings cannot fail to encode
		Error string `json:"error"`
		Code  string `json:"code"`
	}{text, code})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	send(w, append(body, '\n'))
}
