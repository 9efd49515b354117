package sip

import (
	"encoding/xml"
	"errors"
	"strings"
	"time"
)

// RegInfoType is the body type of the registration event package (RFC 3680).
const RegInfoType = "application/reginfo+xml"

// regInfo is one registration document.
type regInfo struct {
	XMLName       xml.Name          `xml:"urn:ietf:params:xml:ns:reginfo reginfo"`
	Version       uint32            `xml:"version,attr"`
	State         string            `xml:"state,attr"`
	Registrations []regRegistration `xml:"urn:ietf:params:xml:ns:reginfo registration"`
}

type regRegistration struct {
	AoR      string       `xml:"aor,attr"`
	ID       string       `xml:"id,attr"`
	State    string       `xml:"state,attr"`
	Contacts []regContact `xml:"urn:ietf:params:xml:ns:reginfo contact"`
}

type regContact struct {
	ID      string     `xml:"id,attr"`
	State   string     `xml:"state,attr"`
	Event   string     `xml:"event,attr"`
	Expires string     `xml:"expires,attr"`
	URI     string     `xml:"urn:ietf:params:xml:ns:reginfo uri"`
	Params  []regParam `xml:"urn:ietf:params:xml:ns:reginfo unknown-param"`
	PubGRUU struct {
		URI string `xml:"uri,attr"`
	} `xml:"urn:ietf:params:xml:ns:gruuinfo pub-gruu"`
}

type regParam struct {
	Name  string `xml:"name,attr"`
	Value string `xml:",chardata"`
}

const (
	maxRegistrations = 64
	maxRegContacts   = 64
)

// errRegInfo: the document cannot be used.
var errRegInfo = errors.New("registration document not usable")

// parseRegInfo reads a document. Unknown elements and attributes are ignored.
func parseRegInfo(body []byte) (regInfo, error) {
	var doc regInfo
	if err := safeXML(body); err != nil {
		return doc, err
	}
	if err := xml.Unmarshal(body, &doc); err != nil {
		return regInfo{}, errRegInfo
	}
	if doc.State != "full" && doc.State != "partial" || len(doc.Registrations) > maxRegistrations {
		return regInfo{}, errRegInfo
	}
	for _, r := range doc.Registrations {
		if len(r.Contacts) > maxRegContacts {
			return regInfo{}, errRegInfo
		}
	}
	return doc, nil
}

// instance is the +sip.instance of a contact, bare; "" when it names none.
func (c regContact) instance() string { return bareInstance(c.param("+sip.instance")) }

func (c regContact) param(name string) string {
	for _, p := range c.Params {
		if strings.EqualFold(p.Name, name) {
			return unquote(strings.TrimSpace(p.Value))
		}
	}
	return ""
}

// life is the time the contact is still registered for; 0 when not said.
func (c regContact) life() time.Duration { return seconds(c.Expires) }

// gruu is the public GRUU, as an element or as a parameter; "" when there is none.
func (c regContact) gruu() string {
	uri := strings.TrimSpace(c.PubGRUU.URI)
	if uri == "" {
		uri = c.param("pub-gruu")
	}
	if u, ok := parseURI(uri); !ok || len(uri) > maxURI || unsafe(uri) || u.user == "" {
		return ""
	}
	return uri
}

// regState is what one subscription has shown so far: documents, put together by their
// versions. Not safe for concurrent use.
type regState struct {
	have    bool
	version uint32
	regs    map[string]*regRegistration // by registration id, contacts complete
}

// apply takes in a document. fresh: it told something new; gap: a document in between was
// missed, and the whole state has to be asked for (RFC 3680 §5.1).
func (s *regState) apply(doc regInfo) (fresh, gap bool) {
	if s.have && doc.Version <= s.version {
		return false, false
	}
	if doc.State == "partial" && (!s.have || doc.Version != s.version+1) {
		return false, true
	}
	s.have, s.version = true, doc.Version
	if doc.State == "full" || s.regs == nil {
		s.regs = map[string]*regRegistration{}
	}
	for _, r := range doc.Registrations {
		old := s.regs[r.ID]
		if old == nil {
			s.regs[r.ID] = &r
			continue
		}
		old.AoR, old.State = r.AoR, r.State
		for _, c := range r.Contacts {
			old.replace(c)
		}
		if len(old.Contacts) > maxRegContacts {
			return true, true
		}
	}
	return true, false
}

// replace updates a contact by its id, or adds it.
func (r *regRegistration) replace(c regContact) {
	for i := range r.Contacts {
		if r.Contacts[i].ID == c.ID {
			r.Contacts[i] = c
			return
		}
	}
	r.Contacts = append(r.Contacts, c)
}

// prune forgets what has ended, once it was acted on.
func (s *regState) prune() {
	for id, r := range s.regs {
		if r.State == "terminated" {
			delete(s.regs, id)
			continue
		}
		kept := r.Contacts[:0]
		for _, c := range r.Contacts {
			if c.State != "terminated" {
				kept = append(kept, c)
			}
		}
		r.Contacts = kept
	}
}

// identities are the public identities that are registered.
func (s *regState) identities() []identity {
	var out []identity
	for _, r := range s.regs {
		if id, err := parseIdentity(r.AoR); err == nil && r.State == "active" {
			out = append(out, id)
		}
	}
	return out
}

// contacts returns the active and the ended contacts over all identities, each once: what is
// active under one identity has not ended.
func (s *regState) contacts() (active, ended []regContact) {
	seen := map[string]bool{}
	for _, r := range s.regs {
		for _, c := range r.Contacts {
			c.URI = strings.TrimSpace(c.URI)
			if c.State == "active" && r.State != "terminated" && !seen[contactKey(c.URI)] && len(c.URI) <= maxURI && !unsafe(c.URI) {
				seen[contactKey(c.URI)] = true
				active = append(active, c)
			}
		}
	}
	for _, r := range s.regs {
		for _, c := range r.Contacts {
			if c.State == "terminated" || r.State == "terminated" {
				c.URI = strings.TrimSpace(c.URI)
				if !seen[contactKey(c.URI)] {
					ended = append(ended, c)
				}
			}
		}
	}
	return active, ended
}

// registered reports whether any identity is.
func (s *regState) registered() bool {
	for _, r := range s.regs {
		if r.State == "active" {
			return true
		}
	}
	return false
}
