package mms

// ReportConnectedEX answers Connect (2.2.4.2).
type ReportConnectedEX struct {
	HR                       HRESULT
	PlayIncarnation          uint32
	MacToViewer, ViewerToMac uint32
	BlockGroupPlayTime       float64
	BlockGroupBlocks         uint32
	MaxOpenFiles             uint32
	BlockMaxBytes            uint32
	MaxBitRate               uint32
	ServerVersion            string
	Version                  string
	VersionURL               string
	AuthenPackage            string
}

// MID returns MIDReportConnectedEX.
func (*ReportConnectedEX) MID() MID { return MIDReportConnectedEX }

func (x *ReportConnectedEX) code(c *coder) {
	c.hr(&x.HR)
	for _, p := range []*uint32{&x.PlayIncarnation, &x.MacToViewer, &x.ViewerToMac} {
		c.u32(p)
	}
	c.f64(&x.BlockGroupPlayTime)
	for _, p := range []*uint32{&x.BlockGroupBlocks, &x.MaxOpenFiles, &x.BlockMaxBytes, &x.MaxBitRate} {
		c.u32(p)
	}
	all := []*string{&x.ServerVersion, &x.Version, &x.VersionURL, &x.AuthenPackage}
	var counts [4]uint32
	for i, s := range all {
		counts[i] = chars(*s)
		c.u32(&counts[i])
	}
	for i, s := range all {
		c.counted(s, counts[i])
	}
}

// ReportConnectedFunnel answers ConnectFunnel (2.2.4.3).
type ReportConnectedFunnel struct {
	HR                HRESULT
	PlayIncarnation   uint32
	PacketPayloadSize uint32
	FunnelName        string // "Funnel Of The Gods"
}

// MID returns MIDReportConnectedFunnel.
func (*ReportConnectedFunnel) MID() MID { return MIDReportConnectedFunnel }

func (x *ReportConnectedFunnel) code(c *coder) {
	c.hr(&x.HR)
	c.optional(&x.PlayIncarnation)
	c.optional(&x.PacketPayloadSize)
	c.text(&x.FunnelName)
}

// ReportDisconnectedFunnel refuses a ConnectFunnel (2.2.4.4).
type ReportDisconnectedFunnel struct {
	HR              HRESULT
	PlayIncarnation uint32
}

// MID returns MIDReportDisconnectedFunnel.
func (*ReportDisconnectedFunnel) MID() MID { return MIDReportDisconnectedFunnel }

func (x *ReportDisconnectedFunnel) code(c *coder) {
	c.hr(&x.HR)
	c.optional(&x.PlayIncarnation)
}

// Attributes of a file.
const (
	CanStride = 0x00800000
	CanSeek   = 0x01000000
	Broadcast = 0x02000000
	Live      = 0x04000000
	Playlist  = 0x40000000
)

// ReportOpenFile answers OpenFile (2.2.4.7).
type ReportOpenFile struct {
	HR              HRESULT
	PlayIncarnation uint32
	OpenFileID      uint32
	Attributes      uint32
	Duration        float64 // seconds; 0 unknown
	Blocks          uint32  // duration in seconds, rounded up
	PacketSize      uint32  // largest ASF data packet
	PacketCount     uint64  // 0 unknown
	BitRate         uint32
	HeaderSize      uint32 // of the ASF file header
}

// MID returns MIDReportOpenFile.
func (*ReportOpenFile) MID() MID { return MIDReportOpenFile }

func (x *ReportOpenFile) code(c *coder) {
	c.hr(&x.HR)
	if x.HR.Failed() && c.left() < 72 {
		return // a refusal says no more
	}
	c.u32(&x.PlayIncarnation)
	c.u32(&x.OpenFileID)
	c.skip(8)
	c.u32(&x.Attributes)
	c.f64(&x.Duration)
	c.u32(&x.Blocks)
	c.skip(16)
	c.u32(&x.PacketSize)
	c.u64(&x.PacketCount)
	c.u32(&x.BitRate)
	c.u32(&x.HeaderSize)
	if c.write {
		c.skip(36)
	}
}

// Seekable reports whether the file can be moved by position.
func (x *ReportOpenFile) Seekable() bool {
	return x.Attributes&CanSeek != 0 && !x.Live()
}

// Live reports whether the file is a broadcast.
func (x *ReportOpenFile) Live() bool { return x.Attributes&(Broadcast|Live) != 0 }

// ReportReadBlock answers ReadBlock; the header's data packets follow.
type ReportReadBlock struct {
	HR                            HRESULT
	PlayIncarnation, PlaySequence uint32
}

// MID returns MIDReportReadBlock.
func (*ReportReadBlock) MID() MID { return MIDReportReadBlock }

func (x *ReportReadBlock) code(c *coder) {
	c.hr(&x.HR)
	c.optional(&x.PlayIncarnation)
	c.optional(&x.PlaySequence)
}

// ReportStreamSwitch answers StreamSwitch.
type ReportStreamSwitch struct{ HR HRESULT }

// MID returns MIDReportStreamSwitch.
func (*ReportStreamSwitch) MID() MID { return MIDReportStreamSwitch }

func (x *ReportStreamSwitch) code(c *coder) { c.hr(&x.HR) }

// ReportStartedPlaying answers StartPlaying; it does not tell the position reached.
type ReportStartedPlaying struct {
	HR              HRESULT
	PlayIncarnation uint32
	OpenFileID      uint32
}

// MID returns MIDReportStartedPlaying.
func (*ReportStartedPlaying) MID() MID { return MIDReportStartedPlaying }

func (x *ReportStartedPlaying) code(c *coder) {
	c.hr(&x.HR)
	c.optional(&x.PlayIncarnation)
	c.optional(&x.OpenFileID)
	if c.write {
		c.skip(16)
	}
}

// ReportStartStriding answers StartStriding.
type ReportStartStriding struct {
	HR                     HRESULT
	PlayIncarnation, Spare uint32
}

// MID returns MIDReportStartStriding.
func (*ReportStartStriding) MID() MID { return MIDReportStartStriding }

func (x *ReportStartStriding) code(c *coder) {
	c.hr(&x.HR)
	c.optional(&x.PlayIncarnation)
	c.optional(&x.Spare)
}

// ReportEndOfStream says that no more media come: the end, or the answer to StopPlaying
// (2.2.4.5).
type ReportEndOfStream struct {
	HR              HRESULT // OK; MoreEntries: a ReportStreamChange follows; else an error
	PlayIncarnation uint32
}

// MID returns MIDReportEndOfStream.
func (*ReportEndOfStream) MID() MID { return MIDReportEndOfStream }

func (x *ReportEndOfStream) code(c *coder) {
	c.hr(&x.HR)
	c.optional(&x.PlayIncarnation)
}

// ReportStreamChange announces the header of the next playlist entry (2.2.4.12).
type ReportStreamChange struct {
	HR          HRESULT
	Incarnation uint32 // of the header's data packets over TCP: FF
	PacketSize  uint32
	HeaderSize  uint32
	BitRate     uint32
	StreamID    uint32
}

// MID returns MIDReportStreamChange.
func (*ReportStreamChange) MID() MID { return MIDReportStreamChange }

func (x *ReportStreamChange) code(c *coder) {
	c.hr(&x.HR)
	for _, p := range []*uint32{&x.Incarnation, &x.PacketSize, &x.HeaderSize, &x.BitRate} {
		c.u32(p)
	}
	c.optional(&x.StreamID)
}

// ReportFunnelInfo answers FunnelInfo (2.2.4.6).
type ReportFunnelInfo struct {
	HR              HRESULT
	PlayIncarnation uint32
	TransportMask   uint32
	BlockFragments  uint32
	FragmentBytes   uint32
	ClientID        uint32 // nCubs
	FailedCubs      uint32
	Disks           uint32
	Decluster       uint32
	DatagramSize    uint32
}

// MID returns MIDReportFunnelInfo.
func (*ReportFunnelInfo) MID() MID { return MIDReportFunnelInfo }

func (x *ReportFunnelInfo) code(c *coder) {
	c.hr(&x.HR)
	for _, p := range []*uint32{
		&x.PlayIncarnation, &x.TransportMask, &x.BlockFragments, &x.FragmentBytes, &x.ClientID,
		&x.FailedCubs, &x.Disks, &x.Decluster, &x.DatagramSize,
	} {
		c.optional(p)
	}
}

// ReportRedirect sends the viewer elsewhere (2.2.4.11); the server closes then.
type ReportRedirect struct {
	HR       HRESULT
	Type     uint16 // 1 other URL, 2 proxy
	Location string
}

// MID returns MIDReportRedirect.
func (*ReportRedirect) MID() MID { return MIDReportRedirect }

func (x *ReportRedirect) code(c *coder) {
	size := uint16(chars(x.Location) * 2)
	c.hr(&x.HR)
	c.u16(&x.Type)
	c.u16(&size)
	c.counted(&x.Location, uint32(size)/2)
}

// SecurityChallenge asks for credentials; it has no result code.
type SecurityChallenge struct {
	PlayIncarnation, Cookie uint32
	Token                   []byte
}

// MID returns MIDSecurityChallenge.
func (*SecurityChallenge) MID() MID { return MIDSecurityChallenge }

func (x *SecurityChallenge) code(c *coder) {
	c.u32(&x.PlayIncarnation)
	c.u32(&x.Cookie)
	c.token(&x.Token)
}

// Ping wants a Pong.
type Ping struct{ A, B uint32 }

// MID returns MIDPing.
func (*Ping) MID() MID { return MIDPing }

func (x *Ping) code(c *coder) {
	c.optional(&x.A)
	c.optional(&x.B)
}
