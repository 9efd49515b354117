package rtsp

import (
	"errors"
	"reflect"
	"testing"
)

func ptr[T any](v T) *T { return &v }

func TestParseTransport(t *testing.T) {
	tests := []struct {
		name, in string
		want     Transport
		out      string // when it is not in
	}{
		{"gst and vlc ask", "RTP/AVP;unicast;client_port=51094-51095",
			Transport{{Profile: "RTP/AVP", Unicast: true, ClientPort: [2]int{51094, 51095}}}, ""},
		{"lavf asks", "RTP/AVP/UDP;unicast;client_port=27946-27947",
			Transport{{Profile: "RTP/AVP/UDP", Unicast: true, ClientPort: [2]int{27946, 27947}}}, ""},
		{"over tcp", "RTP/AVP/TCP;unicast;interleaved=0-1",
			Transport{{Profile: "RTP/AVP/TCP", Unicast: true, HasInterleaved: true, Interleaved: [2]int{0, 1}}}, ""},
		{"gst answers", `RTP/AVP;unicast;client_port=51094-51095;server_port=59926-59927;ssrc=71DD9F63;mode="PLAY"`,
			Transport{{Profile: "RTP/AVP", Unicast: true, ClientPort: [2]int{51094, 51095}, ServerPort: [2]int{59926, 59927}, SSRC: ptr(uint32(0x71dd9f63)), Mode: "PLAY"}}, ""},
		{"gst answers over tcp", `RTP/AVP/TCP;unicast;interleaved=2-3;ssrc=187F0EAD;mode="PLAY"`,
			Transport{{Profile: "RTP/AVP/TCP", Unicast: true, HasInterleaved: true, Interleaved: [2]int{2, 3}, SSRC: ptr(uint32(0x187f0ead)), Mode: "PLAY"}}, ""},
		{"live555 answers", "RTP/AVP;unicast;destination=10.77.1.2;source=10.77.9.2;client_port=4588-4589;server_port=6970-6971",
			Transport{{Profile: "RTP/AVP", Unicast: true, Destination: "10.77.1.2", Source: "10.77.9.2", ClientPort: [2]int{4588, 4589}, ServerPort: [2]int{6970, 6971}}}, ""},
		{"vlc answers, odd server port", "RTP/AVP/UDP;unicast;client_port=27946-27947;server_port=32927-32928;ssrc=48DDD01D;mode=play",
			Transport{{Profile: "RTP/AVP/UDP", Unicast: true, ClientPort: [2]int{27946, 27947}, ServerPort: [2]int{32927, 32928}, SSRC: ptr(uint32(0x48ddd01d)), Mode: "play"}},
			`RTP/AVP/UDP;unicast;client_port=27946-27947;server_port=32927-32928;ssrc=48DDD01D;mode="play"`},
		{"small ssrc in lower case", "RTP/AVP;unicast;ssrc=0d4d983c",
			Transport{{Profile: "RTP/AVP", Unicast: true, SSRC: ptr(uint32(0xd4d983c))}}, "RTP/AVP;unicast;ssrc=0D4D983C"},
		{"ssrc short, with blank and prefix", "RTP/AVP;unicast; ssrc= 0x3C2B",
			Transport{{Profile: "RTP/AVP", Unicast: true, SSRC: ptr(uint32(0x3c2b))}}, "RTP/AVP;unicast;ssrc=00003C2B"},
		{"ssrc that is none", "RTP/AVP;unicast;ssrc=1234567890;ttl=x",
			Transport{{Profile: "RTP/AVP", Unicast: true}}, "RTP/AVP;unicast"},
		{"single ports", "RTP/AVP;unicast;client_port=5000;server_port=6000-",
			Transport{{Profile: "RTP/AVP", Unicast: true, ClientPort: [2]int{5000, 0}, ServerPort: [2]int{6000, 0}}}, "RTP/AVP;unicast;client_port=5000;server_port=6000"},
		{"single channel", "RTP/AVP/TCP;interleaved=4",
			Transport{{Profile: "RTP/AVP/TCP", HasInterleaved: true, Interleaved: [2]int{4, -1}}}, ""},
		{"multicast", `RTP/AVP;multicast;destination=224.2.0.1;port=3456-3457;ttl=127;layers=2;mode="PLAY"`,
			Transport{{Profile: "RTP/AVP", Multicast: true, Destination: "224.2.0.1", Port: [2]int{3456, 3457}, TTL: 127, Mode: "PLAY", Extra: []string{"layers=2"}}},
			`RTP/AVP;multicast;destination=224.2.0.1;port=3456-3457;ttl=127;mode="PLAY";layers=2`},
		{"alternatives", `RTP/AVP;multicast;ttl=127;mode="PLAY,RECORD", RTP/AVP;unicast;client_port=3456-3457,`,
			Transport{
				{Profile: "RTP/AVP", Multicast: true, TTL: 127, Mode: "PLAY,RECORD"},
				{Profile: "RTP/AVP", Unicast: true, ClientPort: [2]int{3456, 3457}},
			}, `RTP/AVP;multicast;ttl=127;mode="PLAY,RECORD",RTP/AVP;unicast;client_port=3456-3457`},
		{"names in capitals, empty parts", "rtp/avp;UNICAST;;Client_Port = 1 - 2 ;server_port=",
			Transport{{Profile: "rtp/avp", Unicast: true, ClientPort: [2]int{1, 2}}}, "rtp/avp;unicast;client_port=1-2"},
		{"2.0", `RTP/AVP/UDP;unicast;dest_addr=":51094"/":51095";src_addr="192.0.2.5:9000"/"192.0.2.5:9001";ssrc=0A13C760/0A13C761`,
			Transport{{Profile: "RTP/AVP/UDP", Unicast: true, ClientPort: [2]int{51094, 51095}, ServerPort: [2]int{9000, 9001}, Source: "192.0.2.5",
				DestAddr: []string{":51094", ":51095"}, SrcAddr: []string{"192.0.2.5:9000", "192.0.2.5:9001"}, SSRC: ptr(uint32(0x0a13c760))}},
			`RTP/AVP/UDP;unicast;dest_addr=":51094"/":51095";src_addr="192.0.2.5:9000"/"192.0.2.5:9001";ssrc=0A13C760`},
		{"2.0 with IPv6", `RTP/AVP;unicast;dest_addr="[2001:db8::2]:5000";src_addr="2001:db8::1"`,
			Transport{{Profile: "RTP/AVP", Unicast: true, Destination: "2001:db8::2", Source: "2001:db8::1", ClientPort: [2]int{5000, 0},
				DestAddr: []string{"[2001:db8::2]:5000"}, SrcAddr: []string{"2001:db8::1"}}}, ""},
		{"IPv6 addresses of 1.0", "RTP/AVP;unicast;destination=[fd78:1::2];source=fd78:9::2",
			Transport{{Profile: "RTP/AVP", Unicast: true, Destination: "fd78:1::2", Source: "fd78:9::2"}}, "RTP/AVP;unicast;destination=fd78:1::2;source=fd78:9::2"},
		{"unknown parameters kept", `RTP/AVP;unicast;x-foo;setup="a;b"`,
			Transport{{Profile: "RTP/AVP", Unicast: true, Extra: []string{"x-foo", `setup="a;b"`}}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseTransport(tt.in)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Fatalf("got %+v, %v\nwant %+v", got, err, tt.want)
			}
			out := tt.out
			if out == "" {
				out = tt.in
			}
			if got.String() != out {
				t.Errorf("written %q, want %q", got.String(), out)
			}
		})
	}
}

func TestParseTransportErrors(t *testing.T) {
	for _, in := range []string{
		"", " , ", ";unicast", "client_port=1-2", "RTP/AVP;client_port=65536", "RTP/AVP;client_port=a-b",
		"RTP/AVP;server_port=1-70000", "RTP/AVP;interleaved=0-256", "RTP/AVP;interleaved=", "RTP/AVP;port=-1",
		"RTP/AVP,;unicast", "RTP/AVP;interleaved=x",
	} {
		var herr *HeaderError
		if got, err := ParseTransport(in); !errors.As(err, &herr) || herr.Value != in || got != nil {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
}

func TestTransportTCP(t *testing.T) {
	for in, want := range map[string]bool{
		"RTP/AVP/TCP;unicast": true, "rtp/avp/tcp": true, "RTP/AVP;interleaved=0-1": true,
		"RTP/AVP": false, "RTP/AVP/UDP;unicast;client_port=1-2": false,
	} {
		got, err := ParseTransport(in)
		if err != nil || got[0].TCP() != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}
