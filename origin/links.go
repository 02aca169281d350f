package origin

// links.go keeps a sender for each endpoint, for as long as connections are made in
// the same way.

import "sync"

// Its lock may be held while the pool's is taken; the pool calls drop without one.
type links struct {
	up *upstream // the first of those that share them

	mu      sync.Mutex
	senders map[string]sender // by address; nil once they are retired
}

// to returns the sender to an endpoint.
func (l *links) to(address string) sender {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.senders[address]
	if !ok {
		s = newSender(l.up, address)
		// A request may have been sent here just before we were retired, or the
		// address left the pool: nobody would retire the sender later.
		if l.senders == nil || !l.up.pool.Has(address) {
			s.retire()
		} else {
			l.senders[address] = s
		}
	}
	return s
}

// drop retires the sender to what is no endpoint any more.
func (l *links) drop(address string) {
	l.mu.Lock()
	s, ok := l.senders[address]
	delete(l.senders, address)
	l.mu.Unlock()
	if ok {
		s.retire()
	}
}

// retire closes connections as they become idle.
func (l *links) retire() {
	l.mu.Lock()
	senders := l.senders
	l.senders = nil
	l.mu.Unlock()
	for _, s := range senders {
		s.retire()
	}
}
