package main

import (
	"net"
	"net/url"
	"time"
)

// natsPort is the default of NATS.
const natsPort = "4222"

// probeStore tries to reach the servers of the store. One of several may be away.
func probeStore(servers []string) []finding {
	var found []finding
	reached := false
	for _, s := range servers {
		u, err := url.Parse(s)
		if err != nil {
			continue // refused before
		}
		port := u.Port()
		if port == "" {
			port = natsPort
		}
		address := net.JoinHostPort(u.Hostname(), port)
		x := finding{Name: "state_server", OK: true, Detail: address}
		conn, err := net.DialTimeout("tcp", address, 3*time.Second)
		if err == nil {
			conn.Close()
			reached = true
		} else {
			x.OK, x.Detail, x.Hint = false, err.Error(), "start a NATS server there with JetStream, or name another in state.servers"
		}
		found = append(found, x)
	}
	for i := range found {
		found[i].Required = !reached
	}
	return found
}
