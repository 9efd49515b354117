package sip

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"

	gosip "github.com/emiago/sipgo/sip"
)

// embedded is what the body of a third-party REGISTER holds (TS 24.229 5.4.1.7, 7.6); nil
// and empty where there is nothing.
type embedded struct {
	request  *gosip.Request  // the terminal's REGISTER
	response *gosip.Response // the answer to it
	info     string          // service information of the profile, opaque
}

const (
	maxBodySize = 32 << 10
	maxParts    = 8
	maxXML      = 64 << 10
	maxXMLDepth = 16
)

var (
	// errBody: the body is of no use; what the headers say still holds.
	errBody = errors.New("body not usable")
	// errXML: a document that is not read: too big, too deep, with declarations or malformed.
	errXML = errors.New("xml not usable")
)

// parseBody reads a body of any of the forms. An error leaves what was read before it.
func parseBody(contentType string, body []byte) (embedded, error) {
	var e embedded
	if len(body) > maxBodySize {
		return e, errBody
	}
	return e, e.read(contentType, body, 0)
}

// read reads one part; level counts multiparts around it.
func (e *embedded) read(contentType string, body []byte, level int) error {
	kind := mediaType(contentType)
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return nil
	case kind == "message/sip":
		return e.message(body)
	case kind == "application/3gpp-ims+xml":
		info, err := serviceInfo(body)
		if err == nil && e.info == "" {
			e.info = info
		}
		return err
	case strings.HasPrefix(kind, "multipart/") && level == 0:
		return e.parts(contentType, body)
	}
	return errBody
}

// message reads an embedded REGISTER or its answer.
func (e *embedded) message(body []byte) error {
	v := scrub(innerLength(body), maxInnerLine)
	if v.data == nil {
		return errBody
	}
	msg, err := gosip.NewParser(gosip.WithHeadersParsers(lenientParsers())).ParseSIP(v.data)
	if err != nil {
		return errBody
	}
	switch m := msg.(type) {
	case *gosip.Request:
		if m.Method != gosip.REGISTER || m.To() == nil || m.From() == nil || m.CallID() == nil || m.CSeq() == nil {
			return errBody
		}
		if e.request == nil {
			e.request = m
		}
	case *gosip.Response:
		if e.response == nil {
			e.response = m
		}
	}
	return nil
}

// maxInnerLine bounds a header line of an embedded message.
const maxInnerLine = 2 << 10

// innerLength makes sure that the head of an embedded message ends: some cores leave out the
// empty line when there is no body.
func innerLength(b []byte) []byte {
	b = bytes.TrimLeft(b, "\r\n")
	if bytes.Contains(b, []byte("\r\n\r\n")) {
		return b
	}
	return append(bytes.TrimRight(b, "\r\n"), "\r\n\r\n"...)
}

// parts reads multipart/mixed, one level of it.
func (e *embedded) parts(contentType string, body []byte) error {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["boundary"] == "" {
		return errBody
	}
	r := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	var firstErr error
	for n := 0; ; n++ {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return firstErr
		}
		if err != nil || n >= maxParts {
			return errBody
		}
		part, err := io.ReadAll(io.LimitReader(p, maxBodySize))
		if err != nil {
			return errBody
		}
		kind := p.Header.Get("Content-Type")
		if kind == "" {
			kind = "message/sip"
		}
		if err := e.read(kind, part, 1); err != nil && firstErr == nil {
			firstErr = err
		}
	}
}

// serviceInfo is the text of <ims-3gpp><service-info>, which may be XML itself.
func serviceInfo(body []byte) (string, error) {
	if err := safeXML(body); err != nil {
		return "", err
	}
	var doc struct {
		XMLName xml.Name `xml:"ims-3gpp"`
		Info    struct {
			Text string `xml:",innerxml"`
		} `xml:"service-info"`
	}
	if err := xml.Unmarshal(body, &doc); err != nil {
		return "", errXML
	}
	text := strings.TrimSpace(doc.Info.Text)
	if inner, ok := strings.CutPrefix(text, "<![CDATA["); ok {
		text = strings.TrimSuffix(inner, "]]>")
	}
	return text, nil
}

// safeXML refuses documents that no peer of ours sends (ims-sip 5.3).
func safeXML(b []byte) error {
	if len(b) > maxXML {
		return errXML
	}
	d := xml.NewDecoder(bytes.NewReader(b))
	d.Strict = true
	for depth := 0; ; {
		t, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return errXML
		}
		switch t.(type) {
		case xml.Directive:
			return errXML
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
		if depth > maxXMLDepth {
			return errXML
		}
	}
}
