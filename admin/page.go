package admin

import (
	"bytes"
	"cmp"
	"crypto/rand"
	_ "embed" // the page is part of the program
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"scas/session"
)

//go:embed page.html
var pageHTML string

//go:embed page.js
var pageJS string

// pageRows bounds what the page lists, the newest first.
const pageRows = 200

// page answers with the web page: the tables as they are now, kept up to date by its script
// where scripts run. It needs nothing from elsewhere, and its policy forbids it.
func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	nonce := rand.Text()
	tmpl, err := template.New("page").Funcs(template.FuncMap{
		"clock": clock, "seconds": seconds, "deref": deref, "place": place, "who": who, "ordered": ordered,
	}).Parse(pageHTML)
	var body bytes.Buffer
	if err == nil {
		err = tmpl.Execute(&body, s.pageData(nonce))
	}
	if err != nil {
		s.log.Error("web page", "err", err)
		fail(w, http.StatusInternalServerError, codeInternal, "the page cannot be shown")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; script-src 'nonce-%[1]s'; style-src 'nonce-%[1]s'; "+
		"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", nonce))
	send(w, body.Bytes())
}

type pageData struct {
	Nonce, Version string
	Script         template.JS
	Limit          int
	Sessions       []session.Record
	Transfers      []session.Transfer
	Terminals      []Terminal
}

func (s *Server) pageData(nonce string) pageData {
	return pageData{
		Nonce: nonce, Version: s.cfg.Version, Script: template.JS(pageJS), Limit: pageRows,
		Sessions:  newestFirst(s.src.Sessions.List()),
		Transfers: newestFirst(s.src.Table.Transfers()),
		Terminals: s.src.Terminals.Terminals(),
	}
}

// newestFirst returns the last pageRows elements of a list that has the oldest first.
func newestFirst[T any](list []T) []T {
	list = slices.Clone(list[max(0, len(list)-pageRows):])
	slices.Reverse(list)
	return list
}

// clock shows seconds of media time as h:mm:ss.s.
func clock(p *float64) string {
	if p == nil {
		return "–"
	}
	d := time.Duration(*p * float64(time.Second)).Round(100 * time.Millisecond)
	return fmt.Sprintf("%d:%02d:%04.1f", int(d.Hours()), int(d.Minutes())%60, (d % time.Minute).Seconds())
}

func deref(p any) string {
	switch v := p.(type) {
	case *string:
		if v != nil {
			return *v
		}
	case *session.Reason:
		if v != nil {
			return string(*v)
		}
	}
	return "–"
}

// seconds shows a length of time.
func seconds(s *float64) string {
	if s == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f s", *s)
}

// place shows a terminal by its name and address.
func place(t session.Terminal) string {
	switch {
	case !t.IP.IsValid():
		return cmp.Or(t.Name, "–")
	case t.Name == "" || t.Name == t.IP.String():
		return t.IP.String()
	}
	return t.Name + " (" + t.IP.String() + ")"
}

// who shows a user without the scheme.
func who(aor *string) string {
	return strings.TrimPrefix(strings.TrimPrefix(deref(aor), "sip:"), "sips:")
}

// ordered shows when a transfer began.
func ordered(t session.Transfer) string {
	for _, at := range []*time.Time{t.Times.Offered, t.Times.Armed, t.Times.Attached, t.Times.Ended} {
		if at != nil {
			return at.Local().Format("2006-01-02 15:04:05")
		}
	}
	return "–"
}
