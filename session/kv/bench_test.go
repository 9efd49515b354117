package kv

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"scas/session"
)

// BenchmarkWrite is one acknowledged write of a known key, alone: what an order waits for.
func BenchmarkWrite(b *testing.B) {
	for _, kind := range []string{"embedded", "external", "cluster"} {
		b.Run(kind, func(b *testing.B) {
			s := benchStore(b, kind)
			x := binding(1)
			took := make([]time.Duration, 0, b.N)
			for b.Loop() {
				began := time.Now()
				x.CSeq++
				y := x
				if err := write(context.Background(), s, at(bindingsBucket, x.Key), func(*session.Binding) *session.Binding { return &y }); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
		})
	}
}

// BenchmarkRegistrations is the throughput of 20 000 bindings put, refreshed, and on the disk.
func BenchmarkRegistrations(b *testing.B) {
	for _, kind := range []string{"embedded", "external", "cluster"} {
		b.Run(kind, func(b *testing.B) {
			s := benchStore(b, kind)
			const users = 20000
			round := uint32(0)
			for b.Loop() {
				round++
				for i := range users {
					x := binding(i)
					x.CSeq = round
					if err := s.PutBinding(context.Background(), x); err != nil {
						b.Fatal(err)
					}
				}
				flush(b, s)
			}
			b.ReportMetric(float64(users)*float64(b.N)/b.Elapsed().Seconds(), "bindings/s")
			b.ReportMetric(float64(heap())/1e6, "heap-MB")
		})
	}
}

// BenchmarkIdleHeap is what an open store holds that nobody uses.
func BenchmarkIdleHeap(b *testing.B) {
	before := heap()
	s := benchStore(b, "embedded")
	for b.Loop() {
		b.ReportMetric(float64(heap()-before)/1e6, "heap-MB")
	}
	runtime.KeepAlive(s)
}

// BenchmarkLog reads 10 000 entries of history.
func BenchmarkLog(b *testing.B) {
	s := benchStore(b, "embedded")
	r := record("s1")
	for i := range 10000 {
		if err := s.AppendLog(fmt.Sprint(i), Entry{At: time.Now(), Event: Played, Gateway: "gw1", AoR: r.AoR, Session: &r}); err != nil {
			b.Fatal(err)
		}
	}
	flush(b, s)
	for b.Loop() {
		if all, err := s.Log(context.Background(), Filter{}); err != nil || len(all) != 10000 {
			b.Fatal(len(all), err)
		}
	}
}

func benchStore(b *testing.B, kind string) *Store {
	switch kind {
	case "embedded":
		return embeddedStore(b, b.TempDir())
	case "external":
		return member(b, "gw1", startServer(b).url())
	}
	nodes := startCluster(b, false)
	return member(b, "gw1", nodes[0].url(), nodes[1].url(), nodes[2].url())
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
