package tracer

import (
	"strings"
	"time"

	"scas/session"
	"scas/tracer/mms"
)

// filmPlayer is the kind of a player of MMS; they all call themselves NSPlayer.
type filmPlayer string

const (
	filmOther   filmPlayer = ""
	filmLibav   filmPlayer = "libavformat" // ffplay, mpv
	filmMPlayer filmPlayer = "mplayer"
)

// playerOfMMST tells a player by the GUID in its subscriber name, which is constant.
func playerOfMMST(subscriber string) filmPlayer {
	switch {
	case strings.Contains(subscriber, "{7E667F5D-A661-495E-A512-F55686DDA178}"):
		return filmLibav
	case strings.Contains(subscriber, "{33715801-BAB3-9D85-24E9-03B90328270A}"):
		return filmMPlayer
	}
	return filmOther
}

// playerOfMMSH tells a player by its request: libmms, libavformat and MPlayer share a GUID, but only
// libavformat's own HTTP asks for metadata, and only MPlayer names the GUID before all other pragmas.
func playerOfMMSH(h mms.Head) filmPlayer {
	const shared = "xClientGUID={c77e7400-738a-11d2-9add-0020af0a3278}"
	switch {
	case h.Get("Icy-MetaData") != "":
		return filmLibav
	case h.Get("Pragma") == shared:
		return filmMPlayer
	}
	return filmOther
}

// Depths of players of MMS, measured (docs/players.md): so much of the film has come when a player begins
// to run. One that waits less than is thought is shown a moment twice; one that waits more misses it.
const (
	depthLibav   = 1800 * time.Millisecond // ffplay 1.75 s, mpv 1.65 s
	depthMPlayer = 3200 * time.Millisecond // with its cache, which is counted in bytes; 0.2 s without
	behind       = 1260 * time.Millisecond // VLC, beyond the preroll of the file
	leastPreroll = 3100 * time.Millisecond // of the file VLC was measured with
)

// lag is how much of a film has to be there before its player runs.
func (s *sess) lag() time.Duration {
	switch {
	case s.film == nil || s.profile.UserAgent != "":
		return s.profile.depth(s.live, s.sought)
	case s.film.player == filmLibav:
		return depthLibav
	case s.film.player == filmMPlayer:
		return depthMPlayer
	}
	return max(s.film.preroll, leastPreroll) + behind
}

// onScreen estimates the media time on the screen: the film runs with the clock since the player
// had as much of it as it waits for; never beyond what was delivered.
func (f *film) onScreen(s *sess, npt session.NPT, now time.Time) session.NPT {
	at := f.until(now)
	if s.rec.State == session.Paused {
		at = s.paused
	}
	start, since := f.start, f.ran
	switch {
	case !f.seen:
		start, since = s.play.start, s.play.at.Add(s.lag())
	case f.ran.IsZero():
		since = f.startAt.Add(s.lag())
	}
	run := max(at.Sub(since), 0)
	return min(start.Add(time.Duration(float64(run)*max(s.play.scale, 0))), npt)
}
