"""GStreamer's playbin: pictures as they leave the synchronised sink go to stdout as raw grey
frames, events to stderr as JSON lines. Commands on stdin: pause, resume, seek SECONDS, quit."""
import json
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

PROTOCOLS = {"udp": 0x1, "tcp": 0x4}


def say(ev, **fields):
    print(json.dumps(dict(ev=ev, **fields)), file=sys.stderr, flush=True)


class Player:
    def __init__(self, url, transport):
        self.loop = GLib.MainLoop()
        self.code = 0
        self.bin = Gst.ElementFactory.make("playbin")
        self.bin.set_property("uri", url)
        self.bin.set_property("flags", 0x3)  # picture and sound
        grey = "videoconvert ! video/x-raw,format=GRAY8 ! fdsink fd=1 sync=true"
        self.bin.set_property("video-sink", Gst.parse_bin_from_description(grey, True))
        self.bin.set_property("audio-sink", Gst.parse_bin_from_description("fakesink sync=true", True))
        self.bin.connect("source-setup", self.on_source, PROTOCOLS.get(transport))
        bus = self.bin.get_bus()
        bus.add_signal_watch()
        bus.connect("message", self.on_message)

    def on_source(self, playbin, source, protocols):
        if protocols:
            source.set_property("protocols", protocols)

    def on_message(self, bus, message):
        if message.type == Gst.MessageType.EOS:
            say("eos")
            self.loop.quit()
        elif message.type == Gst.MessageType.ERROR:
            error, detail = message.parse_error()
            say("error", text=f"{error.message} {detail or ''}")
            self.code = 1
            self.loop.quit()

    def commands(self):
        for line in sys.stdin:
            word = line.split()
            if word[:1] == ["pause"]:
                self.bin.set_state(Gst.State.PAUSED)
            elif word[:1] == ["resume"]:
                self.bin.set_state(Gst.State.PLAYING)
            elif word[:1] == ["seek"]:
                flags = Gst.SeekFlags.FLUSH | Gst.SeekFlags.KEY_UNIT
                self.bin.seek_simple(Gst.Format.TIME, flags, int(float(word[1]) * Gst.SECOND))
            elif word[:1] == ["quit"]:
                GLib.idle_add(self.loop.quit)

    def run(self):
        threading.Thread(target=self.commands, daemon=True).start()
        self.bin.set_state(Gst.State.PLAYING)
        self.loop.run()
        self.bin.set_state(Gst.State.NULL)
        return self.code


Gst.init(None)
sys.exit(Player(*sys.argv[1:3]).run())
