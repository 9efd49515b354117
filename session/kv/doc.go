// Package kv is the store of what must survive a restart, over NATS JetStream: bindings,
// users, requests taken, running sessions, transfers, and the history log. It is also how
// gateways and application servers that run as separate processes work together: a gateway
// serves orders (ServeOrders), an application server gives them (Remote). It refuses to know
// what a binding or a transfer means: it decides only which of two values is the newer one.
//
// The server is embedded (files in a directory, no port) or external; the code is the same.
//
// Nothing here stops a film. Writes that nobody waits for go through a bounded queue: a
// store that does not answer makes them wait, a newer value of a key replaces the one that
// waits, and what the queue has no room for is dropped and counted. Every write names the
// revision it read; on a conflict it reads again and decides again.
//
// Specifications: NATS ADR-8 (key-value buckets), ADR-43 (TTL of a message; needs
// nats-server 2.11); DESIGN §6.
package kv
