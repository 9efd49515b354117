package tracer

import (
	"strings"
	"time"
)

// Profile is how far a kind of player's picture is behind the network: the depth of its
// buffer, measured as newest picture delivered minus picture on the screen. Sources: the
// table in docs/players.md.
type Profile struct {
	UserAgent string        // prefix of the User-Agent; empty matches every player
	Depth     time.Duration // with a film
	Live      time.Duration // with a live source
	Seek      time.Duration // after a seek
	// Counts says that the player waits until it has so much of the film, not for so long: one whose
	// server sends faster than real time runs at once.
	Counts bool
}

// DefaultProfiles returns the measured profiles, the most specific first; the last matches
// every player.
func DefaultProfiles() []Profile {
	const ms = time.Millisecond
	return []Profile{
		{"GStreamer", 2000 * ms, 1970 * ms, 2000 * ms, false},
		{"LibVLC", 1280 * ms, 1360 * ms, 1280 * ms, false},
		{"libmpv", 1130 * ms, 1160 * ms, 1400 * ms, true},
		{"Lavf", 1260 * ms, 2200 * ms, 120 * ms, true},
		{"RealMedia", 1200 * ms, 1800 * ms, 1200 * ms, true}, // mplayer's first connection names itself so
		{"", 1200 * ms, 1400 * ms, 1200 * ms, false},
	}
}

// profileOf returns the profile of a player. profiles must not be empty.
func profileOf(profiles []Profile, userAgent string) Profile {
	for _, p := range profiles {
		if strings.HasPrefix(userAgent, p.UserAgent) {
			return p
		}
	}
	return profiles[len(profiles)-1]
}

// depth returns how far the picture is behind in a session that is live or not, and has
// been sought in or not.
func (p Profile) depth(live, sought bool) time.Duration {
	switch {
	case live:
		return p.Live
	case sought:
		return p.Seek
	}
	return p.Depth
}

// burst is how far ahead of real time a server may be and still count as paced.
const burst = 2 * time.Second
