// Package lab builds a small network to try scas in, and the two ends that play in it: network
// namespaces ue1, ue2, gw and ms joined by veth pairs, a synthetic RTSP VoD server and synthetic
// RTSP players. The media carry their own position: every packet says which picture of which
// track it belongs to and has a checksum, so a player knows what it missed, and a test knows
// where a film went on.
//
// The lab has its own few lines of RTSP grammar (wire.go) on purpose: it is what the product's
// grammar is tried against, so it must not share its mistakes. The peers behave as real servers
// and players were seen to behave on the wire; the presets in profiles.go name whom they copy.
//
// The namespaces need root. Server and Player do not: the zero Host is the process's own
// network, so they also run over loopback.
//
// The same for Windows Media: ServeMMS and PlayMMS speak MMS over TCP and over HTTP, with a grammar
// of their own too (mmswire.go, mmshttp.go, mmsasf.go); the film is a synthetic ASF whose payloads
// are those packets, or any ASF file.
//
// Specifications: RFC 2326, RFC 3550, RFC 6184 (H.264 payload), RFC 3640 (AAC payload), MS-MMSP,
// MS-WMSP, ASF 01.20.
package lab
