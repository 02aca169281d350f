package admin

// How often one address may fail to show a token.

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// failuresBurst failures at once are borne from one address, then one every
	// failuresEvery; meanwhile all requests from it are refused unseen.
	failuresBurst = 10
	failuresEvery = time.Second
	// failuresMax addresses are told apart; when all are in use the rest share one place.
	failuresMax = 4096
)

// failures remembers for each address the instant at which its failures are
// forgiven (a leaky bucket in one number). Loopback counts as any other address:
// a script with an old token slows those on the same machine, and says so in the
// counters.
type failures struct {
	mu       sync.Mutex
	forgiven map[netip.Addr]time.Time
}

// blocked returns how long addr is refused, 0 if it is not.
func (f *failures) blocked(addr netip.Addr, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok := f.forgiven[group(addr)]
	if !ok && len(f.forgiven) >= failuresMax {
		at = f.forgiven[netip.Addr{}]
	}
	if debt := at.Sub(now); debt > (failuresBurst-1)*failuresEvery {
		return debt - (failuresBurst-1)*failuresEvery
	}
	return 0
}

// add counts a failure. full tells that addr had to share the common place.
func (f *failures) add(addr netip.Addr, now time.Time) (full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.forgiven == nil {
		f.forgiven = make(map[netip.Addr]time.Time)
	}
	key := group(addr)
	if _, ok := f.forgiven[key]; !ok && len(f.forgiven) >= failuresMax {
		for k, at := range f.forgiven {
			if !at.After(now) {
				delete(f.forgiven, k)
			}
		}
		if full = len(f.forgiven) >= failuresMax; full {
			key = netip.Addr{}
		}
	}
	at := f.forgiven[key]
	if at.Before(now) {
		at = now
	}
	f.forgiven[key] = at.Add(failuresEvery)
	return full
}

// group counts the addresses of one IPv6 network as one: a host has a /64 to
// choose from.
func group(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() && !addr.IsLoopback() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}
