package mms

import "strings"

// Connect opens the dialogue (2.2.4.17).
type Connect struct {
	PlayIncarnation          uint32
	MacToViewer, ViewerToMac uint32 // protocol revisions
	SubscriberName           string // "NSPlayer/7.0.0.1956; {GUID}; Host: name"
	ProxiedHost, ProxiedVia  string // what a conforming proxy adds: "HOST: ...", "VIA: ..."
}

// MID returns MIDConnect.
func (*Connect) MID() MID { return MIDConnect }

func (x *Connect) code(c *coder) {
	c.u32(&x.PlayIncarnation)
	c.u32(&x.MacToViewer)
	c.u32(&x.ViewerToMac)
	c.text(&x.SubscriberName)
	if !c.write && c.left() >= 2 {
		c.text(&x.ProxiedHost)
		c.text(&x.ProxiedVia)
	}
}

// Host returns the host the subscriber name ends in, with its port when it has one; "" when it
// names none.
func (x *Connect) Host() string {
	for part := range strings.SplitSeq(x.SubscriberName, ";") {
		k, v, ok := strings.Cut(part, ":")
		if ok && strings.EqualFold(strings.TrimSpace(k), "Host") {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// Product returns the first token of the subscriber name, e.g. "NSPlayer/7.0.0.1956".
func (x *Connect) Product() string {
	p, _, _ := strings.Cut(x.SubscriberName, ";")
	return strings.TrimSpace(p)
}

// FunnelInfo asks for packet pairs and server facts (2.2.4.19).
type FunnelInfo struct{ PlayIncarnation uint32 }

// MID returns MIDFunnelInfo.
func (*FunnelInfo) MID() MID { return MIDFunnelInfo }

func (x *FunnelInfo) code(c *coder) { c.u32(&x.PlayIncarnation) }

// ConnectFunnel says where media are to go (2.2.4.18).
type ConnectFunnel struct {
	PlayIncarnation uint32
	MaxBlockBytes   uint32
	MaxFunnelBytes  uint32
	MaxBitRate      uint32
	FunnelMode      uint32
	FunnelName      string // `\\addr\TCP\port` or `\\addr\UDP\port`
}

// MID returns MIDConnectFunnel.
func (*ConnectFunnel) MID() MID { return MIDConnectFunnel }

func (x *ConnectFunnel) code(c *coder) {
	c.u32(&x.PlayIncarnation)
	c.u32(&x.MaxBlockBytes)
	c.u32(&x.MaxFunnelBytes)
	c.u32(&x.MaxBitRate)
	c.u32(&x.FunnelMode)
	c.text(&x.FunnelName)
}

// UDP reports whether the funnel asks for media over UDP.
func (x *ConnectFunnel) UDP() bool {
	parts := strings.Split(x.FunnelName, `\`)
	return len(parts) >= 2 && strings.EqualFold(parts[len(parts)-2], "UDP")
}

// Port returns the last part of the funnel's name: the client's port, meaningless for TCP.
func (x *ConnectFunnel) Port() string {
	return x.FunnelName[strings.LastIndexByte(x.FunnelName, '\\')+1:]
}

// OpenFile names the content (2.2.4.21).
type OpenFile struct {
	PlayIncarnation uint32
	Spare           uint32
	FileName        string // path and query without the leading slash
	Token           []byte // credentials
}

// MID returns MIDOpenFile.
func (*OpenFile) MID() MID { return MIDOpenFile }

func (x *OpenFile) code(c *coder) {
	var token, size uint32
	if len(x.Token) > 0 {
		token, size = chars(x.FileName)*2, uint32(len(x.Token))
	}
	c.u32(&x.PlayIncarnation)
	c.u32(&x.Spare)
	c.u32(&token)
	c.u32(&size)
	if c.write {
		c.text(&x.FileName)
		c.b = append(c.b, x.Token...)
		return
	}
	rest := c.b[c.at:]
	c.text(&x.FileName)
	if end := uint64(token) + uint64(size); size > 0 && end <= uint64(len(rest)) {
		x.Token = append([]byte(nil), rest[token:end]...)
	}
}

// ReadBlock asks for the ASF header (2.2.4.23).
type ReadBlock struct {
	OpenFileID          uint32
	FileBlockID, Offset uint32
	Length, Flags       uint32
	Padding             uint32
	Earliest, Deadline  float64
	PlayIncarnation     uint32 // becomes that of the header's data packets
	PlaySequence        uint32
}

// MID returns MIDReadBlock.
func (*ReadBlock) MID() MID { return MIDReadBlock }

func (x *ReadBlock) code(c *coder) {
	for _, p := range []*uint32{&x.OpenFileID, &x.FileBlockID, &x.Offset, &x.Length, &x.Flags, &x.Padding} {
		c.u32(p)
	}
	c.f64(&x.Earliest)
	c.f64(&x.Deadline)
	c.u32(&x.PlayIncarnation)
	c.optional(&x.PlaySequence)
}

// StreamSwitch selects streams (2.2.4.28).
type StreamSwitch struct{ Entries []StreamEntry }

// StreamEntry replaces stream Src by stream Dst; FFFF is none.
type StreamEntry struct {
	Src, Dst uint16
	Thinning uint16 // 0 all, 1 key frames, 2 nothing
}

// MID returns MIDStreamSwitch.
func (*StreamSwitch) MID() MID { return MIDStreamSwitch }

func (x *StreamSwitch) code(c *coder) {
	n := uint32(len(x.Entries))
	c.u32(&n)
	if !c.write {
		x.Entries = nil
		for range min(int(min(n, 1<<16)), c.left()/6) {
			x.Entries = append(x.Entries, StreamEntry{})
		}
		c.short = c.short || uint32(len(x.Entries)) != n
	}
	for i := range x.Entries {
		e := &x.Entries[i]
		c.u16(&e.Src)
		c.u16(&e.Dst)
		c.u16(&e.Thinning)
	}
}

// StopPlaying stops the media (2.2.4.27): a pause, or one half of a seek.
type StopPlaying struct{ OpenFileID, PlayIncarnation uint32 }

// MID returns MIDStopPlaying.
func (*StopPlaying) MID() MID { return MIDStopPlaying }

func (x *StopPlaying) code(c *coder) {
	c.u32(&x.OpenFileID)
	c.optional(&x.PlayIncarnation)
}

// CloseFile ends the session (2.2.4.16).
type CloseFile struct{ PlayIncarnation, OpenFileID uint32 }

// MID returns MIDCloseFile.
func (*CloseFile) MID() MID { return MIDCloseFile }

func (x *CloseFile) code(c *coder) {
	c.u32(&x.PlayIncarnation)
	c.optional(&x.OpenFileID)
}

// CancelReadBlock takes a ReadBlock back (UDP only).
type CancelReadBlock struct{ PlayIncarnation uint32 }

// MID returns MIDCancelReadBlock.
func (*CancelReadBlock) MID() MID { return MIDCancelReadBlock }

func (x *CancelReadBlock) code(c *coder) { c.u32(&x.PlayIncarnation) }

// Pong answers a Ping, or keeps a pause alive (2.2.4.22).
type Pong struct{ A, B uint32 }

// MID returns MIDPong.
func (*Pong) MID() MID { return MIDPong }

func (x *Pong) code(c *coder) {
	c.optional(&x.A)
	c.optional(&x.B)
}

// SecurityResponse answers a SecurityChallenge (2.2.4.24).
type SecurityResponse struct {
	PlayIncarnation, Cookie uint32
	Token                   []byte
}

// MID returns MIDSecurityResponse.
func (*SecurityResponse) MID() MID { return MIDSecurityResponse }

func (x *SecurityResponse) code(c *coder) {
	c.u32(&x.PlayIncarnation)
	c.u32(&x.Cookie)
	c.token(&x.Token)
}

// token is a count of bytes and the bytes.
func (c *coder) token(p *[]byte) {
	n := uint32(len(*p))
	c.u32(&n)
	if c.write {
		c.b = append(c.b, *p...)
		return
	}
	if uint64(n) > uint64(c.left()) {
		c.short = true
		n = uint32(c.left())
	}
	*p = append([]byte(nil), c.take(int(n))...)
}
