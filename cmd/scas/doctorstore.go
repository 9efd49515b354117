package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"time"

	"scas/session/kv"
)

// natsPort is the default of NATS.
const natsPort = "4222"

// probeStore tries to reach the servers of the store, and tells who else uses it. One of several
// servers may be away.
func probeStore(e *env, c config) []finding {
	var found []finding
	reached := false
	for _, s := range c.State.Servers {
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
	if reached {
		found = append(found, probeNeighbours(e, c)...)
	}
	return found
}

// probeNeighbours asks the store who uses it: clocks must agree, names differ, and there is one
// application server.
func probeNeighbours(e *env, c config) []finding {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	neighbours, err := kv.Look(ctx, c.store(e.now))
	if err != nil {
		return []finding{{Name: "state_store", Required: true, Detail: err.Error(),
			Hint: "state.servers, state.credentials and state.ca must fit the NATS server, which needs JetStream"}}
	}
	found := []finding{{Name: "state_store", Required: true, OK: true, Detail: "JetStream answers"}}
	for _, n := range neighbours {
		found = append(found, judge(c, n))
	}
	return found
}

// judge says what is to be said of a process that uses the same store.
func judge(c config, n kv.Neighbour) finding {
	x := finding{Name: n.Role + " " + n.Node, OK: true, Detail: "is running, its clock agrees with this one"}
	switch {
	case n.Twins > 0:
		x.OK, x.Required, x.Detail, x.Hint = false, true, fmt.Sprintf("there are %d processes of this name", n.Twins+1),
			"give each a node of its own, and let there be one application server"
	case n.Role == kv.RoleAS && c.SIP.on && n.Node != c.Node:
		x.OK, x.Required, x.Detail, x.Hint = false, true, "is another application server at this store",
			"end one of them: each ends the registrations of the other"
	case !n.Timed:
		x.Detail = "is running, an older scas that does not tell its time"
	case n.Ahead.Abs() > kv.ClockSlack:
		side := "ahead of"
		if n.Ahead < 0 {
			side = "behind"
		}
		x.OK, x.Detail = false, fmt.Sprintf("its clock is %.1f s %s this one", n.Ahead.Abs().Seconds(), side)
		x.Hint = "registrations end early or late: let both machines keep time by NTP"
	}
	return x
}
