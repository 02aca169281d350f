package server

// certificates.go decides which certificate a client is shown.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"
)

// certificates is an immutable set, chosen from by name.
type certificates struct {
	byName map[string][]*tls.Certificate // in order of the configuration; "*.example.com" for wildcards
	first  *tls.Certificate
	// development: nothing is configured, and we sign for loopback ourselves.
	development bool
}

// loadCertificates reads the configured pairs, or makes one for development.
func loadCertificates(config Config, log *slog.Logger) (*certificates, error) {
	set := &certificates{byName: map[string][]*tls.Certificate{}}
	if len(config.TLS.Certificates) == 0 {
		if config.Data == "" {
			return nil, errors.New("server: tls.certificates is empty and there is no data directory to keep a development certificate in: configure one of them")
		}
		pair, made, err := developmentCertificate(filepath.Join(config.Data, "tls"), time.Now())
		if err != nil {
			return nil, fmt.Errorf("server: development certificate: %w", err)
		}
		if made {
			log.Info("made a development certificate, good for loopback only",
				"ca", DevelopmentCA(config.Data), "names", pair.Leaf.DNSNames, "until", pair.Leaf.NotAfter)
		}
		set.development = true
		set.add(pair)
		return set, nil
	}
	var problems []error
	for i, c := range config.TLS.Certificates {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			problems = append(problems, fmt.Errorf("server: tls.certificates[%d]: %w", i, err))
			continue
		}
		if now := time.Now(); now.After(pair.Leaf.NotAfter) {
			log.Warn("certificate has expired", "file", c.Cert, "names", pair.Leaf.DNSNames, "until", pair.Leaf.NotAfter)
		}
		set.add(&pair)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return set, nil
}

func (s *certificates) add(pair *tls.Certificate) {
	if s.first == nil {
		s.first = pair
	}
	for _, name := range pair.Leaf.DNSNames {
		name = strings.ToLower(name)
		s.byName[name] = append(s.byName[name], pair)
	}
	for _, address := range pair.Leaf.IPAddresses {
		s.byName[address.String()] = append(s.byName[address.String()], pair)
	}
}

// choose picks by the name that the client asks for: exact before wildcard, and
// among several the first whose key and signature the client can use. Clients
// that name nothing known get the first of all.
func (s *certificates) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.TrimSuffix(strings.ToLower(hello.ServerName), ".")
	candidates := s.byName[name]
	if len(candidates) == 0 {
		if _, parent, ok := strings.Cut(name, "."); ok {
			candidates = s.byName["*."+parent]
		}
	}
	for _, pair := range candidates {
		if hello.SupportsCertificate(pair) == nil {
			return pair, nil
		}
	}
	if len(candidates) > 0 {
		return candidates[0], nil // crypto/tls says best why it does not fit
	}
	return s.first, nil
}

// keepCertificates renews the development certificate of a node that runs for
// longer than it is good for.
func (s *Server) keepCertificates(ctx context.Context) {
	ticker := time.NewTicker(time.Hour)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := s.live.Load()
		if now.certificates == nil || !now.certificates.development {
			continue
		}
		renewed, err := loadCertificates(now.config, s.log)
		if err != nil {
			s.log.Error("cannot renew the development certificate", "error", err)
			continue
		}
		next := *now
		next.certificates = renewed
		s.live.CompareAndSwap(now, &next) // an Apply meanwhile has loaded its own
	}
}
