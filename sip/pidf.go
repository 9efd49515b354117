package sip

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Namespaces of presence documents (RFC 3863, RFC 4479, RFC 4480).
const (
	nsPIDF  = "urn:ietf:params:xml:ns:pidf"
	nsModel = "urn:ietf:params:xml:ns:pidf:data-model"
	nsRPID  = "urn:ietf:params:xml:ns:pidf:rpid"
)

// PresenceType is the media type of a presence document.
const PresenceType = "application/pidf+xml"

// Bounds of an incoming document (ims-sip 5.3).
const (
	maxPIDF       = 64 << 10
	maxPIDFDepth  = 16
	maxPIDFParts  = 64
	maxPIDFText   = 512
	maxActivities = 16
)

// errPIDF: the document is refused.
var errPIDF = errors.New("presence document refused")

// userInput is an RPID user-input element (RFC 4480 §3.12). Present is false when there is none.
type userInput struct {
	present, active bool
	threshold       time.Duration
	last            time.Time // zero: not said
}

// pidfTuple, pidfDevice and pidfPerson are the parts of a document that tell about terminals.
type pidfTuple struct {
	id, basic, contact, deviceID string
	priority                     float64
	timestamp                    time.Time
	input                        userInput
}

type pidfDevice struct {
	id, deviceID string
	timestamp    time.Time
	input        userInput
}

type pidfPerson struct {
	id         string
	activities []string
	input      userInput
}

// presenceDoc is what one NOTIFY said of one user.
type presenceDoc struct {
	entity  string
	tuples  []pidfTuple
	devices []pidfDevice
	persons []pidfPerson
}

// parsePIDF reads a presence document; elements it does not know are passed over. Errors wrap
// errPIDF.
func parsePIDF(body []byte) (presenceDoc, error) {
	p := pidfReader{}
	if len(body) > maxPIDF {
		return p.doc, fmt.Errorf("%w: %d bytes", errPIDF, len(body))
	}
	d := xml.NewDecoder(bytes.NewReader(body))
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = p.token(t)
		}
		if err != nil {
			return presenceDoc{}, fmt.Errorf("%w: %w", errPIDF, err)
		}
	}
	if !p.root {
		return presenceDoc{}, fmt.Errorf("%w: no presence element", errPIDF)
	}
	return p.doc, nil
}

// pidfReader collects a document from XML tokens.
type pidfReader struct {
	doc  presenceDoc
	root bool
	path []xml.Name
	text strings.Builder
	attr []xml.Attr // of the innermost element
}

func (p *pidfReader) token(t xml.Token) error {
	switch t := t.(type) {
	case xml.Directive:
		return errors.New("DOCTYPE")
	case xml.StartElement:
		p.path = append(p.path, t.Name)
		if len(p.path) > maxPIDFDepth {
			return errors.New("too deep")
		}
		p.text.Reset()
		p.attr = t.Attr
		return p.start(t)
	case xml.CharData:
		if p.text.Len()+len(t) <= maxPIDFText {
			p.text.Write(t)
		}
	case xml.EndElement:
		p.end(strings.TrimSpace(p.text.String()))
		p.path = p.path[:len(p.path)-1]
		p.text.Reset()
	}
	return nil
}

func (p *pidfReader) start(t xml.StartElement) error {
	switch len(p.path) {
	case 1:
		if t.Name != (xml.Name{Space: nsPIDF, Local: "presence"}) {
			return errors.New("not a presence element")
		}
		p.root = true
		p.doc.entity = attribute(t.Attr, "entity")
	case 2:
		if len(p.doc.tuples)+len(p.doc.devices)+len(p.doc.persons) >= maxPIDFParts {
			return errors.New("too many parts")
		}
		id := attribute(t.Attr, "id")
		switch t.Name {
		case xml.Name{Space: nsPIDF, Local: "tuple"}:
			p.doc.tuples = append(p.doc.tuples, pidfTuple{id: id})
		case xml.Name{Space: nsModel, Local: "device"}:
			p.doc.devices = append(p.doc.devices, pidfDevice{id: id})
		case xml.Name{Space: nsModel, Local: "person"}:
			p.doc.persons = append(p.doc.persons, pidfPerson{id: id})
		}
	case 4:
		p.activity(t.Name)
	}
	return nil
}

// activity takes the empty children of rpid:activities in a person.
func (p *pidfReader) activity(n xml.Name) {
	if p.path[1] != (xml.Name{Space: nsModel, Local: "person"}) ||
		p.path[2] != (xml.Name{Space: nsRPID, Local: "activities"}) || n.Space != nsRPID {
		return
	}
	who := &p.doc.persons[len(p.doc.persons)-1]
	if len(who.activities) < maxActivities {
		who.activities = append(who.activities, n.Local)
	}
}

// end takes the text of the element that ends.
func (p *pidfReader) end(text string) {
	if len(p.path) < 3 {
		return
	}
	name := p.path[len(p.path)-1]
	switch p.path[1] {
	case xml.Name{Space: nsPIDF, Local: "tuple"}:
		p.endInTuple(&p.doc.tuples[len(p.doc.tuples)-1], name, text)
	case xml.Name{Space: nsModel, Local: "device"}:
		d := &p.doc.devices[len(p.doc.devices)-1]
		switch {
		case len(p.path) != 3:
		case name == xml.Name{Space: nsModel, Local: "deviceID"}:
			d.deviceID = text
		case name == xml.Name{Space: nsModel, Local: "timestamp"}:
			d.timestamp = xmlTime(text)
		case name == xml.Name{Space: nsRPID, Local: "user-input"}:
			d.input = p.input(text)
		}
	case xml.Name{Space: nsModel, Local: "person"}:
		if len(p.path) == 3 && name == (xml.Name{Space: nsRPID, Local: "user-input"}) {
			p.doc.persons[len(p.doc.persons)-1].input = p.input(text)
		}
	}
}

func (p *pidfReader) endInTuple(t *pidfTuple, name xml.Name, text string) {
	switch {
	case len(p.path) == 4 && p.path[2].Local == "status" && name == xml.Name{Space: nsPIDF, Local: "basic"}:
		t.basic = text
	case len(p.path) != 3:
	case name == xml.Name{Space: nsModel, Local: "deviceID"}:
		t.deviceID = text
	case name == xml.Name{Space: nsPIDF, Local: "contact"}:
		t.contact = text
		if q, err := strconv.ParseFloat(attribute(p.attr, "priority"), 64); err == nil && q >= 0 && q <= 1 {
			t.priority = q
		}
	case name == xml.Name{Space: nsPIDF, Local: "timestamp"}:
		t.timestamp = xmlTime(text)
	case name == xml.Name{Space: nsRPID, Local: "user-input"}:
		t.input = p.input(text)
	}
}

func (p *pidfReader) input(text string) userInput {
	u := userInput{present: text == "active" || text == "idle", active: text == "active"}
	u.last = xmlTime(attribute(p.attr, "last-input"))
	if s, err := strconv.Atoi(attribute(p.attr, "idle-threshold")); err == nil && s > 0 && s <= 86400 {
		u.threshold = time.Duration(s) * time.Second
	}
	return u
}

// xmlTime reads an xs:dateTime with a zone; zero when it is none.
func xmlTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

func attribute(attrs []xml.Attr, name string) string {
	for _, a := range attrs {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// presenceOf returns the document in which a terminal publishes whether its user is there:
// a tuple, a device, and a person when there is an activity.
func presenceOf(entity, instance, contact string, active bool, lastInput time.Time, activity string, now time.Time) []byte {
	text := func(s string) string {
		var b bytes.Buffer
		_ = xml.EscapeText(&b, []byte(s)) // a Buffer takes everything
		return b.String()
	}
	state, last := "idle", ""
	if active {
		state = "active"
	}
	if !lastInput.IsZero() {
		last = ` last-input="` + lastInput.UTC().Format(time.RFC3339) + `"`
	}
	input := `<rpid:user-input idle-threshold="60"` + last + `>` + state + `</rpid:user-input>`
	device := `<dm:deviceID>` + text(instance) + `</dm:deviceID>`
	id := text(strings.Map(ncName, instance))
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	b.WriteString(`<presence xmlns="` + nsPIDF + `" xmlns:dm="` + nsModel + `" xmlns:rpid="` + nsRPID + `" entity="` + text(entity) + "\">\n")
	b.WriteString(`<tuple id="t-` + id + `"><status><basic>open</basic></status>` + input + device)
	b.WriteString(`<contact priority="0.8">` + text(contact) + `</contact><timestamp>` + now.UTC().Format(time.RFC3339) + "</timestamp></tuple>\n")
	if activity != "" {
		b.WriteString(`<dm:person id="p-` + id + `"><rpid:activities><rpid:` + strings.Map(ncName, activity) + "/></rpid:activities></dm:person>\n")
	}
	b.WriteString(`<dm:device id="d-` + id + `">` + input + device + "</dm:device>\n</presence>\n")
	return []byte(b.String())
}

// ncName drops what an XML id cannot hold.
func ncName(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.':
		return r
	}
	return -1
}
