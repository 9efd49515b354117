package kv

import (
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	// ErrDown is returned while the store does not answer.
	ErrDown = errors.New("the store does not answer")
	// ErrFull is returned for a write that the queue had no room for: it will not happen.
	ErrFull = errors.New("too many writes wait for the store")
	// ErrNoGateway is returned for an order when no gateway answers.
	ErrNoGateway = errors.New("no gateway answers")
)

// awayError is an ErrNoGateway that says which one, and why.
type awayError struct {
	gateway string
	err     error
}

func (e *awayError) Error() string {
	return "gateway " + e.gateway + " does not answer: " + e.err.Error()
}
func (e *awayError) Unwrap() []error { return []error{ErrNoGateway, e.err} }

// Codes of the server's errors (nats-server server/errors.json) that the client has no name for.
const (
	errReplicasAlone = 10074 // replicas > 1 not supported in non-clustered mode
	errBadMessage    = 10054 // message size exceeds maximum allowed
)

// code returns the server's code of err, 0 when it has none.
func code(err error) jetstream.ErrorCode {
	var e jetstream.JetStreamError
	if errors.As(err, &e) && e.APIError() != nil {
		return e.APIError().ErrorCode
	}
	return 0
}

// conflict reports whether a write named a revision that is not the newest.
func conflict(err error) bool {
	c := code(err)
	return errors.Is(err, jetstream.ErrKeyRevisionMismatch) || errors.Is(err, jetstream.ErrKeyExists) ||
		c == jetstream.JSErrCodeStreamWrongLastSequence || c == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

// hopeless reports whether the same write would fail for ever.
func hopeless(err error) bool {
	return code(err) == errBadMessage || errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, jetstream.ErrInvalidKey) ||
		errors.Is(err, errUnwritable)
}

// errUnwritable marks a value that cannot be written at all.
var errUnwritable = errors.New("value cannot be stored")

// vanished reports whether the buckets may be gone: an external store that was emptied.
func vanished(err error) bool {
	return errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders)
}
