package main

import (
	"strings"

	"scas/session"
)

// why says in a sentence why a transfer ended other than in done; "" where there is nothing to say.
func why(t session.Transfer) string {
	reason := session.Reason("")
	if t.Reason != nil {
		reason = *t.Reason
	}
	switch reason {
	case session.URLMismatch:
		return "the target opened another URL than the session's"
	case session.NoMedia:
		return "the server took the target's request, but no media reached the target"
	case session.UpstreamUnreachable:
		return "the server cannot be reached from here on the target's behalf"
	case session.OriginEnded:
		return "the film ended, or was closed, before the target played it"
	case session.TargetLeft:
		return "the target closed the film, or fell silent, before it played"
	case session.NotSeekable:
		return "the film cannot be continued where it was, and that was required"
	case session.DaemonRestart:
		return "the gateway ended or does not answer"
	}
	if status, ok := strings.CutPrefix(string(reason), string(session.ServerRefused(""))); ok {
		return "the server answered " + status + " to the target"
	}
	switch {
	case t.State == session.Expired && t.Times.Armed == nil:
		return "the target's user did not answer in time"
	case t.State == session.Expired:
		return "the target did not open the URL in time"
	case t.State == session.Declined:
		return "the target's user said no"
	case t.State == session.Cancelled:
		return "it was called off"
	}
	return ""
}
