package rtsp

// staticPT returns codec, clock rate in Hz and channels of a payload type of RFC 3551 §6, zero
// values for the others.
func staticPT(n uint8) PT {
	table := [...]PT{
		0: {Codec: "PCMU", ClockRate: 8000, Channels: 1},
		3: {Codec: "GSM", ClockRate: 8000, Channels: 1},
		4: {Codec: "G723", ClockRate: 8000, Channels: 1},
		5: {Codec: "DVI4", ClockRate: 8000, Channels: 1},
		6: {Codec: "DVI4", ClockRate: 16000, Channels: 1},
		7: {Codec: "LPC", ClockRate: 8000, Channels: 1},
		8: {Codec: "PCMA", ClockRate: 8000, Channels: 1},
		// Sampled at 16000 Hz, but the clock is 8000 (RFC 3551 §4.5.2).
		9:  {Codec: "G722", ClockRate: 8000, Channels: 1},
		10: {Codec: "L16", ClockRate: 44100, Channels: 2},
		11: {Codec: "L16", ClockRate: 44100, Channels: 1},
		12: {Codec: "QCELP", ClockRate: 8000, Channels: 1},
		13: {Codec: "CN", ClockRate: 8000, Channels: 1},
		14: {Codec: "MPA", ClockRate: 90000},
		15: {Codec: "G728", ClockRate: 8000, Channels: 1},
		16: {Codec: "DVI4", ClockRate: 11025, Channels: 1},
		17: {Codec: "DVI4", ClockRate: 22050, Channels: 1},
		18: {Codec: "G729", ClockRate: 8000, Channels: 1},
		25: {Codec: "CelB", ClockRate: 90000},
		26: {Codec: "JPEG", ClockRate: 90000},
		28: {Codec: "nv", ClockRate: 90000},
		31: {Codec: "H261", ClockRate: 90000},
		32: {Codec: "MPV", ClockRate: 90000},
		33: {Codec: "MP2T", ClockRate: 90000},
		34: {Codec: "H263", ClockRate: 90000},
	}
	if int(n) >= len(table) {
		return PT{PT: n}
	}
	pt := table[n]
	pt.PT = n
	return pt
}
