package server

// acme_dns.go proves names by TXT records of our own DNS (DNS-01, RFC 8555 8.4),
// which is how wildcards are proven. certmagic sets and removes records by way of
// libdns; what is here hands them to whoever keeps them.

import (
	"context"
	"fmt"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
	"go.uber.org/zap"
)

// challengeDNS is ACME.Challenge.
const challengeDNS = "dns"

// Proofs keeps the TXT records by which names are proven.
type Proofs interface {
	// Present makes one, and returns when all responders have it.
	Present(ctx context.Context, name, value string) error
	// CleanUp takes it away.
	CleanUp(name, value string) error
	// Resolvers are addresses at which our own DNS can be asked where a zone begins
	// and whether a record is there; none: those of the system.
	Resolvers() []string
}

// byDNS tells by which challenge a name is proven.
func (a *ACME) byDNS(name string) bool { return a.Challenge == challengeDNS || isWildcard(name) }

func isWildcard(name string) bool { return strings.HasPrefix(name, "*.") }

// wildcard is the name whose certificate is good for a name too.
func wildcard(name string) string {
	_, above, _ := strings.Cut(name, ".")
	return "*." + above
}

// dnsSolver has certmagic set records, look for them, and take them away.
func dnsSolver(proofs Proofs, log *zap.Logger) *certmagic.DNS01Solver {
	return &certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{
		DNSProvider: dnsProvider{proofs}, Resolvers: proofs.Resolvers(), Logger: log,
	}}
}

// dnsProvider is our DNS as libdns sees it.
type dnsProvider struct{ proofs Proofs }

// AppendRecords makes records.
func (p dnsProvider) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	for i, record := range records {
		rr := record.RR()
		if rr.Type != "TXT" {
			return records[:i], fmt.Errorf("server: our DNS keeps TXT records alone, not %s", rr.Type)
		}
		if err := p.proofs.Present(ctx, libdns.AbsoluteName(rr.Name, zone), rr.Data); err != nil {
			_ = p.proofs.CleanUp(libdns.AbsoluteName(rr.Name, zone), rr.Data) // it expires by itself
			return records[:i], err
		}
	}
	return records, nil
}

// DeleteRecords takes records away.
func (p dnsProvider) DeleteRecords(_ context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	for i, record := range records {
		rr := record.RR()
		if err := p.proofs.CleanUp(libdns.AbsoluteName(rr.Name, zone), rr.Data); err != nil {
			return records[:i], err
		}
	}
	return records, nil
}
