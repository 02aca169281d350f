package server

// tickets.go keeps the keys that session tickets are sealed with (RFC 8446 4.6.1,
// RFC 5077): in memory only, so that who takes a disk reads no recorded traffic,
// and for hours, so that who takes the memory reads little of it. TCP and QUIC
// share them.

import (
	"crypto/rand"
	"slices"
	"time"
)

const (
	// ticketRotation is how often a new key seals; ticketKeys are kept, so that a
	// ticket opens for one to two rotations more than it was sealed for.
	ticketRotation = 12 * time.Hour
	ticketKeys     = 3
)

func newTicketKey() (key [32]byte) {
	_, _ = rand.Read(key[:]) // never fails
	return key
}

// rotateTickets seals with a new key from now on. It does nothing once the keys
// come from outside.
func (s *Server) rotateTickets() {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.ticketsShared {
		return
	}
	keys := slices.Insert(slices.Clone(s.tickets), 0, newTicketKey())
	s.tickets = keys[:min(len(keys), ticketKeys)]
	s.live.Load().ways.setTicketKeys(s.tickets)
}

// SetTicketKeys puts keys of session tickets in force that others have too, so
// that a client resumes at any of them: the first seals, all open. From then on
// the server makes none itself. keys must not be empty, nor be kept anywhere that
// outlives their use.
func (s *Server) SetTicketKeys(keys [][32]byte) {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.tickets, s.ticketsShared = slices.Clone(keys), true
	s.live.Load().ways.setTicketKeys(s.tickets)
}

func (h handshakes) setTicketKeys(keys [][32]byte) {
	for _, w := range h {
		w.tcp.SetSessionTicketKeys(keys)
		w.quic.SetSessionTicketKeys(keys)
	}
}
