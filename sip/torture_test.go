package sip

import (
	"bufio"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTorture sends each message of RFC 4475 to a core listener, as a trusted peer, and to an
// access listener with our own registrar, and compares with the table in docs/sip-torture.md.
func TestTorture(t *testing.T) {
	rows := tortureTable(t)
	if len(rows) != 49 {
		t.Fatalf("%d rows, RFC 4475 has 49 messages", len(rows))
	}
	core := newWirePeer(t, loopback())
	b := newRegBedAt(t, core, &flakyStore{Memory: NewMemory()}, &fakeClock{}, func(cfg *Config) {
		cfg.Access = []string{"udp://" + loopback() + ":0"}
		cfg.Registrar = true
		cfg.Users = []Credential{{AoR: "sip:user@example.com", Password: "secret"}}
		cfg.Limits.SourceRate, cfg.Limits.SourceBurst = 10_000, 10_000
	})
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			raw, err := os.ReadFile("testdata/torture/" + row.name + ".dat")
			if err != nil {
				t.Fatal(err)
			}
			// several messages have one branch: here each is a transaction of its own
			text := strings.Replace(string(raw), "z9hG4bKkdjuw", "z9hG4bKkdjuw"+row.name, 1)
			b.torture(t, b.udp(0), text, row.core)
			b.torture(t, b.udp(1), text, row.access)
		})
	}
	if n := b.s.Stats()["panics"]; n != 0 {
		t.Errorf("%d handlers panicked", n)
	}
}

// torture expects a status code, or "drop NAME": silence, counted under that name.
func (b *regBed) torture(t *testing.T, to netip.AddrPort, raw, want string) {
	t.Helper()
	counter, silent := strings.CutPrefix(want, "drop ")
	before := b.s.Stats()[counter]
	b.core.send(to, raw)
	if silent {
		until(t, counter, func() bool { return b.s.Stats()[counter] > before })
		return
	}
	code, err := strconv.Atoi(want)
	if err != nil {
		t.Fatalf("table: %q", want)
	}
	deadline := time.After(patience)
	for {
		select {
		case r := <-b.core.res:
			if !strings.Contains(raw, headerText(r, "Call-ID")) || r.Source() != to.String() {
				continue // a refused INVITE is answered until it is acknowledged
			}
			if r.StatusCode != code {
				t.Errorf("to %s: answered %d %s, want %d", to, r.StatusCode, r.Reason, code)
			}
		case <-deadline:
			t.Errorf("to %s: no answer, want %d; %v", to, code, b.s.Stats())
		}
		return
	}
}

type tortureRow struct{ name, core, access string }

// tortureTable reads the table in the documentation.
func tortureTable(t *testing.T) []tortureRow {
	t.Helper()
	f, err := os.Open("../docs/sip-torture.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows []tortureRow
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		cells := strings.Split(sc.Text(), "|")
		if len(cells) < 6 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		trim := func(i int) string { return strings.Trim(strings.TrimSpace(cells[i]), "`") }
		rows = append(rows, tortureRow{name: trim(1), core: trim(3), access: trim(4)})
	}
	return rows
}
