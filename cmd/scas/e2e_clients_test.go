package main

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"scas/internal/lab"
	"scas/internal/lab/peers"
	"scas/session"
	"scas/sip"
	"scas/tracer/rtsp"
)

// clientSecret is a password that every client's configuration can hold.
const clientSecret = "unguessable"

// stockClient is a SIP client that knows nothing of scas, and its terminal's user.
type stockClient struct {
	*peers.SIPClient
	kind peers.SIPKind
}

// stock starts a SIP client on a terminal; it registers by itself.
func (s *site) stock(t *testing.T, kind peers.SIPKind, ns string) stockClient {
	t.Helper()
	dir := filepath.Join(s.dir, string(kind))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := peers.StartSIPClient(t.Context(), peers.SIPConfig{
		Kind: kind, AoR: bob, Password: clientSecret, Registrar: netip.MustParseAddrPort(s.registrar(ns)),
		Service: "sip:scas@ims.example", Local: s.Addr(ns), Start: s.Command, NS: ns, Dir: dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if said, err := os.ReadFile(filepath.Join(dir, "said")); err == nil && t.Failed() {
			t.Logf("%s said:\n%s", kind, said)
		}
	})
	return stockClient{SIPClient: c, kind: kind}
}

// says types a message and returns the first that the client stored from then on with part in it;
// meanwhile runs in between.
func (c stockClient) says(t *testing.T, words, part string, meanwhile ...func()) (stored string) {
	t.Helper()
	before := -1
	await(t, opening, string(c.kind)+" can be read", func() bool { // a database that is being written cannot
		all, err := c.Messages(t.Context())
		if err == nil {
			before = len(all)
		}
		return err == nil
	})
	if err := c.Say(words); err != nil {
		t.Fatal(err)
	}
	for _, f := range meanwhile {
		f()
	}
	await(t, opening, string(c.kind)+" has the answer to "+words, func() bool {
		all, err := c.Messages(t.Context())
		if err != nil {
			return false
		}
		i := slices.IndexFunc(all[before:], func(body string) bool { return strings.Contains(body, part) })
		if i >= 0 {
			stored = all[before+i]
		}
		return i >= 0
	})
	return stored
}

// clientsSite says what cannot be run here.
func clientsSite(t *testing.T) peers.Film {
	t.Helper()
	film := realSite(t)
	for _, k := range peers.SIPKinds() {
		_, err := exec.LookPath(k.Program())
		needs(t, err)
	}
	return film
}

// TestClients: a film plays on the phone, and its user pulls it to the TV with a telephone
// program that knows nothing of scas, by opening what that program stored.
func TestClients(t *testing.T) {
	t.Parallel()
	film := clientsSite(t)
	for _, kind := range peers.SIPKinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			pullByClient(t, film, kind)
		})
	}
}

func pullByClient(t *testing.T, film peers.Film, kind peers.SIPKind) {
	r := newRealLabWith(t, siteConfig{
		settle: realSettle * time.Second, only: []string{}, sip: strings.ReplaceAll(hotel, secret, clientSecret),
	}, peers.ServerConfig{Media: film.Dir})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	onPhone := r.client(t, phone, bob, clientSecret)
	r.register(t, onPhone, phone)
	c := r.stock(t, kind, tv)
	await(t, opening, string(kind)+" is registered", func() bool { return r.admits(t, tv) })

	url := r.server.URL(r.Addr(lab.MS).String(), film.MP4)
	origin := r.play(t, peers.Gst, peers.UDP, phone, url)
	if _, err := origin.WaitPicture(ctx, 4*peers.Rate); err != nil {
		t.Fatal(err)
	}
	listed := c.says(t, "list", "Terminals:")
	if !strings.Contains(listed, "on phone") {
		t.Errorf("listed %q", listed)
	}
	offer := c.says(t, "pull", "rtsp://")
	lines := strings.Split(offer, "\n")
	i := slices.Index(lines, url)
	if i < 0 {
		t.Fatalf("%s is no line of its own: %q", url, offer)
	}
	x := r.newest(t)
	if x.URL != lines[i] || !rtsp.SameURL(x.URL, url) || x.Trigger != session.Pull {
		t.Errorf("offered %q: %+v", offer, x)
	}
	target := r.play(t, peers.MPV, peers.TCP, tv, lines[i])
	first, err := target.WaitPicture(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	if x = r.outcome(t, x.ID); x.State != session.Done {
		t.Fatalf("transfer %s", transferState(x))
	}
	if at := orNaN(x.StartedAt); !(first.Pos >= at-realGOP && first.Pos <= at+realGOP) {
		t.Errorf("the first picture is at %.2f, the server promised %.2f", first.Pos, at)
	}
	if _, _, err := origin.WaitEnd(ctx, 3*time.Second); err != nil {
		t.Fatalf("the origin does not end: %v", err)
	}
	left, _ := origin.Last()
	repeated := left.Pos - first.Pos + 1.0/peers.Rate
	if most := siteOverlap.Seconds() + realGOP + realSpare; repeated < 0 || repeated > most {
		t.Errorf("%.2f s were seen twice, want 0 to %.1f: left at %.2f, began at %.2f", repeated, most, left.Pos, first.Pos)
	}
	declined := c.says(t, "push phone", "said no", func() {
		onPhone.incoming(t, "the way back", func(in sip.Incoming) bool { return strings.Contains(in.Text, "Go on here?\nrtsp://") })
		if err := onPhone.SendText(ctx, "no"); err != nil {
			t.Fatal(err)
		}
	})
	if !strings.HasPrefix(declined, "phone said no: ") {
		t.Errorf("declined %q", declined)
	}
	t.Logf("%s: listed %q, offered %q; %.2f s seen twice", kind, listed, offer, repeated)
}
