package session

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// Change is one write to a Table: exactly one field is set.
type Change struct {
	Record   *Record
	Transfer *Transfer
}

// watchBuffer is how many changes a slow watcher may lag behind before it is cut off.
const watchBuffer = 1024

// Table holds the records and transfers of one gateway in memory. Safe for concurrent use.
// Ended records are kept until Forget is called; their number is bounded by the caller.
type Table struct {
	mu        sync.RWMutex
	records   map[string]Record
	transfers map[string]Transfer
	watchers  map[chan Change]struct{}
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{
		records:   map[string]Record{},
		transfers: map[string]Transfer{},
		watchers:  map[chan Change]struct{}{},
	}
}

// Get returns the record with the given id.
func (t *Table) Get(id string) (Record, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	r, ok := t.records[id]
	return r.Clone(), ok
}

// List returns all records, the oldest first.
func (t *Table) List() []Record {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]Record, 0, len(t.records))
	for _, r := range t.records {
		out = append(out, r.Clone())
	}
	slices.SortFunc(out, func(a, b Record) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Put stores r and tells the watchers.
func (t *Table) Put(r Record) {
	told := r.Clone()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records[r.ID] = r.Clone()
	t.tell(Change{Record: &told})
}

// Forget removes a record. Watchers are not told: they saw it end.
func (t *Table) Forget(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.records, id)
}

// Transfer returns the transfer with the given id.
func (t *Table) Transfer(id string) (Transfer, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	x, ok := t.transfers[id]
	return x, ok
}

// Transfers returns all transfers, the oldest first.
func (t *Table) Transfers() []Transfer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]Transfer, 0, len(t.transfers))
	for _, x := range t.transfers {
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b Transfer) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// PutTransfer stores x and tells the watchers.
func (t *Table) PutTransfer(x Transfer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.transfers[x.ID] = x
	t.tell(Change{Transfer: &x})
}

// ForgetTransfer removes a transfer.
func (t *Table) ForgetTransfer(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.transfers, id)
}

// Watch returns every change from now on, in order; what it carries is shared by all
// watchers and must not be changed. The channel is closed when ctx ends, and
// also when the reader lags more than 1024 changes behind: a watcher that was cut off must
// read the table again.
func (t *Table) Watch(ctx context.Context) <-chan Change {
	ch := make(chan Change, watchBuffer)
	t.mu.Lock()
	t.watchers[ch] = struct{}{}
	t.mu.Unlock()
	context.AfterFunc(ctx, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.drop(ch)
	})
	return ch
}

func (t *Table) tell(c Change) {
	for ch := range t.watchers {
		select {
		case ch <- c:
		default:
			t.drop(ch)
		}
	}
}

func (t *Table) drop(ch chan Change) {
	if _, ok := t.watchers[ch]; ok {
		delete(t.watchers, ch)
		close(ch)
	}
}
