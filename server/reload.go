package server

// reload.go keeps what handshakes need as new as its files, and tickets' keys
// young. All that replaces s.live holds s.changing.

import (
	"context"
	"time"
)

// lookEvery is how often the files of certificates are looked at.
const lookEvery = 2 * time.Second

// keepTLS reads certificates again whose files changed, renews the development
// certificate of a node that runs for longer than it is good for, warns of what
// ends soon, and rotates the keys of session tickets.
func (s *Server) keepTLS(ctx context.Context) {
	look, hour, day := time.NewTicker(lookEvery), time.NewTicker(time.Hour), time.NewTicker(24*time.Hour)
	rotate := time.NewTicker(ticketRotation)
	defer look.Stop()
	defer hour.Stop()
	defer day.Stop()
	defer rotate.Stop()
	seen := make(map[Certificate]string)
	s.warnOfExpiry()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			s.lookAtCertificates(seen)
		case <-hour.C:
			s.renewDevelopment()
		case <-day.C:
			s.warnOfExpiry()
		case <-rotate.C:
			s.rotateTickets()
		}
	}
}

func (s *Server) warnOfExpiry() {
	if set := s.live.Load().certificates; set != nil {
		set.warnOfExpiry(time.Now(), s.log)
	}
}

func (s *Server) renewDevelopment() {
	s.changing.Lock()
	defer s.changing.Unlock()
	now := s.live.Load()
	if now.certificates == nil || !now.certificates.development {
		return
	}
	renewed, err := loadCertificates(now.config, s.log)
	if err != nil {
		s.log.Error("cannot renew the development certificate", "error", err)
		return
	}
	next := *now
	next.certificates = renewed
	s.live.Store(&next)
}

// lookAtCertificates reads again what changed and has rested since the last look:
// chain and key are two files, and replaced one after the other. seen is what the
// last look saw of those that changed; it has at most one entry a certificate.
// What cannot be read leaves the certificate before in force.
func (s *Server) lookAtCertificates(seen map[Certificate]string) {
	s.changing.Lock()
	defer s.changing.Unlock()
	now := s.live.Load()
	if now.certificates == nil || now.certificates.development {
		clear(seen)
		return
	}
	pairs := append([]pair(nil), now.certificates.pairs...)
	changed := false
	configured := make(map[Certificate]bool, len(pairs))
	for i := range pairs {
		files := pairs[i].files
		configured[files] = true
		stamp := files.stamp()
		if stamp == pairs[i].stamp {
			delete(seen, files)
			continue
		}
		if seen[files] != stamp {
			seen[files] = stamp
			continue
		}
		delete(seen, files)
		loaded, err := loadFiles(files)
		if err != nil {
			s.stats.TLS.ReloadsFailed.Add(1)
			s.log.Error("a certificate changed and cannot be read: the one before stays in force", "file", files.Cert, "error", err)
			pairs[i].stamp = stamp // not again before it changes again
		} else {
			s.stats.TLS.Reloaded.Add(1)
			s.log.Info("certificate read again", "file", files.Cert, "names", loaded.certificate.Leaf.DNSNames, "until", loaded.certificate.Leaf.NotAfter)
			pairs[i] = loaded
		}
		changed = true
	}
	for files := range seen {
		if !configured[files] {
			delete(seen, files)
		}
	}
	if changed {
		s.replacePairs(now, pairs)
	}
}

func (s *Server) replacePairs(now *live, pairs []pair) {
	set, err := newCertificates(pairs, now.config.TLS.Unknown)
	if err != nil {
		// The new one lacks the name that the unknown are shown: theirs stays.
		s.log.Error("certificates changed", "error", err)
		set, _ = newCertificates(pairs, unknownRefuse)
		set.unknown = now.certificates.unknown
	}
	next := *now
	next.certificates = set
	s.live.Store(&next)
}
