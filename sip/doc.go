// Package sip is the SIP application server: which terminals a user has, who may move what,
// and one order out of it all.
//
// It learns of terminals from third-party REGISTERs of an S-CSCF, completed by the
// registration event package, or is a registrar itself where there is no IMS. It refuses to
// know what a session is made of and how it is moved: it asks a Mover.
//
// All of sipgo is used through stack.go, wire.go and send.go, which give every handler the
// same ground: peers that may speak, messages that are whole, one answer, no panic.
//
// Specifications: RFC 3261, 3325, 3327, 3680, 4475, 5626, 6665, 7616, 8760; TS 24.229 5.7.
package sip
