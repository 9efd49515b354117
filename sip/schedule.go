package sip

import (
	"container/heap"
	"time"
)

// schedule says when something is due, one time a key. Not safe for concurrent use.
type schedule struct {
	heap  dueHeap
	byKey map[string]*dueItem
}

type dueItem struct {
	key   string
	at    time.Time
	index int
}

func newSchedule() *schedule { return &schedule{byKey: map[string]*dueItem{}} }

// set makes key due at a time; an earlier or later one set before is forgotten.
func (s *schedule) set(key string, at time.Time) {
	if it, ok := s.byKey[key]; ok {
		it.at = at
		heap.Fix(&s.heap, it.index)
		return
	}
	it := &dueItem{key: key, at: at}
	s.byKey[key] = it
	heap.Push(&s.heap, it)
}

// sooner makes key due at a time unless it is due before that anyway.
func (s *schedule) sooner(key string, at time.Time) {
	if it, ok := s.byKey[key]; !ok || at.Before(it.at) {
		s.set(key, at)
	}
}

// drop forgets a key.
func (s *schedule) drop(key string) {
	if it, ok := s.byKey[key]; ok {
		heap.Remove(&s.heap, it.index)
		delete(s.byKey, key)
	}
}

// due takes out at most n keys that are due at now, the longest waiting first.
func (s *schedule) due(now time.Time, n int) []string {
	var out []string
	for len(s.heap) > 0 && len(out) < n && !s.heap[0].at.After(now) {
		it := s.heap[0]
		heap.Pop(&s.heap)
		delete(s.byKey, it.key)
		out = append(out, it.key)
	}
	return out
}

type dueHeap []*dueItem

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is for package heap.
func (h *dueHeap) Push(x any) {
	it, ok := x.(*dueItem)
	if !ok {
		return
	}
	it.index = len(*h)
	*h = append(*h, it)
}

// Pop is for package heap.
func (h *dueHeap) Pop() any {
	old := *h
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return it
}
