package peers

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"scas/internal/lab"
)

// mmsDepth is one player, and how much of a film it has when it begins to run.
type mmsDepth struct {
	kind        Kind
	scheme      string
	least, most float64 // s; what docs/mms.md says, and what a busy machine adds

	runs  float64 // s: the delay of the clock on the screen, from the first packet on
	ahead float64 // s: the newest picture delivered minus the one on the screen
	err   error
}

// A server that sends nothing ahead shows how much of a film a player waits for before it runs.
func TestMMSDepth(t *testing.T) {
	need(t, "ffmpeg")
	film, err := ASFMedia(t.Context(), CacheDir(), 30)
	if err != nil {
		t.Fatal(err)
	}
	server, err := lab.ServeMMS(lab.MMSConfig{ASF: readASF(t, film), Lead: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	var all []*mmsDepth
	for _, scheme := range []string{"mmst", "mmsh"} {
		all = append(all, &mmsDepth{kind: VLC, scheme: scheme, least: 4, most: 5.3},
			&mmsDepth{kind: MPlayer, scheme: scheme, least: 0.5, most: 3.2},
			&mmsDepth{kind: FFplay, scheme: scheme, least: 1.4, most: 2.6})
	}
	var wg sync.WaitGroup
	for _, d := range all {
		need(t, d.kind.MMSPrograms()...)
		wg.Go(func() { d.err = d.measure(t.Context(), server, t.TempDir()) })
	}
	wg.Wait()
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %-5s %8s %8s\n", "player", "over", "runs s", "ahead s")
	for _, d := range all {
		fmt.Fprintf(&b, "%-8s %-5s %8.2f %8.2f\n", d.kind, d.scheme, d.runs, d.ahead)
		if d.err != nil || d.runs < d.least || d.runs > d.most {
			t.Errorf("%s-%s runs after %.2f s, want %.1f to %.1f: %v", d.kind, d.scheme, d.runs, d.least, d.most, d.err)
		}
	}
	t.Logf("\n%s", b.String())
}

func (d *mmsDepth) measure(ctx context.Context, server *lab.MMSServer, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, startup+20*time.Second)
	defer cancel()
	name := fmt.Sprintf("%s-%s.asf", d.kind, d.scheme) // tells whose session it is
	p, err := StartMMSPlayer(ctx, PlayerConfig{Kind: d.kind, URL: server.URL(d.scheme, name), Log: filepath.Join(dir, "log")})
	if err != nil {
		return err
	}
	defer p.Close()
	shown, err := p.WaitPicture(ctx, 6*Rate) // VLC stands still once, in the first second
	if err != nil {
		return err
	}
	for _, x := range server.Sessions() {
		if !strings.HasSuffix(x.URL, name) || !x.Playing {
			continue
		}
		d.runs = shown.At.Sub(x.Log[0].At).Seconds() - shown.Pos
		for _, packet := range x.Log {
			if !packet.At.After(shown.At) {
				d.ahead = packet.NPT.Seconds() - shown.Pos
			}
		}
		return nil
	}
	return fmt.Errorf("the server has no session of %s", name)
}
