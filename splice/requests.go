package splice

import "sync"

// maxRequests bounds the requests of one connection whose reply has not come. No player
// pipelines more than a few.
const maxRequests = 64

// request is one that the server has to answer.
type request struct {
	cseq    int
	method  string
	refusal bool     // a refusal of it is a refusal of the transfer
	attempt int      // of a start request: its number, else 0
	hold    bool     // the reply waits for the first packets
	own     chan int // ours: the reply is swallowed and its status sent here
}

// requests are the requests under way on one connection. Safe for concurrent use.
type requests struct {
	mu     sync.Mutex // guards what follows
	list   []request
	newest int // highest CSeq so far
	looked int // requests whose reply has to be looked at before it goes on
}

// add notes a request that is about to be sent. When there are too many the oldest is
// forgotten.
func (q *requests) add(r request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) >= maxRequests {
		q.remove(0)
	}
	q.list = append(q.list, r)
	if r.looked() {
		q.looked++
	}
	if r.own == nil {
		q.newest = max(q.newest, r.cseq)
	}
}

func (r request) looked() bool { return r.attempt > 0 || r.own != nil }

func (q *requests) remove(i int) {
	if q.list[i].looked() {
		q.looked--
	}
	q.list = append(q.list[:i], q.list[i+1:]...)
}

// take returns the request that a reply with this CSeq answers and forgets it.
func (q *requests) take(cseq int) (request, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, r := range q.list {
		if r.cseq == cseq {
			q.remove(i)
			return r, true
		}
	}
	return request{}, false
}

// lookAt reports whether a reply under way has to be looked at before it goes on.
func (q *requests) lookAt() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.looked > 0
}

// waitFor reports whether a request of the terminal with this method waits for its reply.
func (q *requests) waitFor(method string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range q.list {
		if r.method == method && r.own == nil {
			return true
		}
	}
	return false
}

// ownCSeq returns a CSeq that the terminal will not use in the lifetime of a TEARDOWN.
func (q *requests) ownCSeq() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.newest + 1000
}
