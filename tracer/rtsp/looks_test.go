package rtsp

import "testing"

func TestLooksLikeHTTP(t *testing.T) {
	for in, want := range map[string]bool{
		"GET /pos.mkv HTTP/1.1\r\n": true, "GET ": true, "POST /pos.mkv": true, "HTTP/1.0 200 OK\r\n": true,
		"OPTIONS * HTTP/1.1\r\n": true, "OPTIONS * HTTP/1.1": false, "OPTIONS * RTSP/1.0\r\n": false,
		"RTSP/1.0 200 OK\r\n": false, "": false, "GE": false, "GETX ": false, " HTTP/1.1\r\n": false,
		"$\x00\x00\x10GET / HTTP/1.1\r\n": false,
	} {
		if got := LooksLikeHTTP([]byte(in)); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func TestTunnelCookie(t *testing.T) {
	get := "GET /pos.mkv HTTP/1.1\r\nUser-Agent: Lavf/59.27.100\r\nx-sessioncookie: bca0eec84a4aff1f\r\nAccept: application/x-rtsp-tunnelled\r\n\r\n"
	if cookie, method, ok := TunnelCookie([]byte(get)); !ok || cookie != "bca0eec84a4aff1f" || method != "GET" {
		t.Errorf("got %q %q %v", cookie, method, ok)
	}
	for _, in := range []string{get[:len(get)-1], "GET / HTTP/1.1\r\n\r\n", "PLAY * RTSP/1.0\r\nx-sessioncookie: a\r\n\r\n", ""} {
		if _, _, ok := TunnelCookie([]byte(in)); ok {
			t.Errorf("%q is a tunnel", in)
		}
	}
}

func TestLooksLikeTLS(t *testing.T) {
	for in, want := range map[string]bool{
		"\x16\x03\x01": true, "\x16\x03\x01\x02\x00\x01": true, "\x16\x03\x03\x00\x7a\x02": true,
		"\x16\x03": false, "\x16\x03\x05": false, "\x17\x03\x03": false, "\x16\x03\x01\x02\x00\x0b": false, "OPTIONS": false,
	} {
		if got := LooksLikeTLS([]byte(in)); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}
