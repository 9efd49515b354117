package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
)

// MMSSeek is how a player asks for another position (mms.md 1.5, 6.4).
type MMSSeek int

// The ways players seek.
const (
	MMSSeekNone   MMSSeek = iota // the player cannot: MPlayer
	MMSSeekHTTP                  // over MMSH by stream-time, over MMST it cannot: ffmpeg
	MMSSeekPacket                // StopPlaying and StartPlaying(locationId) back to back: VLC; MMSH by stream-offset
	MMSSeekTime                  // StartPlaying(time + preroll) with the next incarnation, no StopPlaying: libmms; MMSH by stream-time
	MMSSeekByte                  // StartPlaying(first LocationId seen + n), no StopPlaying: libmms with a demuxer that seeks bytes
	MMSSeekBook                  // StopPlaying, StreamSwitch, StartPlaying(time): Windows; MMSH by stream-time
)

// EndedEOS is the reason of a film that ended with EndOfStream.
const EndedEOS EndReason = "eos"

// ErrNoSeek is returned by players that cannot seek.
var ErrNoSeek = errors.New("the player cannot seek")

// MMSPlayerConfig says how an MMS player behaves. Start from a preset: MMSVLC, MMSLibmms,
// MMSFFmpeg, MMSMPlayer, MMSWindows.
type MMSPlayerConfig struct {
	Host Host
	URL  string // mms:// and mmst:// (MMST), mmsu:// (asks for UDP first), mmsh://; the address in digits

	Depth     time.Duration // from the first packet to the first picture on the screen, default 1 s
	ReadAhead time.Duration // stops reading with so much unshown; 0: reads all there is
	Start     time.Duration // the user's own start, asked for right after the first start

	Subscriber string // of Connect, and User-Agent of MMSH, default NSPlayer/7.0.0.1956
	GUID       string
	FunnelInfo bool   // is sent
	FunnelName string // without the transport and the port, default \\192.168.0.129
	Zeros      bool   // zero where others send values: OpenFile, ReadBlock, frameOffset
	HeaderInc  uint8  // playIncarnation of ReadBlock, default 2
	MediaInc   uint8  // of the first StartPlaying, default 4
	OneRead    bool   // a reply to the handshake that comes in two reads is an error
	HeaderMost int    // largest ASF header, default 16384 bytes
	TCPAfter   bool   // mmsu: asks for TCP when UDP is refused, instead of giving up
	ForgetCRLF bool   // MMSH: no line end behind stream-time

	Seek        MMSSeek
	AddPreroll  bool          // to a time it seeks to
	StopToPause bool          // StopPlaying; else it stops reading, which needs ReadAhead
	PausedPong  time.Duration // between Pongs nobody asked for, while paused; 0: none
	CloseFile   bool          // is sent at the end

	OnEOS  Ending // EndTeardown: shows what it has, CloseFile
	OnFIN  Ending // the connection ended; also while frozen after EndOfStream
	Counts bool   // EndOfStream behind the last packet ends cleanly whatever OnEOS says
}

func (c MMSPlayerConfig) withDefaults() MMSPlayerConfig {
	if c.Depth <= 0 {
		c.Depth = time.Second
	}
	if c.Subscriber == "" {
		c.Subscriber = "NSPlayer/7.0.0.1956"
	}
	if c.GUID == "" {
		c.GUID = "{7E667F5D-A661-495E-A512-F55686DDA178}"
	}
	if c.FunnelName == "" {
		c.FunnelName = `\\192.168.0.129`
	}
	if c.HeaderInc == 0 {
		c.HeaderInc = 2
	}
	if c.MediaInc == 0 {
		c.MediaInc = 4
	}
	if c.HeaderMost <= 0 {
		c.HeaderMost = 16384
	}
	return c
}

// MMSPlayer is a film being played over MMST or MMSH. What it shares with a player of RTSP is
// used through the Player in it: timeline, states, Result. Of the film from ServeMMS every
// payload is verified; of another one only packets are counted. Safe for concurrent use.
type MMSPlayer struct {
	*Player
	mms  MMSPlayerConfig
	http bool
	udp  bool
	addr netip.AddrPort
	path string // without the slash

	film *ASF         // header only
	ends chan mmsStop // from the connections
	wire *mmsWire     // guarded by Player.mu, as the media book is
	got  mmsMedia
}

// mmsStop is what ends a connection: EndOfStream, or an error.
type mmsStop struct {
	wire *mmsWire
	eos  bool
	hr   uint32
	err  error
}

// MMSInfo is what an MMS player knows of its film.
type MMSInfo struct {
	Protocol      string // mmst or mmsh
	Preroll       time.Duration
	Duration      time.Duration // 0 when it is a broadcast
	PacketSize    int
	Streams       []ASFStream
	FirstLocation uint32 // LocationId of the first packet ever, the zero of libmms's byte seeks
	LastLocation  uint32
	Gaps          int           // packets that were skipped, by LocationId
	Delivered     time.Duration // content time of the newest packet
	Unknown       int           // payloads that are none of the synthetic film
}

// PlayMMS opens the URL and returns when the server has agreed to play. The error is a
// *StatusError with the HRESULT or the HTTP status when it refused. The player goes on until the
// film ends, Quit, or the end of ctx, which is as Quit.
func PlayMMS(ctx context.Context, cfg MMSPlayerConfig) (*MMSPlayer, error) {
	cfg = cfg.withDefaults()
	p := &MMSPlayer{
		mms: cfg, ends: make(chan mmsStop, 16),
		Player: &Player{
			cfg:  PlayerConfig{Host: cfg.Host, URL: cfg.URL, Depth: cfg.Depth, ReadAhead: cfg.ReadAhead},
			quit: make(chan struct{}), done: make(chan struct{}), link: &link{},
			book: book{depth: cfg.Depth}, grown: make(chan struct{}), res: Result{State: PlayerPlaying},
		},
	}
	err := p.parse()
	if err == nil {
		err = p.open(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("lab: play %s: %w", cfg.URL, err)
	}
	go p.run(ctx)
	if cfg.Start > 0 {
		if err := p.Seek(ctx, cfg.Start); err != nil {
			p.Quit()
			<-p.Done()
			return nil, fmt.Errorf("lab: play %s: start: %w", cfg.URL, err)
		}
	}
	return p, nil
}

// parse takes the URL apart.
func (p *MMSPlayer) parse() error {
	u, err := url.Parse(p.mms.URL)
	if err != nil {
		return err
	}
	port := mmsDefaultPort
	switch u.Scheme {
	case "mmsh", "http":
		p.http, port = true, mmshDefaultPort
	case "mmsu":
		p.udp = true
	case "mms", "mmst":
	default:
		return fmt.Errorf("scheme %q: %w", u.Scheme, errMMS)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	p.addr, err = netip.ParseAddrPort(net.JoinHostPort(u.Hostname(), port))
	p.path = strings.TrimPrefix(u.Path, "/")
	return err
}

// open connects and starts the film from its beginning.
func (p *MMSPlayer) open(ctx context.Context) error {
	zero := time.Duration(0)
	p.mu.Lock()
	p.got.inc, p.got.starts = p.mms.MediaInc, 1
	p.got.begin(&p.book, zero)
	p.mu.Unlock()
	if p.http {
		return p.openHTTP(ctx, mmsAsk{})
	}
	return p.openTCP(ctx)
}

// Info returns what is known of the film.
func (p *MMSPlayer) Info() MMSInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := MMSInfo{
		Protocol: "mmst", Preroll: p.film.Preroll, Duration: max(p.film.Duration, 0), PacketSize: p.film.PacketSize, Streams: p.film.Streams,
		FirstLocation: p.got.firstLoc, LastLocation: p.got.lastLoc, Gaps: p.got.gaps,
		Delivered: p.got.delivered, Unknown: p.got.unknown,
	}
	if p.http {
		i.Protocol = "mmsh"
	}
	return i
}

// use makes w the connection of the player. The one before ends.
func (p *MMSPlayer) use(w *mmsWire) {
	p.mu.Lock()
	old := p.wire
	p.wire = w
	p.link = &link{local: w.local, remote: p.addr}
	p.mu.Unlock()
	if old != nil {
		old.close()
	}
}

func (p *MMSPlayer) currentWire() *mmsWire {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wire
}

// mmsWire is one connection of a player.
type mmsWire struct {
	conn  *net.TCPConn
	local netip.AddrPort
	got   chan mmsMessage // replies after the handshake, for who waits
	over  chan struct{}   // closed by close
	once  sync.Once
	wg    sync.WaitGroup

	mu  sync.Mutex // one message at a time
	seq uint16
}

func (p *MMSPlayer) dial(ctx context.Context) (*mmsWire, error) {
	c, err := p.mms.Host.DialTCP(ctx, p.addr)
	if err != nil {
		return nil, err
	}
	return &mmsWire{
		conn: c, local: unmapped(c.LocalAddr().(*net.TCPAddr).AddrPort()),
		got: make(chan mmsMessage, 64), over: make(chan struct{}),
	}, nil
}

// close ends the connection and waits for who reads it.
func (w *mmsWire) close() {
	w.once.Do(func() { close(w.over) })
	w.conn.Close()
	w.wg.Wait()
}

// send sends one message.
func (w *mmsWire) send(mid uint32, fields ...any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := buildMMS(mid, w.seq, 0, false, fields...)
	w.seq++
	_, err := w.conn.Write(b)
	return err
}

// await returns the next reply of a kind; other replies are dropped.
func (w *mmsWire) await(ctx context.Context, mid uint32) error {
	timer := time.NewTimer(replyTimeout)
	defer timer.Stop()
	for {
		select {
		case m := <-w.got:
			if m.mid == mid {
				return refusedBy(m)
			}
		case <-w.over:
			return ErrEnded
		case <-timer.C:
			return fmt.Errorf("no reply %08x: %w", mid, context.DeadlineExceeded)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// refusedBy returns the failure a reply reports: bit 31 of its HRESULT.
func refusedBy(m mmsMessage) error {
	if hr := m.u32(40); hr>>31 != 0 {
		return &StatusError{Method: replyName(m.mid), Status: int(hr)}
	}
	return nil
}

// replyName returns the request a reply belongs to.
func replyName(mid uint32) string {
	return requestName(map[uint32]uint32{
		midReportConnected: midConnect, midReportFunnel: midConnectFunnel, midReportNoFunnel: midConnectFunnel,
		midReportFunnelInfo: midFunnelInfo, midReportOpenFile: midOpenFile, midReportReadBlock: midReadBlock,
		midReportSwitch: midStreamSwitch, midReportStarted: midStartPlaying, midEndOfStream: midStopPlaying,
	}[mid])
}
