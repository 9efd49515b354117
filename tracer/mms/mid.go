package mms

import "fmt"

// MID is the number of a message: the direction in the high half, the message in the low.
type MID uint32

// Messages of the viewer ([MS-MMSP] 2.2.4).
const (
	MIDConnect          MID = 0x00030001
	MIDConnectFunnel    MID = 0x00030002
	MIDOpenFile         MID = 0x00030005
	MIDStartPlaying     MID = 0x00030007
	MIDStopPlaying      MID = 0x00030009
	MIDCloseFile        MID = 0x0003000D
	MIDReadBlock        MID = 0x00030015
	MIDFunnelInfo       MID = 0x00030018
	MIDSecurityResponse MID = 0x0003001A
	MIDPong             MID = 0x0003001B
	MIDCancelReadBlock  MID = 0x00030025
	MIDStartStriding    MID = 0x00030028
	MIDLogging          MID = 0x00030032
	MIDStreamSwitch     MID = 0x00030033
)

// Messages of the server. The same low number means other things than in the viewer's.
const (
	MIDReportConnectedEX        MID = 0x00040001
	MIDReportConnectedFunnel    MID = 0x00040002
	MIDReportDisconnectedFunnel MID = 0x00040003
	MIDReportStartedPlaying     MID = 0x00040005
	MIDReportOpenFile           MID = 0x00040006
	MIDReportStartStriding      MID = 0x0004000A
	MIDReportReadBlock          MID = 0x00040011
	MIDReportFunnelInfo         MID = 0x00040015
	MIDSecurityChallenge        MID = 0x0004001A
	MIDPing                     MID = 0x0004001B
	MIDReportEndOfStream        MID = 0x0004001E
	MIDReportStreamChange       MID = 0x00040020
	MIDReportStreamSwitch       MID = 0x00040021
	MIDReportRedirect           MID = 0x00040022
)

// String returns the specification's name of the message, its number when it has none.
func (m MID) String() string {
	if name := m.viewer() + m.server(); name != "" {
		return name
	}
	return fmt.Sprintf("MID(%08X)", uint32(m))
}

func (m MID) viewer() string {
	switch m {
	case MIDConnect:
		return "Connect"
	case MIDConnectFunnel:
		return "ConnectFunnel"
	case MIDOpenFile:
		return "OpenFile"
	case MIDStartPlaying:
		return "StartPlaying"
	case MIDStopPlaying:
		return "StopPlaying"
	case MIDCloseFile:
		return "CloseFile"
	case MIDReadBlock:
		return "ReadBlock"
	case MIDFunnelInfo:
		return "FunnelInfo"
	case MIDSecurityResponse:
		return "SecurityResponse"
	case MIDPong:
		return "Pong"
	case MIDCancelReadBlock:
		return "CancelReadBlock"
	case MIDStartStriding:
		return "StartStriding"
	case MIDLogging:
		return "Logging"
	case MIDStreamSwitch:
		return "StreamSwitch"
	}
	return ""
}

func (m MID) server() string {
	switch m {
	case MIDReportConnectedEX:
		return "ReportConnectedEX"
	case MIDReportConnectedFunnel:
		return "ReportConnectedFunnel"
	case MIDReportDisconnectedFunnel:
		return "ReportDisconnectedFunnel"
	case MIDReportStartedPlaying:
		return "ReportStartedPlaying"
	case MIDReportOpenFile:
		return "ReportOpenFile"
	case MIDReportStartStriding:
		return "ReportStartStriding"
	case MIDReportReadBlock:
		return "ReportReadBlock"
	case MIDReportFunnelInfo:
		return "ReportFunnelInfo"
	case MIDSecurityChallenge:
		return "SecurityChallenge"
	case MIDPing:
		return "Ping"
	case MIDReportEndOfStream:
		return "ReportEndOfStream"
	case MIDReportStreamChange:
		return "ReportStreamChange"
	case MIDReportStreamSwitch:
		return "ReportStreamSwitch"
	case MIDReportRedirect:
		return "ReportRedirect"
	}
	return ""
}

// HRESULT is a result code; bit 31 says failure ([MS-ERREF]).
type HRESULT uint32

// Results a proxy has to tell apart.
const (
	OK           HRESULT = 0
	MoreEntries  HRESULT = 1 // of ReportEndOfStream: another playlist entry follows
	FileNotFound HRESULT = 0x80070002
	AccessDenied HRESULT = 0x80070005
)

// Failed reports whether the code says failure.
func (h HRESULT) Failed() bool { return h>>31 != 0 }

// String returns the code as the specifications write it.
func (h HRESULT) String() string { return fmt.Sprintf("%08X", uint32(h)) }
