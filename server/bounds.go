package server

// bounds.go says how many connections and handshakes there may be: in all, from
// one address, from one network. Tables hold who is connected and nobody else, so
// that limits.connections bounds them too.

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"edgecdn/access"
	"edgecdn/server/gate"
)

// prefixShare is the part of all handshakes under way that one network may have.
const prefixShare = 4

type bounds struct {
	gate  *gate.Gate
	rates *access.Buckets // new handshakes, by network

	mu        sync.Mutex // guards what follows
	open      int
	shaking   int
	addresses map[netip.Addr]int
	networks  map[netip.Prefix]network
	shaken    time.Time // when as many new handshakes a second as may be will have been
	unproven  time.Time // the same of QUIC clients whose address is not proven
}

// network is what one has at a time.
type network struct{ open, shaking int }

func newBounds(g *gate.Gate) *bounds {
	return &bounds{gate: g, rates: access.NewBuckets(), addresses: map[netip.Addr]int{}, networks: map[netip.Prefix]network{}}
}

// pass is one connection's place within the bounds. Its methods are for one
// goroutine at a time, but for leave.
type pass struct {
	bounds  *bounds
	client  netip.Addr // invalid while unknown
	network netip.Prefix
	shaking bool // guarded by bounds.mu
	left    atomic.Bool
}

// enter takes a place; false where there is none.
func (b *bounds) enter() (*pass, bool) {
	limits := b.gate.Limits()
	b.mu.Lock()
	full := b.open >= limits.Connections
	if !full {
		b.open++
	}
	b.mu.Unlock()
	if full {
		return nil, b.refuse(gate.TooManyConnections)
	}
	return &pass{bounds: b}, true
}

func (b *bounds) refuse(why gate.Refusal) bool {
	b.gate.Stats().ConnectionsRefused[why].Add(1)
	return false
}

// identify counts the connection as the client's, where that has an address.
func (p *pass) identify(client netip.Addr) bool {
	if !client.IsValid() {
		return true // on a unix socket
	}
	b, limits := p.bounds, p.bounds.gate.Limits()
	network := networkOf(client, limits)
	b.mu.Lock()
	of := b.networks[network]
	many, manyOfPrefix := b.addresses[client] >= limits.ConnectionsPerAddress, of.open >= limits.ConnectionsPerPrefix
	if !many && !manyOfPrefix {
		b.addresses[client]++
		of.open++
		b.networks[network] = of
		p.client, p.network = client, network
	}
	b.mu.Unlock()
	switch {
	case many:
		return b.refuse(gate.TooManyOfAddress)
	case manyOfPrefix:
		return b.refuse(gate.TooManyOfPrefix)
	}
	return true
}

func networkOf(client netip.Addr, limits *gate.Limits) netip.Prefix {
	bits := limits.PrefixIPv6
	if client.Is4() {
		bits = limits.PrefixIPv4
	}
	prefix, _ := client.WithZone("").Prefix(bits) // fails for no address, of which there is one
	return prefix
}

// shake lets a handshake begin. proven is false where the client's address may
// be another's: then that is not to suffer.
func (p *pass) shake(proven bool) bool {
	b, limits, now := p.bounds, p.bounds.gate.Limits(), time.Now()
	if rate := limits.HandshakeRatePerPrefix; proven && p.network.IsValid() &&
		b.rates.Take(0, p.network, time.Second/time.Duration(rate), rate) > 0 {
		return b.refuse(gate.TooManyHandshakesPerSecondOfPrefix)
	}
	b.mu.Lock()
	of := b.networks[p.network]
	share := max(limits.Handshakes/prefixShare, 1)
	many := b.shaking >= limits.Handshakes || p.network.IsValid() && of.shaking >= share
	fast := !many && !spend(&b.shaken, now, limits.HandshakeRate)
	if !many && !fast {
		b.shaking++
		p.shaking = true
		if p.network.IsValid() {
			of.shaking++
			b.networks[p.network] = of
		}
	}
	b.mu.Unlock()
	switch {
	case many:
		return b.refuse(gate.TooManyHandshakes)
	case fast:
		return b.refuse(gate.TooManyHandshakesPerSecond)
	}
	b.gate.Stats().HandshakesBusy.Add(1)
	return true
}

// spend takes one of rate a second, of which a second's can be had at once.
func spend(until *time.Time, now time.Time, rate int) bool {
	from := *until
	if from.Before(now) {
		from = now
	}
	next := from.Add(time.Second / time.Duration(rate))
	if next.Sub(now) > time.Second {
		return false
	}
	*until = next
	return true
}

// shaken ends the handshake, however.
func (p *pass) shaken() {
	b := p.bounds
	b.mu.Lock()
	defer b.mu.Unlock()
	p.endShaking()
}

// endShaking is called with bounds.mu held.
func (p *pass) endShaking() {
	if !p.shaking {
		return
	}
	p.shaking = false
	p.bounds.shaking--
	if of, ok := p.bounds.networks[p.network]; ok {
		of.shaking--
		p.bounds.networks[p.network] = of
	}
	p.bounds.gate.Stats().HandshakesBusy.Add(-1)
}

// leave gives the place back. More than once is as good.
func (p *pass) leave() {
	if !p.left.CompareAndSwap(false, true) {
		return
	}
	b := p.bounds
	b.mu.Lock()
	defer b.mu.Unlock()
	p.endShaking()
	b.open--
	if !p.network.IsValid() {
		return
	}
	if b.addresses[p.client]--; b.addresses[p.client] <= 0 {
		delete(b.addresses, p.client)
	}
	of := b.networks[p.network]
	if of.open--; of.open <= 0 {
		delete(b.networks, p.network)
	} else {
		b.networks[p.network] = of
	}
}

// wantsProof says whether a QUIC client must prove its address (RFC 9000 8.1.2)
// before anything is kept for it: where half of a bound is used up, by whomever, so
// that those who can prove theirs get the other half.
func (b *bounds) wantsProof(client netip.Addr) bool {
	limits := b.gate.Limits()
	b.mu.Lock()
	defer b.mu.Unlock()
	of := b.networks[networkOf(client, limits)]
	return 2*b.open >= limits.Connections || 2*b.addresses[client] >= limits.ConnectionsPerAddress ||
		2*of.open >= limits.ConnectionsPerPrefix || 2*b.shaking >= limits.Handshakes ||
		2*of.shaking >= limits.Handshakes/prefixShare || !spend(&b.unproven, time.Now(), max(limits.HandshakeRate/2, 1))
}
