package ims

import (
	"encoding/xml"
	"strings"
)

// profile is the user's data as the S-CSCF wants it (TS 29.228 annex E): the identities,
// and one filter criterion that sends every REGISTER to the application server.
func (h *hss) profile(u User) string {
	var b strings.Builder
	tag := func(name, value string) {
		b.WriteString("<" + name + ">")
		_ = xml.EscapeText(&b, []byte(value)) // a Builder takes everything
		b.WriteString("</" + name + ">")
	}
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><IMSSubscription>`)
	tag("PrivateID", h.private(u))
	b.WriteString("<ServiceProfile>")
	for _, id := range h.public(u) {
		b.WriteString("<PublicIdentity><BarringIndication>0</BarringIndication>")
		tag("Identity", id)
		b.WriteString("</PublicIdentity>")
	}
	b.WriteString("<InitialFilterCriteria><Priority>0</Priority><TriggerPoint><ConditionTypeCNF>0</ConditionTypeCNF>" +
		"<SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><Method>REGISTER</Method></SPT></TriggerPoint><ApplicationServer>")
	tag("ServerName", h.plan.uri(h.plan.AS))
	tag("DefaultHandling", "0") // a silent application server is ignored
	if u.ServiceInfo != "" {
		tag("ServiceInfo", u.ServiceInfo)
	}
	if u.Request || u.Response {
		b.WriteString("<Extension>")
		if u.Request {
			b.WriteString("<IncludeRegisterRequest/>")
		}
		if u.Response {
			b.WriteString("<IncludeRegisterResponse/>")
		}
		b.WriteString("</Extension>")
	}
	b.WriteString("</ApplicationServer></InitialFilterCriteria>")
	b.WriteString("</ServiceProfile></IMSSubscription>")
	return b.String()
}
