package lab

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	chunkLead    = '$'
	chunkHeader  = 'H'
	chunkData    = 'D'
	chunkEnd     = 'E'
	hdrType      = "application/vnd.ms.wms-hdr.asfv1"
	framedType   = "application/x-mms-framed"
	maxChunkSize = 1<<16 - 1
	httpTimeout  = 30 * time.Second // for the request
)

// appendChunk appends a chunk of MMSH (MS-WMSP 2.2.3); the length leaves out the first 4 bytes.
func appendChunk(b []byte, kind byte, body []byte) []byte {
	b = append(b, chunkLead, kind)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// readChunk reads one chunk.
func readChunk(r *bufio.Reader) (kind byte, body []byte, err error) {
	var head [4]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0]&0x7f != chunkLead {
		return 0, nil, fmt.Errorf("chunk %x: %w", head, errMMS)
	}
	body = make([]byte, binary.LittleEndian.Uint16(head[2:]))
	_, err = io.ReadFull(r, body)
	return head[1], body, err
}

// readHead reads the start line and the headers of an HTTP message as they came.
func readHead(r *bufio.Reader) ([]string, error) {
	var lines []string
	for total := 0; ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if total += len(line); total > maxHead {
			return nil, errTooLong
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" && len(lines) > 0 {
			return lines, nil
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
}

// pragmas returns the tokens of all Pragma headers, the last of a name wins.
func pragmas(head []string) map[string]string {
	out := map[string]string{}
	for _, line := range head {
		name, value, _ := strings.Cut(line, ":")
		if !strings.EqualFold(strings.TrimSpace(name), "Pragma") {
			continue
		}
		for token := range strings.SplitSeq(value, ",") {
			k, v, _ := strings.Cut(strings.TrimSpace(token), "=")
			out[strings.ToLower(k)] = v
		}
	}
	return out
}

// digits returns the number a value begins with: ffmpeg forgets the end of the line behind it.
func digits(s string) int64 {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		s = s[:end]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// httpStart returns where a Play asks to start (mms.md 4.3). hasPos is false where nothing is said.
func httpStart(p map[string]string) mmsStart {
	s := mmsStart{packet: -1, byteOff: -1}
	hi, lo, _ := strings.Cut(p["stream-offset"], ":")
	off := digits(hi)<<32 | digits(lo)
	switch n, has := p["packet-num"]; {
	case has && digits(n) != notUsed:
		s.packet = digits(n)
	case off != 0 && digits(hi) != notUsed:
		s.byteOff = off
	default:
		s.seconds = float64(digits(p["stream-time"])) / 1000
	}
	return s
}

// serveHTTP answers one request of MMSH; the end of the connection ends the body.
func (s *MMSServer) serveHTTP(conn *net.TCPConn) {
	_ = conn.SetReadDeadline(time.Now().Add(httpTimeout))
	r := bufio.NewReader(conn)
	head, err := readHead(r)
	if err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	parts := strings.Fields(head[0])
	p := pragmas(head)
	path, method := "", "Describe"
	if len(parts) == 3 {
		path, _, _ = strings.Cut(parts[1], "?")
	}
	if p["xplaystrm"] == "1" {
		method = "Play"
	}
	remote := unmapped(conn.RemoteAddr().(*net.TCPAddr).AddrPort())
	e := ServerEvent{Kind: ServerRequest, Remote: remote, Method: method, URL: "mmsh://" + s.HTTPAddr().String() + path, Head: head[1:]}
	e.Status = s.books.refused(method)
	switch {
	case e.Status != 0:
	case len(parts) != 3 || parts[0] != http.MethodGet || p["pipeline-request"] != "":
		e.Status = http.StatusBadRequest // clients then leave pipelining alone
	case s.missing(path):
		e.Status = http.StatusNotFound
	default:
		e.Status = http.StatusOK
	}
	if e.Status != http.StatusOK || method != "Play" {
		s.books.log.add(e)
		if s.answer(conn, e.Status, hdrType) == nil && e.Status == http.StatusOK {
			_, _ = conn.Write(s.headerChunk())
		}
		s.leave(conn)
		return
	}
	s.streamHTTP(conn, e, p)
}

// leave closes once what was sent has gone, though more may have come than was read.
func (s *MMSServer) leave(conn *net.TCPConn) {
	_ = conn.CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, conn)
}

// answer sends the head of a reply.
func (s *MMSServer) answer(conn net.Conn, status int, kind string) error {
	features := "seekable,stridable"
	if s.cfg.Broadcast {
		features = "broadcast"
	}
	text := fmt.Sprintf("HTTP/1.0 %d %s\r\nServer: Cougar/9.01.01.3814\r\nCache-Control: no-cache\r\nConnection: close\r\n",
		status, http.StatusText(status))
	if status == http.StatusOK {
		text += fmt.Sprintf("Content-Type: %s\r\nPragma: no-cache, client-id=%d, features=%q, timeout=60000\r\n", kind, 1000+s.ids.Load(), features)
	}
	_, err := conn.Write([]byte(text + "\r\n"))
	return err
}

// headerChunk returns the $H chunks of the film.
func (s *MMSServer) headerChunk() []byte {
	piece := s.cfg.HeaderPiece
	if piece <= 0 || piece > maxChunkSize-mmsDataHeader {
		piece = len(s.header) // one chunk, as all servers do when it fits
	}
	var out []byte
	for rest, i := s.header, uint32(0); len(rest) > 0; i++ {
		n := min(piece, len(rest), maxChunkSize-mmsDataHeader)
		flags := uint8(mmsHeaderMore)
		if n == len(rest) {
			flags = mmsHeaderLast
		}
		out = appendChunk(out, chunkHeader, appendMMSData(nil, i, 0, flags, rest[:n]))
		rest = rest[n:]
	}
	return out
}

// streamHTTP serves a Play.
func (s *MMSServer) streamHTTP(conn *net.TCPConn, e ServerEvent, p map[string]string) {
	x, gone := s.session(e.Remote, nil)
	defer gone()
	x.change(func(st *ServerSession) { st.URL, st.UserAgent, e.Session = e.URL, e.Header("User-Agent"), st.ID })
	w := &mmsSender{
		s: s, x: x, ctx: s.ctx, start: s.start(httpStart(p)),
		put: func(b []byte) error { _, err := conn.Write(b); return err },
		frame: func(n int, flags uint8, b []byte) []byte {
			return appendChunk(nil, chunkData, appendMMSData(nil, uint32(n), 1, flags, b))
		},
	}
	e.Head = append(e.Head, startHead(w.start)...)
	s.books.log.add(e)
	if s.answer(conn, e.Status, framedType) != nil {
		return
	}
	if _, err := conn.Write(s.headerChunk()); err != nil || !w.run() {
		return
	}
	s.books.log.add(x.event(ServerEnd))
	if !s.cfg.NoEOS {
		_, _ = conn.Write(appendChunk(nil, chunkEnd, []byte{0, 0, 0, 0}))
	}
	s.leave(conn)
}
