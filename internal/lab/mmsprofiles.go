package lab

import "time"

// The presets copy what was seen on the wire (protocols/mms.md §6); the caller fills in URL,
// Host and whatever it wants different.

// MMSVLC behaves like VLC 3.0: seeks by packet, pauses with StopPlaying, says CloseFile.
func MMSVLC() MMSPlayerConfig {
	return MMSPlayerConfig{
		GUID: "{0xbabac001-0x1502-0xd117-0x123e2ed1a5d021ee}", FunnelName: `\\192.168.0.1`,
		Depth: 1280 * time.Millisecond,
		Seek:  MMSSeekPacket, StopToPause: true, PausedPong: 10 * time.Second, CloseFile: true,
		OnEOS: EndTeardown, OnFIN: EndExit,
	}
}

// MMSLibmms behaves like libmms 0.6.4 under GStreamer: seeks by time plus preroll without a
// stop, pauses by not reading, just closes.
func MMSLibmms() MMSPlayerConfig {
	return MMSPlayerConfig{
		GUID: "{33715801-bab3-9d85-24e9-03b90328270a}", Depth: time.Second, ReadAhead: 6 * time.Second,
		Seek: MMSSeekTime, AddPreroll: true, OnEOS: EndExit, OnFIN: EndExit,
	}
}

// MMSFFmpeg behaves like ffmpeg 5.1: sends FunnelInfo, seeks only over MMSH, hangs when the film
// ends before its last packet.
func MMSFFmpeg() MMSPlayerConfig {
	return MMSPlayerConfig{
		FunnelInfo: true, Depth: 500 * time.Millisecond, Seek: MMSSeekHTTP, ForgetCRLF: true, CloseFile: true,
		Counts: true, OnEOS: EndFreeze, OnFIN: EndFreeze,
	}
}

// MMSMPlayer behaves like MPlayer 1.5: sends zeros, wants each reply in one piece, cannot seek,
// ends only when the connection does, and then at once.
func MMSMPlayer() MMSPlayerConfig {
	return MMSPlayerConfig{
		GUID: "{33715801-BAB3-9D85-24E9-03B90328270A}", FunnelName: `\\192.168.0.1`, Zeros: true,
		OneRead: true, HeaderMost: 8192, Depth: 500 * time.Millisecond, OnEOS: EndFreeze, OnFIN: EndAtOnce,
	}
}

// MMSWindows behaves as MS-MMSP says: FunnelInfo, stop before every seek, seeks by time.
func MMSWindows() MMSPlayerConfig {
	return MMSPlayerConfig{
		Subscriber: "NSPlayer/9.0.0.2980", GUID: "{3300AD50-2C39-46C0-AE0A-A0D3CFD0F9C7}", FunnelInfo: true, HeaderInc: 1, MediaInc: 9, Depth: 2 * time.Second,
		Seek: MMSSeekBook, StopToPause: true, CloseFile: true, OnEOS: EndTeardown, OnFIN: EndExit,
	}
}
