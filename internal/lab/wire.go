package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
)

// Bounds of what either end reads.
const (
	maxHead = 64 << 10 // start line and headers together
	maxBody = 1 << 20
)

var (
	errTooLong = errors.New("message too long")
	errGrammar = errors.New("not RTSP")
)

// field is one header line.
type field struct{ name, value string }

// message is a request or a reply.
type message struct {
	start string // without CRLF
	head  []field
	body  []byte
}

// unit is what a control connection carries: a message, or an interleaved frame (RFC 2326 §10.12).
type unit struct {
	msg     *message
	channel uint8
	payload []byte
}

func request(method, url string, cseq int, head ...field) *message {
	return &message{
		start: method + " " + url + " RTSP/1.0",
		head:  append([]field{{"CSeq", strconv.Itoa(cseq)}}, head...),
	}
}

// get returns the first value of a header, names in any case, or an empty string.
func (m *message) get(name string) string {
	for _, f := range m.head {
		if strings.EqualFold(f.name, name) {
			return f.value
		}
	}
	return ""
}

func (m *message) add(name, value string) { m.head = append(m.head, field{name, value}) }

// cseq returns the CSeq of a message, -1 when it has none that is a number.
func (m *message) cseq() int {
	n, err := strconv.Atoi(m.get("CSeq"))
	if err != nil || n < 0 {
		return -1
	}
	return n
}

func (m *message) isReply() bool { return strings.HasPrefix(m.start, "RTSP/") }

// status returns the code of a reply, 0 when it has none.
func (m *message) status() int {
	_, rest, _ := strings.Cut(m.start, " ")
	code, _, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	if err != nil {
		return 0
	}
	return n
}

// requestLine returns method and URL of a request.
func (m *message) requestLine() (method, url string, err error) {
	parts := strings.Fields(m.start)
	if len(parts) != 3 || !strings.HasPrefix(parts[2], "RTSP/") {
		return "", "", fmt.Errorf("request line %.40q: %w", m.start, errGrammar)
	}
	return parts[0], parts[1], nil
}

func (m *message) marshal() []byte {
	var b strings.Builder
	b.WriteString(m.start + "\r\n")
	for _, f := range m.head {
		b.WriteString(f.name + ": " + f.value + "\r\n")
	}
	if len(m.body) > 0 {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(m.body))
	}
	b.WriteString("\r\n")
	b.Write(m.body)
	return []byte(b.String())
}

// readUnit reads the next frame or message. It allocates at most maxHead+maxBody for it. The
// error is io.EOF only between units.
func readUnit(r *bufio.Reader) (unit, error) {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return unit{}, err
		}
		switch {
		case b == '$':
			return readFrame(r)
		case b == '\r' || b == '\n': // stray line ends between messages
		case b >= 'A' && b <= 'Z':
			if err := r.UnreadByte(); err != nil {
				return unit{}, err
			}
			m, err := readMessage(r)
			return unit{msg: m}, noEOF(err)
		default:
			return unit{}, fmt.Errorf("byte %#x: %w", b, errGrammar)
		}
	}
}

func readFrame(r *bufio.Reader) (unit, error) {
	var h [3]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return unit{}, noEOF(err)
	}
	u := unit{channel: h[0], payload: make([]byte, int(h[1])<<8|int(h[2]))}
	_, err := io.ReadFull(r, u.payload)
	return u, noEOF(err)
}

func readMessage(r *bufio.Reader) (*message, error) {
	left := maxHead
	start, err := readLine(r, &left)
	if err != nil {
		return nil, err
	}
	m := &message{start: start}
	for {
		line, err := readLine(r, &left)
		if err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("header %.40q: %w", line, errGrammar)
		}
		m.add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	length := m.get("Content-Length")
	if length == "" {
		return m, nil
	}
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("content length %.20q: %w", length, errGrammar)
	}
	if n > maxBody {
		return nil, errTooLong
	}
	m.body = make([]byte, n)
	_, err = io.ReadFull(r, m.body)
	return m, err
}

// readLine reads one line and takes its length from left.
func readLine(r *bufio.Reader, left *int) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		*left -= len(part)
		if *left < 0 {
			return "", errTooLong
		}
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		return strings.TrimRight(string(line), "\r\n"), err
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// wireConn is a control connection several goroutines write to, whole units at a time.
type wireConn struct {
	net.Conn
	mu  sync.Mutex
	buf []byte
}

func (c *wireConn) send(m *message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.Write(m.marshal())
	return err
}

// frame sends one interleaved frame, unless unwanted says that it came too late.
func (c *wireConn) frame(channel uint8, payload []byte, unwanted func() bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if unwanted() {
		return nil
	}
	c.buf = append(c.buf[:0], '$', channel, byte(len(payload)>>8), byte(len(payload)))
	c.buf = append(c.buf, payload...)
	_, err := c.Write(c.buf)
	return err
}

// transport is one Transport header, RFC 2326 §12.39.
type transport struct {
	tcp         bool
	multicast   bool
	client      [2]int // ports, -1 when not given
	server      [2]int
	interleaved [2]int
	ssrc        string
}

// parseTransport returns the first spec of the header it understands.
func parseTransport(header string) (transport, error) {
	for spec := range strings.SplitSeq(header, ",") {
		parts := strings.Split(spec, ";")
		t := transport{client: [2]int{-1, -1}, server: [2]int{-1, -1}, interleaved: [2]int{-1, -1}}
		switch strings.ToUpper(strings.TrimSpace(parts[0])) {
		case "RTP/AVP", "RTP/AVP/UDP":
		case "RTP/AVP/TCP":
			t.tcp = true
		default:
			continue
		}
		var err error
		for _, p := range parts[1:] {
			k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
			switch strings.ToLower(k) {
			case "multicast":
				t.multicast = true
			case "client_port":
				t.client, err = parsePair(v, 65535)
			case "server_port":
				t.server, err = parsePair(v, 65535)
			case "interleaved":
				t.interleaved, err = parsePair(v, 255)
			case "ssrc":
				t.ssrc = v
			}
			if err != nil {
				return t, err
			}
		}
		return t, nil
	}
	return transport{}, fmt.Errorf("transport %.60q: %w", header, errGrammar)
}

// parsePair reads "a-b" or "a", which stands for a and the next number.
func parsePair(s string, limit int) ([2]int, error) {
	a, b, two := strings.Cut(s, "-")
	lo, err := strconv.Atoi(a)
	hi := lo + 1
	if err == nil && two {
		hi, err = strconv.Atoi(b)
	}
	if err != nil || lo < 0 || hi < 0 || lo > limit || hi > limit {
		return [2]int{-1, -1}, fmt.Errorf("pair %.20q: %w", s, errGrammar)
	}
	return [2]int{lo, hi}, nil
}
