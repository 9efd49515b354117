package lab

import "time"

// The presets copy what was seen on the wire (protocols/rtsp-in-the-wild.md §1 and §2); the
// caller fills in URL, Host and whatever it wants different.

// GstServer behaves like GstRtspServer: a seek restarts the timestamps, the first PLAY with a
// start has a wrong video rtptime, the session ends with the control connection.
func GstServer() ServerConfig {
	return ServerConfig{Name: "GStreamer RTSP server", RTPInfo: RTPInfoLies, Clock: ClockRestart, BoundSession: true}
}

// Live555Server behaves like live555MediaServer: timestamps are wall time, media may come before
// the 200, no BYE, the session outlives its connection.
func Live555Server() ServerConfig {
	return ServerConfig{
		Name: "LIVE555 Streaming Media", Clock: ClockWall, EarlyMedia: true, NoBYE: true,
		AnnounceTimeout: true, Timeout: 65 * time.Second,
	}
}

// VLCServer behaves like VLC's VoD server: exact seeks, absolute controls, no interleaving.
func VLCServer() ServerConfig {
	return ServerConfig{
		Name: "VLC/3.0.24", Exact: true, Clock: ClockWall, EarlyMedia: true, AbsoluteControl: true,
		NoTCP: true, AnnounceTimeout: true,
	}
}

// LiveServer behaves like mediamtx: no Range, no seq and rtptime, joined at the next packet.
func LiveServer() ServerConfig {
	return ServerConfig{
		Name: "gortsplib", Live: true, RTPInfo: RTPInfoURL, AnnounceTimeout: true, Timeout: 55 * time.Second,
	}
}

// MPV behaves like mpv 0.35: interleaved by default, drains and sends TEARDOWN when the film
// ends, whatever ended it, and exits.
func MPV() PlayerConfig {
	return PlayerConfig{
		UserAgent: "libmpv", TCP: true, Depth: 1120 * time.Millisecond,
		OnBYE: EndTeardown, OnFIN: EndTeardown, OnFINTCP: EndExit, OnRST: EndExit,
	}
}

// FFplay behaves like ffplay 5.1: UDP, freezes on its last picture, never says TEARDOWN.
func FFplay() PlayerConfig {
	return PlayerConfig{
		UserAgent: "Lavf59.27.100", Depth: 1280 * time.Millisecond,
		OnBYE: EndFreeze, OnFIN: EndFreeze, OnFINTCP: EndFreeze, OnRST: EndFreeze, QuitSilently: true,
	}
}

// Gst behaves like playbin with rtspsrc 1.22: 2 s of buffer, receiver reports, TCP when UDP
// brings nothing for 5 s.
func Gst() PlayerConfig {
	return PlayerConfig{
		UserAgent: "GStreamer/1.22.0", Depth: 2 * time.Second, Decimals: 9, SDPRange: true,
		Punch: PunchGst, Reports: 5 * time.Second, KeepAliveLess: 5 * time.Second, PauseFirst: true,
		FallbackTCP: 5 * time.Second,
		OnBYE:       EndTeardown, OnFIN: EndFreeze, OnFINTCP: EndExit, OnRST: EndError,
	}
}

// VLC behaves like VLC 3.0 with live555: drops its buffer at a BYE, gives up by itself after 10 s
// of silence.
func VLC() PlayerConfig {
	return PlayerConfig{
		UserAgent: "LibVLC/3.0.24 (LIVE555 Streaming Media v2026.06.24)", Depth: 1280 * time.Millisecond,
		FirstCSeq: 2, Punch: PunchVLC, Reports: 5 * time.Second, KeepAliveLess: 2 * time.Second,
		FallbackTCP: 10500 * time.Millisecond, Silence: 10 * time.Second,
		OnBYE: EndAtOnce, OnFIN: EndFreeze, OnFINTCP: EndFreeze, OnRST: EndFreeze,
	}
}
