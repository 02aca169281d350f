package server

// certificates.go decides which certificate a client is shown.

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// expiryWarning is how long before its end the log begins to speak of a
// certificate that is not renewed by us.
const expiryWarning = 14 * 24 * time.Hour

// pair is a certificate and where it came from.
type pair struct {
	files       Certificate
	stamp       string // of the files when they were read
	certificate *tls.Certificate
}

// certificates is an immutable set, chosen from by name.
type certificates struct {
	pairs  []pair
	byName map[string][]*tls.Certificate // in order of the configuration; "*.example.com" for wildcards
	// unknown is for clients that ask for a name that is in none; nil: they are refused.
	unknown *tls.Certificate
	// development: nothing is configured, and we sign for loopback ourselves.
	development bool
}

// loadCertificates reads the configured pairs, or makes one for development.
func loadCertificates(config Config, log *slog.Logger) (*certificates, error) {
	if len(config.TLS.Certificates) == 0 && len(config.TLS.ACME.Names) == 0 {
		return developmentSet(config, log)
	}
	var pairs []pair
	var problems []error
	for i, files := range config.TLS.Certificates {
		p, err := loadFiles(files)
		if err != nil {
			problems = append(problems, fmt.Errorf("server: tls.certificates[%d]: %w", i, err))
			continue
		}
		pairs = append(pairs, p)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return newCertificates(pairs, config.TLS.Unknown)
}

func developmentSet(config Config, log *slog.Logger) (*certificates, error) {
	if config.Data == "" {
		return nil, errors.New("server: tls.certificates is empty and there is no data directory to keep a development certificate in: configure one of them")
	}
	made, isNew, err := developmentCertificate(filepath.Join(config.Data, "tls"), time.Now())
	if err != nil {
		return nil, fmt.Errorf("server: development certificate: %w", err)
	}
	if isNew {
		log.Info("made a development certificate, good for loopback only",
			"ca", DevelopmentCA(config.Data), "names", made.Leaf.DNSNames, "until", made.Leaf.NotAfter)
	}
	set, err := newCertificates([]pair{{certificate: made}}, config.TLS.Unknown)
	if err == nil {
		set.development = true
	}
	return set, err
}

func loadFiles(files Certificate) (pair, error) {
	p := pair{files: files, stamp: files.stamp()} // before the content: what changes meanwhile is seen later
	loaded, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	p.certificate = &loaded
	return p, err
}

// stamp tells versions of the files apart. It follows links, as container
// platforms replace files by moving those.
func (c Certificate) stamp() string {
	var b strings.Builder
	for _, path := range []string{c.Cert, c.Key} {
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprint(&b, "missing ")
			continue
		}
		inode := uint64(0)
		if system, ok := info.Sys().(*syscall.Stat_t); ok {
			inode = system.Ino
		}
		fmt.Fprint(&b, info.Size(), info.ModTime().UnixNano(), inode, " ")
	}
	return b.String()
}

// newCertificates indexes pairs. unknown is as configured in TLS.Unknown.
func newCertificates(pairs []pair, unknown string) (*certificates, error) {
	s := &certificates{pairs: pairs, byName: map[string][]*tls.Certificate{}}
	for _, p := range pairs {
		for _, name := range p.certificate.Leaf.DNSNames {
			name = strings.ToLower(name)
			s.byName[name] = append(s.byName[name], p.certificate)
		}
		for _, address := range p.certificate.Leaf.IPAddresses {
			s.byName[address.String()] = append(s.byName[address.String()], p.certificate)
		}
	}
	switch unknown {
	case "", unknownFirst:
		if len(pairs) > 0 {
			s.unknown = pairs[0].certificate
		}
	case unknownRefuse:
	default:
		named := s.named(strings.ToLower(unknown))
		if len(named) == 0 {
			return nil, fmt.Errorf("server: tls.unknown: no certificate is good for %q: add one under tls.certificates, or write first or refuse", unknown)
		}
		s.unknown = named[0]
	}
	return s, nil
}

// named returns the certificates for a name in lower case, exact before wildcard.
func (s *certificates) named(name string) []*tls.Certificate {
	exact := s.byName[name]
	_, parent, ok := strings.Cut(name, ".")
	if !ok {
		return exact
	}
	wild := s.byName["*."+parent]
	if len(exact) == 0 {
		return wild
	}
	return append(slices.Clip(exact), wild...)
}

// choose picks by the name that the client asks for, or, where it names none, by
// the address that it came to: exact before wildcard, and among several the first
// whose key and signature the client can use and that has not expired. nil
// ends the handshake with the alert unrecognized_name (RFC 6066 3).
func (s *certificates) choose(hello *tls.ClientHelloInfo, managed *acmeClient) (chosen *tls.Certificate, known bool) {
	candidates := append(slices.Clip(s.candidates(hello)), managed.certificates(serverName(hello.ServerName))...)
	if len(candidates) == 0 {
		return s.unknown, false
	}
	var usable *tls.Certificate
	now := time.Now()
	for _, c := range candidates {
		if hello.SupportsCertificate(c) != nil {
			continue
		}
		if now.Before(c.Leaf.NotAfter) {
			return c, true
		}
		usable = cmp.Or(usable, c)
	}
	return cmp.Or(usable, candidates[0]), true // crypto/tls says best why the first does not fit
}

func (s *certificates) candidates(hello *tls.ClientHelloInfo) []*tls.Certificate {
	if name := serverName(hello.ServerName); name != "" {
		return s.named(name)
	}
	if hello.Conn == nil {
		return nil
	}
	host, _, err := net.SplitHostPort(hello.Conn.LocalAddr().String())
	if err != nil {
		return nil // no address: a socket of another kind
	}
	return s.byName[host]
}

// serverName returns the name in a ClientHello in the form in which names are compared.
func serverName(sent string) string { return strings.TrimSuffix(strings.ToLower(sent), ".") }

// CertificateStatus is what operators want to know of a certificate.
type CertificateStatus struct {
	// Name is the first in it, Key is ecdsa, rsa or other. No two have both in common.
	Name, Key string
	// NotAfter is its end.
	NotAfter time.Time
}

// Certificates tells of all that clients may be shown: of those with the same
// name and kind of key the one that ends first.
func (s *Server) Certificates() []CertificateStatus {
	set := s.live.Load().certificates
	if set == nil {
		return nil
	}
	var all []CertificateStatus
	for _, name := range s.live.Load().config.TLS.ACME.Names {
		for _, c := range s.acme.Load().certificates(name) {
			all = append(all, statusOf(c))
		}
	}
	for _, p := range set.pairs {
		all = append(all, statusOf(p.certificate))
	}
	return earliest(all)
}

func statusOf(c *tls.Certificate) CertificateStatus {
	name := c.Leaf.Subject.CommonName
	if len(c.Leaf.DNSNames) > 0 {
		name = c.Leaf.DNSNames[0]
	} else if len(c.Leaf.IPAddresses) > 0 {
		name = c.Leaf.IPAddresses[0].String()
	}
	key := "other"
	switch c.Leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		key = "ecdsa"
	case *rsa.PublicKey:
		key = "rsa"
	}
	return CertificateStatus{strings.ToLower(name), key, c.Leaf.NotAfter}
}

// earliest leaves one for each name and key.
func earliest(all []CertificateStatus) []CertificateStatus {
	slices.SortFunc(all, func(a, b CertificateStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key), a.NotAfter.Compare(b.NotAfter))
	})
	return slices.CompactFunc(all, func(a, b CertificateStatus) bool { return a.Name == b.Name && a.Key == b.Key })
}

// warnOfExpiry logs what ends soon and is not renewed by us.
func (s *certificates) warnOfExpiry(now time.Time, log *slog.Logger) {
	if s.development {
		return
	}
	for _, p := range s.pairs {
		leaf := p.certificate.Leaf
		switch left := leaf.NotAfter.Sub(now); {
		case left <= 0:
			log.Error("a certificate has expired: clients refuse it; put a new one in its place", "file", p.files.Cert, "names", leaf.DNSNames, "until", leaf.NotAfter)
		case left < expiryWarning:
			log.Warn("a certificate ends soon: put a new one in its place", "file", p.files.Cert, "names", leaf.DNSNames, "until", leaf.NotAfter, "days", int(left.Hours()/24))
		}
	}
}
