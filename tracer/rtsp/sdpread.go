package rtsp

import (
	"strings"

	"github.com/pion/sdp/v3"
)

// strictSDP reads a description that follows RFC 8866.
func strictSDP(b []byte) (rawSDP, error) {
	var s sdp.SessionDescription
	if err := s.Unmarshal(b); err != nil {
		return rawSDP{}, err
	}
	raw := rawSDP{title: string(s.SessionName), addr: connection(s.ConnectionInformation), attrs: fields(s.Attributes)}
	for _, m := range s.MediaDescriptions {
		raw.media = append(raw.media, rawMedia{
			media:   m.MediaName.Media,
			proto:   strings.Join(m.MediaName.Protos, "/"),
			port:    m.MediaName.Port.Value,
			formats: m.MediaName.Formats,
			addr:    connection(m.ConnectionInformation),
			attrs:   fields(m.Attributes),
		})
	}
	return raw, nil
}

func connection(c *sdp.ConnectionInformation) string {
	if c == nil || c.Address == nil {
		return ""
	}
	return c.Address.String()
}

func fields(attrs []sdp.Attribute) []Field {
	all := make([]Field, len(attrs))
	for i, a := range attrs {
		all[i] = Field{Name: a.Key, Value: a.Value}
	}
	return all
}

// tolerantSDP takes the lines it needs from anywhere and passes over the rest: servers put
// lines in the wrong order, leave required ones out or add their own kinds.
func tolerantSDP(b []byte) rawSDP {
	var raw rawSDP
	for i := 0; i < len(b); {
		line, next := nextLine(b, i)
		text := strings.TrimSpace(string(b[line.from:line.to]))
		i = next
		if len(text) < 2 || text[1] != '=' {
			continue
		}
		value := strings.TrimSpace(text[2:])
		attrs, addr := &raw.attrs, &raw.addr
		if n := len(raw.media); n > 0 {
			attrs, addr = &raw.media[n-1].attrs, &raw.media[n-1].addr
		}
		switch text[0] {
		case 's':
			raw.title = value
		case 'm':
			raw.media = append(raw.media, mediaLine(value))
		case 'c':
			if f := strings.Fields(value); len(f) > 2 {
				*addr = f[2]
			}
		case 'a':
			name, v, _ := strings.Cut(value, ":")
			*attrs = append(*attrs, Field{Name: strings.TrimSpace(name), Value: v})
		}
	}
	return raw
}

// mediaLine reads "video 0 RTP/AVP 96 97"; what is missing stays empty.
func mediaLine(value string) rawMedia {
	var m rawMedia
	f := strings.Fields(value)
	if len(f) > 0 {
		m.media = f[0]
	}
	if len(f) > 1 {
		port, _, _ := strings.Cut(f[1], "/")
		m.port, _ = parseSmall(port, 1<<16-1)
	}
	if len(f) > 2 {
		m.proto = f[2]
	}
	if len(f) > 3 {
		m.formats = f[3:]
	}
	return m
}
