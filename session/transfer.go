package session

import (
	"math"
	"slices"
	"time"
)

// TransferState is a state of the transfer machine (DESIGN §5.1; a contract).
type TransferState string

// The states. Offered to Committed are open; the others are ends.
const (
	Offered   TransferState = "offered"
	Armed     TransferState = "armed"
	Attached  TransferState = "attached"
	Committed TransferState = "committed"
	Done      TransferState = "done"
	Failed    TransferState = "failed"
	Declined  TransferState = "declined"
	Expired   TransferState = "expired"
	Cancelled TransferState = "cancelled"
)

// Open reports whether the transfer can still change.
func (s TransferState) Open() bool {
	return s == Offered || s == Armed || s == Attached || s == Committed
}

// Reason says why a transfer ended other than in Done. Some carry a detail after a colon.
type Reason string

// The reasons (a contract).
const (
	NoSession           Reason = "no-session"
	SameTerminal        Reason = "same-terminal"
	NotAllowed          Reason = "not-allowed"
	Offline             Reason = "offline"
	Busy                Reason = "busy"
	Unsupported         Reason = "unsupported"
	NotSeekable         Reason = "not-seekable"
	URLMismatch         Reason = "url-mismatch"
	NoMedia             Reason = "no-media"
	UpstreamUnreachable Reason = "upstream-unreachable"
	OriginEnded         Reason = "origin-ended"
	TargetLeft          Reason = "target-left"
	DaemonRestart       Reason = "daemon-restart"
)

// ServerRefused is the reason of a start request that the server answered with status.
func ServerRefused(status string) Reason { return Reason("server-refused:" + status) }

// Trigger is who wanted the move.
type Trigger string

// The triggers.
const (
	Push Trigger = "push" // the origin asked, naming a target
	Pull Trigger = "pull" // the target asked
	Auto Trigger = "auto" // presence told
	API  Trigger = "api"  // the operator
)

// Times holds when a transfer entered its states; nil where it did not.
type Times struct {
	Offered   *time.Time `json:"offered"`
	Armed     *time.Time `json:"armed"`
	Attached  *time.Time `json:"attached"`
	Committed *time.Time `json:"committed"`
	Ended     *time.Time `json:"ended"`
}

// Transfer is one order to move a session to another terminal, and how far it came.
type Transfer struct {
	ID      string        `json:"id"`
	Session string        `json:"session"`
	AoR     *string       `json:"aor"`
	From    Terminal      `json:"from"`
	To      Terminal      `json:"to"`
	Trigger Trigger       `json:"trigger"`
	State   TransferState `json:"state"`
	Reason  *Reason       `json:"reason"`
	URL     string        `json:"url"` // what the target has to open

	Position  *float64 `json:"position"`   // seconds written into the start request; nil when moved without one
	StartedAt *float64 `json:"started_at"` // seconds the server's reply promised
	Repeated  *float64 `json:"repeated"`   // origin's newest delivered npt at committed - StartedAt; negative = missed
	Silence   *float64 `json:"silence"`    // seconds between the origin's last and the target's first media; <= 0 when they overlap

	OriginBuffered bool `json:"origin_buffered"` // the player holds data the network cannot take back

	Times Times `json:"times"`
}

// Figure returns a time in seconds as transfers show it: to the millisecond.
func Figure(seconds float64) *float64 { return Ptr(math.Round(seconds*1000)/1000 + 0) } // no -0

// Event is what can happen to a transfer.
type Event int

// The events. The comment is the state they lead to.
const (
	Confirmed    Event = iota // Armed: the target's user said yes, or nobody had to be asked
	StartRequest              // Attached: the target's start request was rewritten and sent on
	TargetPlays               // Committed: DESIGN 5.1.1
	OriginGone                // Done: media stopped, server session ended
	Refused                   // Declined
	TimedOut                  // Expired
	Cancel                    // Cancelled
	Fail                      // Failed
)

// Next returns the state that follows s on ev, and whether ev is possible in s. It is pure;
// an end state has no successor.
func (s TransferState) Next(ev Event) (TransferState, bool) {
	from, to := transition(ev)
	if !slices.Contains(from, s) {
		return s, false
	}
	return to, true
}

func transition(ev Event) (from []TransferState, to TransferState) {
	switch ev {
	case Confirmed:
		return []TransferState{Offered}, Armed
	case StartRequest:
		return []TransferState{Offered, Armed}, Attached
	case TargetPlays:
		return []TransferState{Attached}, Committed
	case OriginGone:
		return []TransferState{Committed}, Done
	case Refused:
		return []TransferState{Offered}, Declined
	case TimedOut:
		return []TransferState{Offered, Armed}, Expired
	case Cancel:
		return []TransferState{Offered, Armed, Attached}, Cancelled
	case Fail:
		return []TransferState{Offered, Armed, Attached, Committed}, Failed
	}
	return nil, ""
}

// Next returns t after ev at time now, with reason set for the ends that have one. ok is
// false, and t unchanged, when ev is not possible in t's state.
func (t Transfer) Next(ev Event, reason Reason, now time.Time) (next Transfer, ok bool) {
	s, ok := t.State.Next(ev)
	if !ok {
		return t, false
	}
	t.State = s
	switch s {
	case Armed:
		t.Times.Armed = &now
	case Attached:
		t.Times.Attached = &now
	case Committed:
		t.Times.Committed = &now
	default:
		t.Times.Ended = &now
	}
	if reason != "" {
		t.Reason = &reason
	}
	return t, true
}

// Order asks for a move. Session may be empty: the user's newest playing session is meant.
type Order struct {
	Session string
	To      Terminal
	Trigger Trigger
	Confirm bool // the target's user has to say yes first
	// RequirePosition refuses sessions that cannot be continued where they are.
	RequirePosition bool
}

// OrderError is returned for an order that cannot be carried out; Reason is the contract's
// word for it.
type OrderError struct {
	Reason Reason
	Text   string
}

func (e *OrderError) Error() string { return e.Text }
