package ims

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/netip"
	"slices"
	"testing"
)

// TestDiameter: what is written is read back; what is cut short is an error.
func TestDiameter(t *testing.T) {
	m := diameter{request: true, command: cmdRTR, application: cxApplication, hop: 7, end: 9, avps: []avp{
		text(avpSessionID, "odd"), number(avpAuthState, 1), groupCx(avpDeregistration, numberCx(avpReasonCode, 0), textCx(avpReasonInfo, "x")),
	}}
	raw := m.marshal()
	if len(raw)%4 != 0 {
		t.Errorf("%d bytes", len(raw))
	}
	got, err := readDiameter(bytes.NewReader(raw))
	if err != nil || !got.request || got.command != cmdRTR || got.application != cxApplication || got.hop != 7 || got.end != 9 ||
		got.text(avpSessionID) != "odd" || got.number(avpAuthState) != 1 || len(got.avps) != 3 || got.avps[2].vendor != vendor3GPP {
		t.Errorf("%+v, %v", got, err)
	}
	if inner, err := parseAVPs(got.avps[2].data); err != nil || len(inner) != 2 || string(inner[1].data) != "x" {
		t.Errorf("%+v, %v", inner, err)
	}
	for cut := range len(raw) {
		if _, err := readDiameter(bytes.NewReader(raw[:cut])); err == nil {
			t.Errorf("%d of %d bytes are taken", cut, len(raw))
		}
	}
	if _, err := readDiameter(bytes.NewReader(nil)); err != io.EOF {
		t.Errorf("%v", err)
	}
	if _, err := parseAVPs([]byte{0, 0, 0, 1, 0x40, 0, 0, 7}); err == nil {
		t.Error("an attribute shorter than its head is taken")
	}
}

// TestProfile: the user's data is XML with what the S-CSCF looks for.
func TestProfile(t *testing.T) {
	h := &hss{plan: Plan{Domain: "ims.example", AS: netip.MustParseAddr("192.0.2.9")}}
	u := User{Name: "bob", Identities: []string{"tel:+1"}, Request: true, ServiceInfo: "a<b"}
	var got struct {
		PrivateID      string
		ServiceProfile struct {
			PublicIdentity        []struct{ Identity string }
			InitialFilterCriteria struct {
				TriggerPoint      struct{ SPT struct{ Method string } }
				ApplicationServer struct {
					ServerName, ServiceInfo string
					Extension               struct{ IncludeRegisterRequest, IncludeRegisterResponse *struct{} }
				}
			}
		}
	}
	if err := xml.Unmarshal([]byte(h.profile(u)), &got); err != nil {
		t.Fatal(err)
	}
	p := got.ServiceProfile
	as := p.InitialFilterCriteria.ApplicationServer
	var ids []string
	for _, x := range p.PublicIdentity {
		ids = append(ids, x.Identity)
	}
	if got.PrivateID != "bob@ims.example" || !slices.Equal(ids, []string{"sip:bob@ims.example", "tel:+1"}) ||
		p.InitialFilterCriteria.TriggerPoint.SPT.Method != "REGISTER" || as.ServerName != "sip:192.0.2.9:5060" || as.ServiceInfo != "a<b" ||
		as.Extension.IncludeRegisterRequest == nil || as.Extension.IncludeRegisterResponse != nil {
		t.Errorf("%+v", got)
	}
}
