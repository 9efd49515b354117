"""GStreamer's RTSP server, telling in JSON lines on stdout what is asked of it.

Mounts /vod/<file> for each MP4 and MKV of the media directory (first picture and first sound
track, one pipeline per client, seekable) and /live (shared, not seekable).

Lines: {"t": seconds, "ev": "listening" | "connect" | "request" | "close" | "open" | "end" |
"media", ...}. "open" and "end" are sessions of the server; "media" comes while a session sends,
with the RTP packets sent so far.
"""
import argparse
import json
import os
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

TICK = 100  # milliseconds between looks at the packet counts
METHODS = ("options", "describe", "setup", "play", "pause", "teardown", "set-parameter", "get-parameter")
PAY = (
    "d.video_0 ! queue ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 "
    "d.audio_0 ! queue ! aacparse ! rtpmp4gpay name=pay1 pt=97 )"
)
LIVE = (
    "( videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=25/1 ! "
    "x264enc tune=zerolatency speed-preset=ultrafast bitrate=120 key-int-max=25 ! "
    "rtph264pay name=pay0 pt=96 config-interval=-1 )"
)


def say(ev, **fields):
    print(json.dumps(dict(t=time.time(), ev=ev, **fields)), flush=True)


class Vod(GstRtspServer.RTSPMediaFactory):
    """One pipeline per client, so that each can seek for itself."""

    def __init__(self, path):
        super().__init__()
        demux = "matroskademux" if path.endswith(".mkv") else "qtdemux"
        self.launch = f"( filesrc location={path} ! {demux} name=d " + PAY
        self.set_shared(False)

    def do_create_element(self, url):
        return Gst.parse_launch(self.launch)


class Server:
    def __init__(self, args):
        self.args = args
        self.clients = {}  # session id -> the client's address
        self.sent = {}  # session id -> (newest sequence numbers, RTP packets so far)
        self.media = {}  # session id -> RTSPMedia
        self.server = GstRtspServer.RTSPServer()
        self.server.set_address(args.addr)
        self.server.set_service(str(args.port))
        self.pool = self.server.get_session_pool()
        self.pool.connect("session-removed", self.on_end)
        self.server.connect("client-connected", self.on_client)
        self.mount()
        if args.user:
            self.authenticate()

    def mount(self):
        mounts = self.server.get_mount_points()
        live = GstRtspServer.RTSPMediaFactory()
        live.set_launch(LIVE)
        live.set_shared(True)
        factories = {"/live": live}
        for name in sorted(os.listdir(self.args.media)):
            if name.endswith((".mp4", ".mkv")):
                factories["/vod/" + name] = Vod(os.path.join(self.args.media, name))
        for path, factory in factories.items():
            if self.args.user:
                perms = GstRtspServer.RTSPPermissions()
                perms.add_role("viewer")
                perms.add_permission_for_role("viewer", "media.factory.access", True)
                perms.add_permission_for_role("viewer", "media.factory.construct", True)
                factory.set_permissions(perms)
            mounts.add_factory(path, factory)

    def authenticate(self):
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth = GstRtspServer.RTSPAuth()
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(self.args.user, self.args.password, token)
        self.server.set_auth(auth)

    def on_client(self, server, client):
        ip = client.get_connection().get_ip()
        say("connect", client=ip)
        for method in METHODS:
            client.connect(method + "-request", self.on_request, method.replace("-", "_").upper(), ip)
        client.connect("new-session", self.on_open, ip)
        client.connect("closed", lambda c: say("close", client=ip))

    def on_request(self, client, context, method, ip):
        header = {}
        for key, field in (("cseq", "CSEQ"), ("range", "RANGE"), ("agent", "USER_AGENT"), ("session", "SESSION")):
            result, value = context.request.get_header(getattr(GstRtsp.RTSPHeaderField, field), 0)
            if result == GstRtsp.RTSPResult.OK:
                header[key] = value
        uri = context.uri.get_request_uri() if context.uri else ""
        say("request", method=method, uri=uri, client=ip, sessions=self.pool.get_n_sessions(), **header)
        if method == "PLAY" and context.session and context.media:
            self.media[context.session.get_sessionid()] = context.media

    def on_open(self, client, session, ip):
        session.set_timeout(self.args.timeout)
        name = session.get_sessionid()
        self.clients[name] = ip
        say("open", session=name, client=ip, sessions=self.pool.get_n_sessions())

    def on_end(self, pool, session):
        name = session.get_sessionid()
        self.sent.pop(name, None)
        self.media.pop(name, None)
        say("end", session=name, client=self.clients.pop(name, ""), sessions=pool.get_n_sessions())

    def count(self):
        """Says which sessions sent media since the last look."""
        for name, media in list(self.media.items()):
            streams = [media.get_stream(i) for i in range(media.n_streams())]
            seq = [s.get_current_seqnum() for s in streams]
            last, packets = self.sent.get(name, (seq, 0))
            more = sum((b - a) & 0xFFFF for a, b in zip(last, seq))
            self.sent[name] = (seq, packets + more)
            if more:
                say("media", session=name, client=self.clients.get(name, ""), packets=packets + more)
        return True

    def tidy(self):
        self.pool.cleanup()
        return True

    def run(self):
        if not self.server.attach(None):
            raise SystemExit(f"cannot listen on {self.args.addr} port {self.args.port}")
        GLib.timeout_add_seconds(2, self.tidy)
        GLib.timeout_add(TICK, self.count)
        say("listening")
        GLib.MainLoop().run()


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--media", required=True)
    args.add_argument("--addr", default="0.0.0.0")
    args.add_argument("--port", type=int, default=554)
    args.add_argument("--timeout", type=int, default=60)
    args.add_argument("--user", default="", help="with it, digest authentication is asked for")
    args.add_argument("--password", default="")
    Gst.init(None)
    Server(args.parse_args()).run()


main()
