package mms

// NewBody returns an empty body for a message, nil when its fields are not known (Logging too:
// its statistics are nobody's business).
func NewBody(m MID) Body {
	if x := viewerBody(m); x != nil {
		return x
	}
	return serverBody(m)
}

func viewerBody(m MID) Body {
	switch m {
	case MIDConnect:
		return &Connect{}
	case MIDConnectFunnel:
		return &ConnectFunnel{}
	case MIDOpenFile:
		return &OpenFile{}
	case MIDStartPlaying:
		return &StartPlaying{}
	case MIDStopPlaying:
		return &StopPlaying{}
	case MIDCloseFile:
		return &CloseFile{}
	case MIDReadBlock:
		return &ReadBlock{}
	case MIDFunnelInfo:
		return &FunnelInfo{}
	case MIDSecurityResponse:
		return &SecurityResponse{}
	case MIDPong:
		return &Pong{}
	case MIDCancelReadBlock:
		return &CancelReadBlock{}
	case MIDStartStriding:
		return &StartStriding{}
	case MIDStreamSwitch:
		return &StreamSwitch{}
	}
	return nil
}

func serverBody(m MID) Body {
	switch m {
	case MIDReportConnectedEX:
		return &ReportConnectedEX{}
	case MIDReportConnectedFunnel:
		return &ReportConnectedFunnel{}
	case MIDReportDisconnectedFunnel:
		return &ReportDisconnectedFunnel{}
	case MIDReportStartedPlaying:
		return &ReportStartedPlaying{}
	case MIDReportOpenFile:
		return &ReportOpenFile{}
	case MIDReportStartStriding:
		return &ReportStartStriding{}
	case MIDReportReadBlock:
		return &ReportReadBlock{}
	case MIDReportFunnelInfo:
		return &ReportFunnelInfo{}
	case MIDSecurityChallenge:
		return &SecurityChallenge{}
	case MIDPing:
		return &Ping{}
	case MIDReportEndOfStream:
		return &ReportEndOfStream{}
	case MIDReportStreamChange:
		return &ReportStreamChange{}
	case MIDReportStreamSwitch:
		return &ReportStreamSwitch{}
	case MIDReportRedirect:
		return &ReportRedirect{}
	}
	return nil
}
