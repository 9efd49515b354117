package sip

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"scas/session"
)

func TestNames(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	u := newUser("sip:a@b")
	mk := func(key, agent string, age int) session.Binding {
		return session.Binding{Key: key, UserAgent: &agent, Since: now.Add(-time.Duration(age) * time.Minute)}
	}
	all := []session.Binding{
		mk("1", "lab-tv/1.0", 1), mk("2", "Linphonec/5.1.65", 2), mk("3", "SmartTV 3", 3), mk("4", "baresip v1.0.0 (x86_64/linux)", 4),
		mk("5", "Linphone Android/5.0", 5),
	}
	all[1].Instance = session.Ptr("urn:uuid:2")
	twin := mk("2b", "Linphonec/5.1.65", 0)
	twin.Instance = session.Ptr("URN:uuid:2")
	check := func(bs []session.Binding, want string) {
		t.Helper()
		got := ""
		for _, b := range u.named(bs) {
			got += b.Key + ":" + b.Name + " "
		}
		if got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	check(append(all, twin), "5:phone 4:pc 3:tv 2:t1 1:tv2 ")
	check([]session.Binding{all[0]}, "1:tv2 ") // a name stays while its terminal does
	if !u.rename(all[0], "salon", u.named(all)) || u.rename(all[1], "pc", u.named(all)) {
		t.Fatal("rename")
	}
	check(all[:2], "2:t1 1:salon ")
	static := session.Binding{Key: "s", Source: session.FromStatic, Name: "kitchen"}
	check([]session.Binding{static}, "s:kitchen ")
}

func TestSettingsAreBounded(t *testing.T) {
	u := newUser("sip:a@b")
	for i := range 3 * maxTerminals {
		u.wrote(session.Binding{Key: fmt.Sprint(i)}, formMachine)
		u.rename(session.Binding{Key: fmt.Sprint(i)}, "n"+fmt.Sprint(i), nil)
	}
	if len(u.settings.Forms) > maxTerminals || len(u.settings.Names) > maxTerminals {
		t.Errorf("%d forms, %d names", len(u.settings.Forms), len(u.settings.Names))
	}
}

func TestNumbers(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	n := newNumbers()
	if a, b := n.give("s a", now), n.give("o b", now); a != "1" || b != "2" || n.give("s a", now) != "1" {
		t.Fatal("not the next, or not the same")
	}
	if n.meant("01") != "s a" || n.meant("3") != "" || n.meant("") != "" {
		t.Error("meant")
	}
	n.next = lastNumber
	if got := n.give("s c", now); got != strconv.Itoa(lastNumber) {
		t.Error(got)
	}
	if got := n.give("s d", now); got != "3" { // 1 and 2 still rest
		t.Errorf("over the end: %s", got)
	}
	later := now.Add(numberRest + time.Second)
	n.give("s d", later)
	n.next = 1
	if got := n.give("s e", later); got != "1" || n.meant("1") != "s e" {
		t.Errorf("after the rest: %s", got)
	}
	u := newUser("sip:a@b")
	u.restore(session.User{}, now)
	if u.numbers.next%100 != 1 {
		t.Errorf("after a restart: %d", u.numbers.next)
	}
}

func TestBucketAndMemory(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var b bucket
	taken := 0
	for i := range 100 {
		if b.take(5, 10*time.Second, now.Add(time.Duration(i)*time.Second)) {
			taken++
		}
	}
	if taken < 53 || taken > 55 { // 5 at once, then one in 2 s
		t.Errorf("%d taken", taken)
	}
	m := newMemory[int](time.Minute)
	for i := range 2 * maxRecent {
		m.put(fmt.Sprint(i), i, now.Add(time.Duration(i)*time.Millisecond))
	}
	if len(m.items) != maxRecent || m.get("0", now) != nil || *m.get("127", now) != 127 {
		t.Errorf("%d kept", len(m.items))
	}
	if m.get("127", now.Add(2*time.Minute)) != nil {
		t.Error("not forgotten")
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"News":                    "News",
		"a\r\nrtsp://evil/":       "artsp://evil/",
		"\u202egnp.exe\u2066\x7f": "gnp.exe",
		"a\u2028b\u2029c\x00":     "abc",
		"\xff\xfeé":               "é",
	} {
		if got := clean(in, maxTitle); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	for u, want := range map[string]string{
		"rtsp://h/films/News.mp4":    "News",
		"rtsp://h/a%0d%0aSay:%20yes": "aSay: yes",
		"rtsp://h:8554/":             "h",
		"rtsp://h":                   "h",
		"rtsp://h/.hidden":           ".hidden",
		"rtsp://h/film?title=x":      "film",
		"rtsp://h/%zz":               "film",
		"rtsp://h/0123456789012345678901234567890123456789xyz": "0123456789012345678901234567890123456789",
	} {
		if got := titleOf(session.Record{URL: &u}); got != want {
			t.Errorf("%s: %q, want %q", u, got, want)
		}
	}
	for _, bad := range []string{"", "rtsp://a b", "rtsp://a\nb", "rtsp://a\xff", "rtsp://a\x7f"} {
		if offerable(bad) {
			t.Errorf("%q may stand alone", bad)
		}
	}
}
