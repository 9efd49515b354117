package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"scas/internal/lab"
)

// hopMTU is that of the link to a terminal behind another router: a tunnel, perhaps. What is too big
// for it is told by ICMP to whom it comes from, which is the server, whoever sent it.
const hopMTU = 1400

// TestNarrowHop: a film that is relayed reaches a terminal behind a link that takes less than the
// router's own.
func TestNarrowHop(t *testing.T) {
	t.Parallel()
	gw := newSite(t, siteConfig{steer: "always"})
	cfg := lab.GstServer()
	cfg.Bitrate = 8_000_000 // segments as large as may be
	film := gw.film(t, cfg, false)
	far := gw.behindTV(t)
	gw.serve(t)
	c := dialFrom(t, far, film.Addr().String())
	url := film.URL("film")
	rawRequest(t, c, fmt.Sprintf("DESCRIBE %s RTSP/1.0\r\nCSeq: 0\r\n\r\n", url))
	r := rawRequest(t, c, fmt.Sprintf("SETUP %s/stream=0 RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n", url))
	_, id, _ := strings.Cut(r, "Session: ")
	id = strings.FieldsFunc(id, func(c rune) bool { return c == ';' || c == '\r' })[0]
	rawRequest(t, c, fmt.Sprintf("PLAY %s RTSP/1.0\r\nCSeq: 2\r\nSession: %s\r\n\r\n", url, id))
	if n, err := io.CopyN(io.Discard, c, 1<<20); err != nil {
		t.Errorf("%d bytes came: %v", n, err)
	}
	if !gw.shown(t, url).Steered {
		t.Error("not relayed")
	}
}

// behindTV moves the tv's address behind the tv, which is a router then, and returns the name of the
// namespace it is in.
func (s *site) behindTV(t *testing.T) (far string) {
	t.Helper()
	far = s.Name("far")
	ip := func(words string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(words)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", words, err, out)
		}
	}
	ip("netns add " + far)
	t.Cleanup(func() { ip("netns del " + far) })
	at := s.Addr(tv).String()
	for _, words := range []string{
		"link add hop type veth peer name eth0 netns " + far, fmt.Sprintf("link set hop up mtu %d", hopMTU), "addr add 10.99.0.1/24 dev hop",
		"addr del " + at + "/24 dev eth0", "addr add 10.78.2.9/24 dev eth0", "route replace default via 10.78.2.1", "route add " + at + " dev hop",
		"netns exec " + s.Name(tv) + " sysctl -qw net.ipv4.ip_forward=1",
	} {
		if strings.HasPrefix(words, "netns") {
			ip(words)
			continue
		}
		ip("-n " + s.Name(tv) + " " + words)
	}
	for _, words := range []string{
		"link set lo up", "link set eth0 up", "addr add " + at + "/32 dev eth0", "addr add 10.99.0.2/24 dev eth0", "route add default via 10.99.0.1 src " + at,
	} {
		ip("-n " + far + " " + words)
	}
	ip("-n " + s.Name(lab.GW) + " route add " + at + " via 10.78.2.9")
	return far
}

// dialFrom connects out of a namespace that is none of the lab's.
func dialFrom(t *testing.T, ns, addr string) net.Conn {
	t.Helper()
	var c net.Conn
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is in another namespace and ends with this
		h, err := netns.GetFromName(ns)
		if err == nil {
			err = errors.Join(netns.Set(h), h.Close())
		}
		if err == nil {
			c, err = net.DialTimeout("tcp4", addr, 10*time.Second)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// rawRequest sends a request and returns the first bytes of the answer.
func rawRequest(t *testing.T, c net.Conn, text string) string {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil || !strings.Contains(string(b[:n]), " 200 OK") {
		t.Fatalf("%q: %v", b[:n], err)
	}
	return string(b[:n])
}
