// Package peers runs programs that this project did not write, for its end-to-end tests: an
// RTSP server (GStreamer's) and players (ffplay, mpv, mplayer, GStreamer's playbin, ffmpeg).
// It makes films whose pictures carry their own number, reads that number off each player's
// screen, and so knows what a viewer sees and when.
//
// For MMS: ffmpeg, ffplay, MPlayer, VLC and a small program on libmms as players (StartMMSPlayer),
// and a server in Python (StartMMSServer). VLC refuses root: then it runs as nobody.
//
// SIP clients (StartSIPClient) are told what their user types, and asked what they stored.
//
// It knows nothing of scas and nothing of how namespaces are made: every program that has to
// live in one is started through a Starter. Programs it starts are in process groups of their
// own, are killed by Close, and die with the test process. It has no production reader.
//
// Debian packages: ffmpeg mpv mplayer xvfb xdotool python3-gi gir1.2-gst-rtsp-server-1.0
// gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
// gstreamer1.0-plugins-bad gstreamer1.0-libav; for MMS vlc-bin vlc-plugin-base libmms-dev gcc
// libc6-dev util-linux; SIP clients baresip-core linphone-cli.
package peers
