package sip

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gosip "github.com/emiago/sipgo/sip"
)

func seedFiles(f *testing.F, pattern string) {
	f.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds %s", pattern)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// FuzzRegInfo: no document crashes the reader, and what it takes stays within bounds.
func FuzzRegInfo(f *testing.F) {
	files, _ := filepath.Glob("testdata/registrations/regevent-*")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, body, _ := bytes.Cut(b, []byte("\r\n\r\n"))
		f.Add(body)
	}
	f.Add([]byte(reginfo(3, "partial", "active", "1 active sip:a@10.0.0.1")))
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := parseRegInfo(b)
		if err != nil {
			return
		}
		var st regState
		st.apply(doc)
		active, ended := st.contacts()
		if n := len(active) + len(ended); n > maxRegistrations*maxRegContacts {
			t.Fatalf("%d contacts", n)
		}
		for _, c := range active {
			if unsafe(c.URI) {
				t.Fatalf("unsafe URI %q", c.URI)
			}
		}
		st.identities()
		st.prune()
		if fresh, _ := st.apply(doc); fresh {
			t.Fatal("the same version is new again")
		}
	})
}

// FuzzBody: no body of a third-party REGISTER crashes the reader.
func FuzzBody(f *testing.F) {
	files, _ := filepath.Glob("testdata/registrations/tpreg-*")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, body, _ := bytes.Cut(b, []byte("\r\n\r\n"))
		kind := "message/sip"
		if bytes.Contains(b, []byte("3gpp-ims+xml")) {
			kind = "application/3gpp-ims+xml"
		}
		f.Add(kind, body)
		f.Add("multipart/mixed;boundary=b", []byte("--b\r\nContent-Type: "+kind+"\r\n\r\n"+string(body)+"\r\n--b--\r\n"))
	}
	rules := newAddressRules(baseConfig("127.0.0.1"))
	f.Fuzz(func(t *testing.T, kind string, b []byte) {
		e, err := parseBody(kind, b)
		if err != nil || e.request == nil {
			return
		}
		contacts := contactsOf(e.request)
		if len(contacts) > maxContacts {
			t.Fatalf("%d contacts", len(contacts))
		}
		for _, c := range contacts {
			if ip, _ := rules.ueAddress(e.request, c.uri); ip.IsValid() && !rules.admits(ip) {
				t.Fatalf("address %v", ip)
			}
			c.life(e.request)
		}
	})
}

// FuzzAddress: an identity that was read is read the same again, and nothing unsafe gets in.
func FuzzAddress(f *testing.F) {
	for _, s := range identitySeeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		parseContact(s)
		contactKey(s)
		splitOutside(s, ',')
		parseSubState(s)
		id, err := parseIdentity(s)
		if err != nil {
			return
		}
		if unsafe(string(id)) {
			t.Fatalf("unsafe identity %q of %q", id, s)
		}
		if strings.Contains(string(id), "%") || strings.ContainsAny(string(id), ";@?:[]") {
			return // the user part may hold what means something else in a URI
		}
		if again, err := parseIdentity(string(id)); err != nil || again != id {
			t.Fatalf("%q -> %q -> %q, %v", s, id, again, err)
		}
	})
}

// FuzzScrub: no datagram crashes it, an answer is an answer, and what it rebuilds is a message
// that it would not rebuild again.
func FuzzScrub(f *testing.F) {
	seedFiles(f, "testdata/torture/*.dat")
	seedFiles(f, "testdata/registrations/*.sip")
	f.Fuzz(func(t *testing.T, b []byte) {
		v := scrub(b, 1024)
		switch {
		case v.answer != nil && !bytes.HasPrefix(v.answer, []byte("SIP/2.0 4")):
			t.Fatalf("answer %q", v.answer)
		case v.data == nil && v.reason == "":
			t.Fatal("dropped without a reason")
		case v.data == nil:
			return
		}
		m, err := gosip.NewParser(gosip.WithHeadersParsers(lenientParsers())).ParseSIP(v.data)
		if err != nil {
			return
		}
		if r, ok := m.(*gosip.Request); ok {
			s := &stack{handlers: map[string]handlerFunc{}}
			s.check(r)
			parseBody(headerText(r, "Content-Type"), r.Body())
		}
	})
}
