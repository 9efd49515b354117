"""MMS servers for the tests, in another language and by another hand than the project's own: MMST
(MS-MMSP over TCP) and MMSH (MS-WMSP) on two ports, of every ASF file in a directory. Facts go to
stdout as JSON, one a line, in the form of gst_server.py."""
import argparse, json, math, os, random, re, socket, struct, threading, time

FPROP = bytes.fromhex('a1dcab8c47a9cf118ee400c00c205365')
SPROP = bytes.fromhex('9107dcb7b7a9cf118ee600c00c205365')
VIDEO = bytes.fromhex('c0ef19bc4d5bcf11a8fd00805f5c442b')
NONE = 0xffffffff
say = threading.Lock()


def fact(ev, client='', **more):
    with say:
        print(json.dumps(dict(more, t=time.time(), ev=ev, client=client)), flush=True)


def number(b, p, kind):
    n = (0, 1, 2, 4)[kind & 3]
    return int.from_bytes(b[p:p + n], 'little'), p + n


class Film:
    def __init__(self, path):
        b = open(path, 'rb').read()
        size = struct.unpack_from('<Q', b, 16)[0]
        self.video, pos = [], 30
        while pos < size:
            name, n = b[pos:pos + 16], struct.unpack_from('<Q', b, pos + 16)[0]
            if name == FPROP:
                play, _, self.preroll = struct.unpack_from('<QQQ', b, pos + 64)
                self.packet, self.rate = struct.unpack_from('<II', b, pos + 96)
            if name == SPROP and b[pos + 24:pos + 40] == VIDEO:
                self.video.append(b[pos + 72] & 0x7f)
            pos += n
        self.seconds = play / 1e7 - self.preroll / 1e3
        self.header = b[:size + 50]
        count = struct.unpack_from('<Q', b, size + 40)[0]
        self.packets = [b[size + 50 + i * self.packet:][:self.packet] for i in range(count)]
        self.heads = [self.head(p) for p in self.packets]

    def head(self, b):
        """send time, offset and width of the padding length, padding, times of key pictures"""
        p = 1 + (b[0] & 15) if b[0] & 0x80 else 0
        ltf, pf = b[p], b[p + 1]
        _, p = number(b, p + 2, ltf >> 5)
        _, p = number(b, p, ltf >> 1)
        at = p
        pad, p = number(b, p, ltf >> 3)
        width, send, keys = p - at, struct.unpack_from('<I', b, p)[0], []
        p, count, lens = p + 6, 1, 0
        if ltf & 1:
            count, lens, p = b[p] & 63, b[p] >> 6, p + 1
        for _ in range(count):
            stream, p = b[p], p + 1
            _, p = number(b, p, pf >> 4)
            off, p = number(b, p, pf >> 2)
            rep, p = number(b, p, pf)
            if rep >= 8 and off == 0 and stream & 0x80 and stream & 0x7f in self.video:
                keys.append(struct.unpack_from('<I', b, p + 4)[0] - self.preroll)
            p += rep
            if lens:
                n, p = number(b, p, lens)
                p += n
        return send, at, width, pad, keys

    def stripped(self, i):
        b, (_, at, width, pad, _) = self.packets[i], self.heads[i]
        return b if not pad else b[:at] + bytes(width) + b[at + width:len(b) - pad]

    def find(self, ms):
        best = 0
        for i, h in enumerate(self.heads):
            if any(k <= ms + 0.5 for k in h[4]):
                best = i
        return best

    def at_byte(self, off):
        return min(max(0, off - len(self.header)) // self.packet, len(self.packets))


def open_film(name):
    path = os.path.join(a.root, os.path.basename(name))
    return Film(path) if os.path.isfile(path) else None


def paced(film, start, alive):
    """yields the packets from start on, each when it is due"""
    t0, base = time.time(), film.heads[start][0] if start < len(film.packets) else 0
    for i in range(start, len(film.packets)):
        while alive():
            wait = t0 + (film.heads[i][0] - base) / 1e3 - a.burst - time.time()
            if wait <= 0:
                break
            time.sleep(min(wait, 0.05))
        if not alive():
            return
        yield i


class Teller:
    """tells now and then how much a session was sent"""
    def __init__(self, client, session):
        self.client, self.session, self.packets, self.told = client, session, 0, 0
        fact('open', client, session=session)

    def sent(self):
        self.packets += 1
        if time.time() - self.told > 0.1:
            self.told = time.time()
            fact('media', self.client, session=self.session, packets=self.packets)


class Mmst(threading.Thread):
    def __init__(self, c, addr):
        super().__init__(daemon=True)
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.c, self.client, self.session = c, addr[0], 't%d' % addr[1]
        self.lock, self.seq, self.aff, self.play = threading.Lock(), 0, 0, 0
        self.film, self.agent, self.uri = None, '', ''

    def message(self, mid, body):
        with self.lock:
            body += bytes(-len(body) % 8)
            self.c.sendall(struct.pack('<IIIIIIQII', 1, 0xB00BFACE, len(body) + 24, 0x20534D4D, (len(body) + 24) // 8,
                                       self.seq & 0xffff, 0, len(body) // 8 + 1, mid) + body)
            self.seq += 1

    def data(self, loc, inc, flags, body):
        with self.lock:
            self.c.sendall(struct.pack('<IBBH', loc, inc & 255, flags & 255, 8 + len(body)) + body)

    def take(self, n):
        b = b''
        while len(b) < n:
            x = self.c.recv(n - len(b))
            if not x:
                raise EOFError
            b += x
        return b

    def run(self):
        fact('connect', self.client)
        self.teller = Teller(self.client, self.session)
        threading.Thread(target=self.pings, daemon=True).start()
        try:
            while True:
                head = self.take(16)
                rest = self.take(struct.unpack_from('<I', head, 8)[0])
                self.handle(struct.unpack_from('<I', rest, 20)[0] & 0xffff, rest[24:])
        except (EOFError, OSError, struct.error):
            pass
        self.play = -1
        self.c.close()
        fact('end', self.client, session=self.session)
        fact('close', self.client)

    def pings(self):
        while self.play >= 0:
            time.sleep(2)
            try:
                if self.film and self.teller.packets:
                    self.message(0x0004001B, bytes(8))
            except OSError:
                return

    def handle(self, mid, p):
        names = {1: 'Connect', 2: 'ConnectFunnel', 5: 'OpenFile', 7: 'StartPlaying', 9: 'StopPlaying', 0x0d: 'CloseFile',
                 0x15: 'ReadBlock', 0x18: 'FunnelInfo', 0x1b: 'Pong', 0x33: 'StreamSwitch'}
        where = ''
        text = lambda off: p[off:].decode('utf-16le', 'replace').split('\0')[0]
        if mid == 1:
            self.agent = text(12)
            version = '9.01.01.3814\0'
            self.message(0x00040001, struct.pack('<IIIIdIIIIIIII', 0, 0xF0F0F0EF, 0x4000B, 0x3001C, 1.0, 1, 1, 0x8000, 0x989680,
                                                 len(version), 0, 0, 0) + version.encode('utf-16le'))
        elif mid == 0x18:
            self.message(0x00040015, struct.pack('<IIIIIIIIII', 0, 0xF0F0F0EF, 8, 1, 0x10000, random.getrandbits(31), 0, 1, 0, 0))
        elif mid == 2:
            if '\\UDP\\' in text(20).upper():
                self.message(0x00040003, struct.pack('<II', 0x80070005, 0))
            else:
                self.message(0x00040002, bytes(12) + 'Funnel Of The Gods\0'.encode('utf-16le'))
        elif mid == 5:
            self.uri, inc = '/' + text(16), struct.unpack_from('<I', p)[0]
            f = self.film = open_film(self.uri)
            if f:
                self.message(0x00040006, struct.pack('<IIIIII', 0, inc, 1, 0, 0, 0x01800000) + struct.pack('<dI', f.seconds, math.ceil(f.seconds)) +
                             bytes(16) + struct.pack('<IQII', f.packet, len(f.packets), f.rate, len(f.header)) + bytes(36))
            else:
                self.message(0x00040006, struct.pack('<II', 0x80070002, inc) + bytes(100))
        elif mid == 0x15:
            inc, h, n = struct.unpack_from('<I', p, 40)[0], self.film.header, a.piece or self.film.packet
            self.message(0x00040011, struct.pack('<III', 0, inc, 0))
            for i in range(0, len(h), n):
                self.data(i // n, inc, 0x0c if i + n >= len(h) else 4, h[i:i + n])
        elif mid == 0x33:
            self.message(0x00040021, bytes(4))
        elif mid == 7:
            where = self.play_from(p)
        elif mid == 9:
            self.play += 1
            time.sleep(0.05)
            self.message(0x0004001e, struct.pack('<II', 0, struct.unpack_from('<II', p)[1]))
        fact('request', self.client, session=self.session, method=names.get(mid, hex(mid)), uri=self.uri, agent=self.agent, range=where)
        if mid == 0x0d:
            raise EOFError

    def play_from(self, p):
        _, _, pos, off, loc, _, inc = struct.unpack_from('<IIdIIII', p)
        if loc not in (0, NONE):
            n = min(loc, len(self.film.packets))
        elif off not in (0, NONE):
            n = self.film.at_byte(off)
        else:
            n = self.film.find(pos * 1e3) if 0 < pos < 1e300 else 0
        self.play += 1
        self.message(0x00040005, struct.pack('<IIII', 0, inc, 1, 0) + bytes(12))
        threading.Thread(target=self.stream, args=(self.play, n, inc), daemon=True).start()
        return 'position=%g asfoffset=%d locationid=%d packet=%d' % (pos, off, loc, n)

    def stream(self, play, start, inc):
        alive = lambda: self.play == play
        try:
            for i in paced(self.film, start, alive):
                self.data(i, inc, self.aff, self.film.packets[i] if a.full else self.film.stripped(i))
                self.aff += 1
                self.teller.sent()
            if alive():
                self.message(0x0004001e, struct.pack('<II', 0, inc))
                time.sleep(1)
                if alive():
                    self.c.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def mmsh(c, addr):
    client, session = addr[0], 'h%d' % addr[1]
    fact('connect', client)
    try:
        b = b''
        while b'\r\n\r\n' not in b:
            x = c.recv(4096)
            if not x:
                return
            b += x
        lines = b.split(b'\r\n\r\n')[0].decode('latin1').split('\r\n')
        head, agent = {}, ''
        for line in lines[1:]:
            k, _, v = line.partition(':')
            if k.strip().lower() == 'user-agent':
                agent = v.strip()
            if k.strip().lower() == 'pragma':
                for token in v.split(','):
                    n, _, y = token.strip().partition('=')
                    head[n.lower()] = y
        uri, play = lines[0].split()[1], head.get('xplaystrm') == '1'
        film = open_film(uri.split('?')[0])
        start, where = 0, ''
        if film and play:
            digits = lambda s: int(re.match(r'\d*', s).group() or 0)
            ms, loc = digits(head.get('stream-time', '')), digits(head.get('packet-num', str(NONE)))
            off = [digits(x) for x in head.get('stream-offset', '0:0').split(':')]
            off = (off[0] << 32) + off[1]
            start = loc if loc != NONE else film.at_byte(off) if off not in (0, 2**64 - 1) else film.find(ms) if ms else 0
            where = 'stream-time=%d packet-num=%d stream-offset=%d packet=%d' % (ms, loc, off, start)
        fact('request', client, session=session, method='Play' if play else 'Describe', uri=uri, agent=agent, range=where)
        if not film:
            c.sendall(b'HTTP/1.0 404 Not Found\r\nConnection: close\r\n\r\n')
            return
        kind = 'application/x-mms-framed' if play else 'application/vnd.ms.wms-hdr.asfv1'
        c.sendall(('HTTP/1.0 200 OK\r\nServer: Cougar/9.01.01.3814\r\nContent-Type: %s\r\nCache-Control: no-cache\r\nPragma: no-cache, '
                   'client-id=%d, features="seekable,stridable", timeout=60000\r\nConnection: close\r\n\r\n'
                   % (kind, random.getrandbits(31))).encode())
        data = lambda i, inc, flags, d: struct.pack('<HIBBH', 8 + len(d), i, inc, flags & 255, 8 + len(d)) + d
        c.sendall(b'$H' + data(0, 0, 0x0c, film.header))
        if not play:
            return
        teller = Teller(client, session)
        try:
            for j, i in enumerate(paced(film, start, lambda: True)):
                c.sendall(b'$D' + data(i, 1, j, film.packets[i] if a.full else film.stripped(i)))
                teller.sent()
            c.sendall(b'$E' + struct.pack('<HI', 4, 0))
        finally:
            fact('end', client, session=session)
    except OSError:
        pass
    finally:
        c.close()
        fact('close', client)


def listen(addr, port, serve):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((addr, port))
    s.listen(8)

    def accept():
        while True:
            serve(*s.accept())
    threading.Thread(target=accept, daemon=True).start()
    return s.getsockname()[1]


ap = argparse.ArgumentParser()
ap.add_argument('--root')
ap.add_argument('--addr')
ap.add_argument('--mmst', type=int)
ap.add_argument('--mmsh', type=int)
ap.add_argument('--burst', type=float)
ap.add_argument('--piece', type=int)
ap.add_argument('--full', action='store_true')
a = ap.parse_args()
t = listen(a.addr, a.mmst, lambda c, ad: Mmst(c, ad).start())
h = listen(a.addr, a.mmsh, lambda c, ad: threading.Thread(target=mmsh, args=(c, ad), daemon=True).start())
fact('listening', uri='%d %d' % (t, h))
while True:
    time.sleep(3600)
