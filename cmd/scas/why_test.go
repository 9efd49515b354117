package main

import (
	"testing"
	"time"

	"scas/session"
)

// Every end but done has its sentence.
func TestWhy(t *testing.T) {
	at := time.Unix(1, 0)
	said := map[string]bool{}
	for _, x := range []session.Transfer{
		{State: session.Expired}, {State: session.Expired, Times: session.Times{Armed: &at}}, {State: session.Declined}, {State: session.Cancelled},
		{State: session.Expired, Reason: session.Ptr(session.URLMismatch)},
		{State: session.Failed, Reason: session.Ptr(session.ServerRefused("453"))},
		{State: session.Failed, Reason: session.Ptr(session.NoMedia)}, {State: session.Failed, Reason: session.Ptr(session.UpstreamUnreachable)},
		{State: session.Failed, Reason: session.Ptr(session.OriginEnded)}, {State: session.Failed, Reason: session.Ptr(session.TargetLeft)},
		{State: session.Failed, Reason: session.Ptr(session.NotSeekable)}, {State: session.Failed, Reason: session.Ptr(session.DaemonRestart)},
	} {
		text := why(x)
		if text == "" || said[text] {
			t.Errorf("%s: %q", transferState(x), text)
		}
		said[text] = true
	}
	if !said["the server answered 453 to the target"] {
		t.Error(said)
	}
	for _, state := range []session.TransferState{session.Offered, session.Armed, session.Attached, session.Committed, session.Done} {
		if text := why(session.Transfer{State: state}); text != "" {
			t.Errorf("%s: %q", state, text)
		}
	}
}
