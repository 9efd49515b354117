package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"scas/admin"
	"scas/internal/command"
	"scas/internal/lab"
	"scas/session"
	"scas/sip"
)

// storeMain is the program scas-test-store ADDRESS:PORT DIR: a NATS server, until it is killed.
func storeMain() {
	host, port, err := net.SplitHostPort(os.Args[1])
	if err != nil {
		panic(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		panic(err)
	}
	s, err := server.NewServer(&server.Options{Host: host, Port: number, JetStream: true, StoreDir: os.Args[2], NoSigs: true, NoLog: true})
	if err != nil {
		panic(err)
	}
	s.Start()
	s.WaitForShutdown()
}

const storeAddress = "127.0.0.1:4222"

// apart is a site whose gateway and application server are processes of their own, joined by a
// NATS server.
type apart struct {
	*site
	store, as *daemon
	asAPI     *client
}

func newApart(t *testing.T) *apart {
	a := &apart{site: newSite(t, siteConfig{})}
	a.asAPI = (&clientFlags{socket: filepath.Join(a.dir, "as.sock")}).client(newEnv())
	t.Cleanup(func() {
		for _, d := range []*daemon{a.as, a.store} {
			if d != nil {
				_ = d.cmd.Process.Kill()
				<-d.done
			}
		}
		if said, err := os.ReadFile(filepath.Join(a.dir, "as.log")); err == nil {
			if bytes.Contains(said, []byte("DATA RACE")) || bytes.Contains(said, []byte("panic:")) {
				t.Error("the application server said so")
			}
			if t.Failed() {
				t.Logf("the application server said:\n%s", said[max(0, len(said)-16<<10):])
			}
		}
	})
	return a
}

func (a *apart) serveStore(t *testing.T) {
	t.Helper()
	store := program(t) + "-test-store"
	var err error
	if a.store, err = startDaemon(a.Command(context.Background(), lab.GW, store, storeAddress, filepath.Join(a.dir, "nats"))); err != nil {
		t.Fatal(err)
	}
}

// serveGateway starts the gateway, with the application server in it when there is a section sip.
func (a *apart) serveGateway(t *testing.T, sip string) {
	t.Helper()
	roles := "[gateway]"
	if sip != "" {
		roles = "[gateway, as]"
	}
	text := fmt.Sprintf(`node: gw1
roles: %s
gateway: {lan: [%s, %s], wan: [%s], services: {rtsp: [554]}}
transfer: {overlap: %v, settle: 1s}
api: {listen: "", socket: %s}
state: {dir: %s, servers: ["nats://%s"]}
%s`, roles, lab.LAN0, lab.LAN1, lab.WAN0, siteOverlap, a.socket(), filepath.Join(a.dir, "state"), storeAddress, sip)
	starting.Lock()
	defer starting.Unlock()
	a.daemon = a.start(t, "scas.yaml", "log", text)
	a.ready(t, a.daemon, a.api)
}

// serveAS starts the application server without a single privilege.
func (a *apart) serveAS(t *testing.T) {
	t.Helper()
	text := fmt.Sprintf(`node: as1
roles: [as]
api: {listen: "", socket: %s}
state: {dir: "", servers: ["nats://%s"]}
%s`, filepath.Join(a.dir, "as.sock"), storeAddress, hotel)
	a.as = a.start(t, "as.yaml", "as.log", text, "setpriv", "--bounding-set=-all", "--inh-caps=-all")
	a.ready(t, a.as, a.asAPI)
}

// onAS runs a client command against the application server.
func (a *apart) onAS(t *testing.T, words ...string) (string, string, int) {
	t.Helper()
	return clientCommand(t, filepath.Join(a.dir, "as.sock"), words...)
}

// names returns what the terminals are called at the gateway.
func (a *apart) names(t *testing.T) (all []string) {
	t.Helper()
	for _, x := range a.enrolled(t) {
		all = append(all, x.Name)
	}
	slices.Sort(all)
	return all
}

// TestRolesApart: a gateway and an application server in processes of their own, and a store
// that joins them. Each of the three is killed and comes back.
func TestRolesApart(t *testing.T) {
	t.Parallel()
	a := newApart(t)
	server := a.film(t, lab.GstServer(), false)
	a.serveStore(t)
	a.serveAS(t)
	a.serveGateway(t, "")
	onPhone, onTV := a.client(t, phone, bob, secret), a.client(t, tv, bob, secret)
	a.register(t, onPhone, phone)
	a.register(t, onTV, tv)
	for _, name := range []string{"mobile", "phone"} {
		onPhone.order(t, sip.Order{Op: "name", Name: name})
		onPhone.incoming(t, "that it is called so now", result("done"))
		await(t, soon, "the gateway calls it so", func() bool { return slices.Equal(a.names(t), []string{name, "tv"}) })
	}

	from := udp()
	from.Start = moveStart
	origin := a.play(t, phone, from, server.URL("film"))
	reach(t, origin, moveOrder)
	target := a.pushed(t, onPhone, onTV, origin)
	watched := a.play(t, phone, udp(), server.URL("watched"))
	id := a.shown(t, server.URL("watched")).ID
	a.seenByAS(t, id)

	t.Log("the application server is killed")
	dead := a.as.kill(t)
	goesOn(t, target, dead.Add(2*time.Second))
	goesOn(t, watched, dead.Add(2*time.Second))
	if all := a.enrolled(t); len(all) != 2 || a.opened(t) != 2 {
		t.Errorf("%d addresses are open, %+v", a.opened(t), all)
	}
	a.serveAS(t)
	a.declined(t, onPhone, onTV, target) // an order, without anybody having registered again

	a.examined(t)
	a.measured(t)
	var pending session.Transfer
	a.order(t, &pending, id)

	t.Log("the gateway is killed")
	dead = a.kill(t)
	goesOn(t, watched, dead.Add(2*time.Second))
	if _, said, code := a.onAS(t, "transfer", id, "--to", "tv"); code != command.Failed || !strings.Contains(said, "gateway gw1 does not answer") {
		t.Errorf("an order for a dead gateway: exit code %d: %s", code, said)
	}
	if _, said, code := a.onAS(t, "transfer", "--cancel", pending.ID); code != command.Failed || !strings.Contains(said, "gateway gw1 does not answer") ||
		!strings.Contains(said, string(session.DaemonRestart)) {
		t.Errorf("a transfer of a dead gateway is called off: exit code %d: %s", code, said)
	}
	a.serveGateway(t, "")
	await(t, soon, "its open transfer has failed", func() bool {
		_, err := a.asAPI.get(t.Context(), "/v1/transfers/"+pending.ID, &pending)
		return err == nil && pending.State == session.Failed && *pending.Reason == session.DaemonRestart
	})
	if all := a.names(t); !slices.Equal(all, []string{"phone", "tv"}) {
		t.Errorf("the gateway begins with %v", all)
	}
	await(t, soon, "both are admitted as before", func() bool { return a.opened(t) == 2 })
	await(t, opening, "the film is shown again", func() bool { seen := a.sessions(t, server.URL("watched")); return len(seen) == 1 && seen[0].ID == id })
	a.storeAway(t, onTV, watched)

	t.Log("both become one process on the same store")
	a.as.stop(t)
	a.as = nil
	a.stop(t)
	a.serveGateway(t, hotel)
	await(t, opening, "the phone is admitted as before", func() bool { return a.admits(t, phone) })
	await(t, opening, "the film is shown again", func() bool { seen := a.sessions(t, server.URL("watched")); return len(seen) == 1 && seen[0].ID == id })
	onPhone.order(t, sip.Order{Op: "list"})
	if l := onPhone.incoming(t, "the list", func(in sip.Incoming) bool { return in.Sessions != nil }).Sessions; len(l.Items) != 1 || l.Items[0].On != "phone" {
		t.Errorf("%+v", l)
	}

	untouched(t, "the phone", server, watched)
	if err := onPhone.Close(); err != nil {
		t.Error(err)
	}
	await(t, soon, "nobody is admitted any more", func() bool { return len(a.enrolled(t)) == 0 && a.opened(t) == 0 && len(a.sessions(t, "")) == 0 })
	a.stop(t)
	a.discreet(t)
}

// order gives an order at the application server and leaves it open.
func (a *apart) order(t *testing.T, x *session.Transfer, id string) {
	t.Helper()
	out, said, code := a.onAS(t, "transfer", id, "--to", "tv", "-o", "json")
	if err := json.Unmarshal([]byte(out), x); err != nil || code != command.Done || x.State != session.Armed {
		t.Fatalf("exit code %d: %v: %s%s", code, err, out, said)
	}
}

// examined checks that doctor finds both processes at the store, and would find a second
// application server.
func (a *apart) examined(t *testing.T) {
	t.Helper()
	file := filepath.Join(a.dir, "as.yaml")
	for node, want := range map[string]string{"as1": "ok +as as1 +is running, its clock agrees", "as2": "MISSING +as as1 +is another application server"} {
		out, _ := a.Command(t.Context(), lab.GW, program(t), "doctor", "-c", file, "--set", "node="+node).CombinedOutput() // what it finds is looked at
		for _, line := range []string{want, "ok +gateway gw1 +is running, its clock agrees", "ok +state_store +JetStream answers"} {
			if !regexp.MustCompile(line).Match(out) {
				t.Errorf("doctor of %s, without %q:\n%s", node, line, out)
			}
		}
	}
}

// measured checks that the metrics of both processes keep to Prometheus' conventions, and that those
// which documents and alerts name are there.
func (a *apart) measured(t *testing.T) {
	t.Helper()
	var all strings.Builder
	for _, api := range []*client{a.api, a.asAPI} {
		raw, err := api.call(t.Context(), "GET", "/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if problems, err := promlint.New(bytes.NewReader(raw)).Lint(); err != nil || len(problems) > 0 {
			t.Errorf("%v %v", err, problems)
		}
		all.Write(raw)
	}
	for room, texts := range map[string]map[string]string{"bpf": kernelHelp(), "splice": spliceHelp(), "store": storeHelp(), "tracer": tracerHelp()} {
		for name, text := range texts {
			if !strings.Contains(all.String(), "# HELP scas_"+room+"_"+name+" "+text+"\n") && !strings.Contains(all.String(), "# HELP scas_"+room+"_"+name+"_total "+text+"\n") {
				t.Errorf("%s of %s is explained and not there", name, room)
			}
		}
	}
	for _, file := range []string{"../../docs/operating.md", "../../deploy/prometheus-rules.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`scas_[a-z_]+[a-z]`).FindAllString(string(text), -1) {
			if !regexp.MustCompile(`(?m)^` + name + `[ {]`).MatchString(all.String()) {
				t.Errorf("%s names %s, which is not there", file, name)
			}
		}
	}
}

// seenByAS checks what the application server shows: what the gateway does.
func (a *apart) seenByAS(t *testing.T, id string) {
	t.Helper()
	var r session.Record
	await(t, opening, "the application server shows the film", func() bool { _, err := a.asAPI.get(t.Context(), "/v1/sessions/"+id, &r); return err == nil })
	if r.Gateway != "gw1" || r.Terminal.Name != "phone" || r.Terminal.IP != a.Addr(phone) || r.AoR == nil || *r.AoR != bob {
		t.Errorf("%+v", r)
	}
	var moved []session.Transfer
	if _, err := a.asAPI.get(t.Context(), "/v1/transfers", &moved); err != nil || len(moved) != 1 || moved[0].State != session.Done {
		t.Errorf("%v %+v", err, moved)
	}
	var known []admin.Terminal
	if _, err := a.asAPI.get(t.Context(), "/v1/terminals", &known); err != nil || len(known) != 2 || known[0].Source != session.FromRegistrar {
		t.Errorf("%v %+v", err, known)
	}
	for _, words := range [][]string{{"sessions"}, {"log", "--event", "transfer"}} {
		if out, said, code := a.onAS(t, words...); code != command.Done || !strings.Contains(out, "phone") {
			t.Errorf("scas %v: exit code %d: %s%s", words, code, out, said)
		}
	}
	out, said, code := a.onAS(t, "transfer", id, "--to", "tv")
	if code != command.Done {
		t.Fatalf("exit code %d: %s", code, said)
	}
	order, _, _ := strings.Cut(out, ":")
	if _, said, code = a.onAS(t, "transfer", "--cancel", order); code != command.Done {
		t.Errorf("cancel: exit code %d: %s", code, said)
	}
	if x := a.outcome(t, order); x.State != session.Cancelled {
		t.Errorf("%+v", x)
	}
}

// storeAway takes the store away while a terminal leaves: what is open stays open, and the end is
// made up for.
func (a *apart) storeAway(t *testing.T, leaves *terminalClient, watched *lab.Player) {
	t.Helper()
	dead := a.store.kill(t)
	var state struct{}
	await(t, opening, "the gateway says so", func() bool { _, err := a.api.get(t.Context(), "/readyz", &state); return err != nil })
	if err := leaves.Close(); err != nil {
		t.Error(err)
	}
	goesOn(t, watched, dead.Add(2*time.Second))
	if all := a.enrolled(t); len(all) != 2 || a.opened(t) != 2 {
		t.Errorf("%d addresses are open, %+v", a.opened(t), all)
	}
	a.serveStore(t)
	await(t, opening, "who left is not admitted any more", func() bool { return len(a.enrolled(t)) == 1 && a.opened(t) == 1 })
	a.ready(t, a.daemon, a.api)
	a.ready(t, a.as, a.asAPI)
}
