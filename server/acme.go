package server

// acme.go has certificates from an ACME authority (RFC 8555), by certmagic: it
// obtains, keeps, renews (by what the authority suggests, RFC 9773) and tries
// again. What is here starts it, shows its certificates, and answers its
// challenges on our own listeners.

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// ACME says which certificates are had from an authority by themselves.
type ACME struct {
	// Names to have a certificate for, each its own. They must lead here, on port
	// 80 (HTTP-01) or 443 (TLS-ALPN-01). Wildcards, such as "*.example.com", are
	// proven by TXT records (DNS-01), which the responders of the cluster or of this
	// node must answer: see dns. Default: none.
	Names []string `yaml:"names"`
	// Challenge by which all names are proven: dns, so that they need not lead here.
	// Default: dns for wildcards alone.
	Challenge string `yaml:"challenge"`
	// Email is where the authority writes when something is wrong. To name any
	// authority is to agree to its terms.
	Email string `yaml:"email"`
	// CA is the URL of the authority's directory.
	// Default https://acme-v02.api.letsencrypt.org/directory.
	CA string `yaml:"ca"`
	// CARoot is a PEM file of what the authority's own certificate must lead to.
	// Default: what the system trusts.
	CARoot string `yaml:"ca_root"`
}

const (
	acmeNamesMax  = 1000
	acmeDefaultCA = certmagic.LetsEncryptProductionCA
)

func (a *ACME) validate(report func(path, problem string)) {
	if len(a.Names) > acmeNamesMax {
		report("names", fmt.Sprintf("%d names are too many: at most %d", len(a.Names), acmeNamesMax))
		return
	}
	for i, name := range a.Names {
		path := fmt.Sprintf("names[%d]", i)
		_, addressErr := netip.ParseAddr(strings.Trim(name, "[]"))
		below := strings.TrimPrefix(name, "*.")
		switch {
		case strings.Contains(below, "*"):
			report(path, fmt.Sprintf("%q is no wildcard: write a star for the first label, such as *.example.com", name))
		case addressErr == nil || !certmagic.SubjectQualifiesForCert(below) || name != strings.ToLower(name) || !strings.Contains(below, "."):
			report(path, fmt.Sprintf("%q is no name that a certificate can be had for: write it in lower case, such as www.example.com", name))
		case slices.Index(a.Names, name) < i:
			report(path, fmt.Sprintf("%q is there twice: leave it out", name))
		}
	}
	if a.Challenge != "" && a.Challenge != challengeDNS {
		report("challenge", fmt.Sprintf("%q is no challenge to choose: write dns, or leave it out", a.Challenge))
	}
	if a.Email != "" && !strings.Contains(a.Email, "@") {
		report("email", fmt.Sprintf("%q is no address", a.Email))
	}
	if at, err := url.Parse(a.CA); a.CA != "" && (err != nil || at.Scheme != "https" || at.Host == "") {
		report("ca", fmt.Sprintf("%q is no URL of a directory: write one with https, such as %s", a.CA, acmeDefaultCA))
	}
	if len(a.Names) == 0 && (a.Email != "" || a.CA != "" || a.CARoot != "" || a.Challenge != "") {
		report("names", "is missing: without names nothing is asked of the authority")
	}
}

// loadRoots reads CARoot; nil is what the system trusts.
func (a *ACME) loadRoots() (*x509.CertPool, error) {
	if a.CARoot == "" {
		return nil, nil
	}
	authority, err := loadClientAuthority(a.CARoot)
	if err != nil {
		return nil, fmt.Errorf("server: tls.acme.ca_root: %w", err)
	}
	return authority.pool, nil
}

// acmeClient is certmagic at work under one configuration.
type acmeClient struct {
	config ACME
	names  map[string]bool // of config
	cache  *certmagic.Cache
	cancel context.CancelFunc
}

// followACME has certmagic work under the configuration in force, if it does not
// yet. What was had before is loaded before it returns; the rest comes later.
func (s *Server) followACME(ctx context.Context) {
	want, now := s.live.Load(), s.acme.Load()
	if now != nil && reflect.DeepEqual(now.config, want.config.TLS.ACME) {
		return
	}
	var next *acmeClient
	if len(want.config.TLS.ACME.Names) > 0 {
		next = s.startACME(ctx, want)
	}
	s.acme.Store(next)
	if now != nil {
		now.stop()
	}
}

func (a *acmeClient) stop() {
	a.cancel()
	a.cache.Stop()
}

// runACME follows the configuration until ctx ends.
func (s *Server) runACME(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			if now := s.acme.Swap(nil); now != nil {
				now.stop()
			}
			return
		case <-s.acmeChanged:
			s.followACME(ctx)
		}
	}
}

func (s *Server) startACME(ctx context.Context, with *live) *acmeClient {
	config := with.config.TLS.ACME
	log := zap.New(zapCore{log: s.log.With("from", "certmagic")})
	a := &acmeClient{config: config, names: make(map[string]bool, len(config.Names))}
	for _, name := range config.Names {
		a.names[name] = true
	}
	ctx, a.cancel = context.WithCancel(ctx)
	var byWeb, byDNS *certmagic.Config
	of := func(name string) *certmagic.Config {
		if config.byDNS(name) {
			return byDNS
		}
		return byWeb
	}
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(c certmagic.Certificate) (*certmagic.Config, error) { return of(c.Names[0]), nil },
		Logger:           log,
	})
	storage := s.acmeStorage
	if storage == nil {
		storage = &certmagic.FileStorage{Path: filepath.Join(s.config.Data, "acme")}
	}
	template := certmagic.Config{
		Storage: storage, Logger: log, OnEvent: s.acmeEvent,
		// Asking at a start would hold up the listeners; renewal information tells of revocations too.
		OCSP: certmagic.OCSPConfig{DisableStapling: true},
	}
	byWeb, byDNS = certmagic.New(a.cache, template), certmagic.New(a.cache, template)
	issuer := certmagic.ACMEIssuer{CA: config.CA, Email: config.Email, Agreed: true, TrustedRoots: with.acmeRoots, Logger: log}
	// certmagic finds our listeners at these ports, and takes them to answer.
	issuer.AltHTTPPort, issuer.AltTLSALPNPort = s.boundPort("http"), s.boundPort("https")
	issuer.DisableHTTPChallenge = issuer.AltHTTPPort == 0
	issuer.DisableTLSALPNChallenge = issuer.AltTLSALPNPort == 0
	byWeb.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(byWeb, issuer)}
	if s.proofs != nil {
		issuer.DNS01Solver = dnsSolver(s.proofs, log)
	}
	byDNS.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(byDNS, issuer)}
	for _, name := range config.Names {
		if _, err := of(name).CacheManagedCertificate(ctx, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Error("a certificate that was had before cannot be read: it is asked for anew", "name", name, "error", err)
		}
		_ = of(name).ManageAsync(ctx, []string{name}) // in the background it has no error
	}
	return a
}

// boundPort returns the port of the first TCP listener of a scheme, 0 for none.
func (s *Server) boundPort(scheme string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.doors {
		if at, err := netip.ParseAddrPort(d.Listener); err == nil && d.Scheme == scheme {
			return int(at.Port())
		}
	}
	return 0
}

// acmeEvent is certmagic's OnEvent.
func (s *Server) acmeEvent(_ context.Context, event string, data map[string]any) error {
	renewal, _ := data["renewal"].(bool)
	switch event {
	case "cert_obtained":
		s.stats.TLS.Obtained.Add(1)
		s.log.Info("certificate had from the authority", "name", data["identifier"], "renewal", renewal)
	case "cert_failed":
		s.stats.TLS.NotObtained.Add(1)
		s.log.Error("a certificate cannot be had from the authority: it is tried again later; other names are not held up",
			"name", data["identifier"], "renewal", renewal, "error", data["error"])
	}
	return nil
}

// certificates returns what was had for a name in lower case.
func (a *acmeClient) certificates(name string) []*tls.Certificate {
	if a == nil || !a.names[name] && !a.names[wildcard(name)] { // the cache would try all wildcards of however long a name
		return nil
	}
	var all []*tls.Certificate
	for _, c := range a.cache.AllMatchingCertificates(name) {
		all = append(all, &c.Certificate)
	}
	return all
}

// MissingCertificates returns how many names are configured for ACME that no
// certificate was had for yet.
func (s *Server) MissingCertificates() int {
	missing := 0
	for _, name := range s.live.Load().config.TLS.ACME.Names {
		if len(s.acme.Load().certificates(name)) == 0 {
			missing++
		}
	}
	return missing
}

// httpChallenge is gate.Seam.Challenge: the answer to HTTP-01 (RFC 8555 8.3) for
// a token that we asked for.
func (s *Server) httpChallenge(host, target string) (string, bool) {
	if s.acme.Load() == nil {
		return "", false
	}
	challenge, ok := certmagic.GetACMEChallenge(strings.ToLower(host))
	if !ok || challenge.Type != acme.ChallengeTypeHTTP01 || target != challenge.HTTP01ResourcePath() {
		return "", false
	}
	return challenge.KeyAuthorization, true
}

// alpnChallenge returns how hands are shaken with who validates a name by
// TLS-ALPN-01 (RFC 8737), nil for all others. Nothing is served after it.
func (s *Server) alpnChallenge(hello *tls.ClientHelloInfo) *tls.Config {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acmez.ACMETLS1Protocol || s.acme.Load() == nil {
		return nil
	}
	challenge, ok := certmagic.GetACMEChallenge(serverName(hello.ServerName))
	if !ok || challenge.Type != acme.ChallengeTypeTLSALPN01 {
		return nil
	}
	certificate, err := acmez.TLSALPN01ChallengeCert(challenge.Challenge)
	if err != nil {
		s.log.Error("cannot make the certificate of a challenge", "name", hello.ServerName, "error", err)
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{acmez.ACMETLS1Protocol},
		Certificates: []tls.Certificate{*certificate}, SessionTicketsDisabled: true,
	}
}
