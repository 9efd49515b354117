// Package ims runs a small IMS in a namespace of a lab: Kamailio as P-CSCF, S-CSCF and presence
// server, a Diameter Cx home subscriber server, SIPp as further terminals, and a capture of
// every SIP message, drawn as a ladder. It knows nothing of scas: the application server is an
// address. TS 23.228, TS 24.229, TS 29.228, TS 29.229.
package ims
