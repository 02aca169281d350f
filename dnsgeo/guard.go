package dnsgeo

// guard.go puts cookies and limits around all answers, those of both paths.

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Cookies prove clients' addresses (RFC 7873): who sends a valid one is spared the
// response limits.
type Cookies struct {
	// Off gives none out and looks at none. Default false.
	Off bool `yaml:"off"`
	// Required answers nobody over UDP without a valid one: clients that know
	// cookies are given one (BADCOOKIE), others are sent to TCP. Default false.
	Required bool `yaml:"required"`
	// SecretFile holds the secret that all responders of a zone share, at least 16
	// bytes of text in its first line; those before it may follow, a line each, until
	// cookies of theirs are an hour old. Default: the cluster's secret, else one that
	// is drawn at the start.
	SecretFile string `yaml:"secret_file"`
}

const (
	secretsMax      = 8
	secretBytesMin  = 16
	secretsBytesMax = 16 << 10
)

// readSecrets returns the lines of a file of secrets.
func readSecrets(path string) ([][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cookies: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, secretsBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("cookies: read %s: %w", path, err)
	}
	var secrets [][]byte
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			secrets = append(secrets, line)
		}
	}
	short := slices.ContainsFunc(secrets, func(s []byte) bool { return len(s) < secretBytesMin })
	if len(text) > secretsBytesMax || len(secrets) == 0 || len(secrets) > secretsMax || short {
		return nil, fmt.Errorf("cookies: %s is to have 1 to %d lines of at least %d bytes: make one with openssl rand -hex 32", path, secretsMax, secretBytesMin)
	}
	return secrets, nil
}

func (c Cookies) validate(report func(path, problem string)) {
	if c.Off && c.Required {
		report("required", "cannot be while cookies are off: leave one of them out")
	}
	if c.Off && c.SecretFile != "" {
		report("secret_file", "has no effect while cookies are off: leave one of them out")
	}
}

// guard is what stands between answers and addresses that may be forged.
type guard struct {
	jar           *jar     // nil where cookies are off
	limiter       *limiter // nil where there are no limits
	required      bool
	amplification int // 0 for any
}

func newGuard(cfg *Config) (*guard, error) {
	g := &guard{required: cfg.Cookies.Required}
	if g.limiter = newLimiter(cfg.ResponseLimits, new(LimitStats)); g.limiter != nil {
		g.amplification = cfg.ResponseLimits.withDefaults().Amplification
	}
	if cfg.Cookies.Off {
		return g, nil
	}
	secrets := cfg.Secrets
	if file := cfg.Cookies.SecretFile; file != "" {
		var err error
		if secrets, err = readSecrets(file); err != nil {
			return nil, err
		}
	}
	if len(secrets) == 0 {
		var drawn [32]byte
		_, _ = rand.Read(drawn[:]) // never fails
		secrets = [][]byte{drawn[:]}
	}
	var err error
	g.jar, err = newJar(secrets...)
	return g, err
}

// judge says what a query's cookie is worth.
func (g *guard) judge(cookie []byte, from netip.Addr, now time.Time) cookieVerdict {
	if cookie == nil || g.jar == nil {
		return cookieNone
	}
	return g.jar.judge(cookie, from, now)
}

// verdict counts an answer and says what becomes of it.
func (g *guard) verdict(q *query, kind responseKind, zone uint32) limitVerdict {
	if q.via == tcp || q.edns.proof.verified() {
		return limitSend
	}
	return g.limiter.judge(q.from, kind, zone, q.now)
}

// maySign tells whether a signature may be made for a name that is there by being
// asked for only.
func (g *guard) maySign(q *query) bool {
	if g.limiter == nil || q.via == tcp || q.edns.proof.verified() || g.limiter.proofs.spend(g.limiter.proof, q.now.UnixNano()) {
		return true
	}
	g.limiter.stats.Unproven.Add(1)
	return false
}

// answer writes the cookie of an answer: the client's own while it is young.
func (j *jar) answer(dst, option []byte, proof cookieVerdict, from netip.Addr, now time.Time) {
	if proof == cookieGood {
		copy(dst, option)
		return
	}
	j.bake(dst, option, from, now)
}

// kindOf says what an answer counts as.
func kindOf(m *dns.Msg, f *finding) responseKind {
	switch {
	case f.zone == nil || m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return kindError
	case f.kind == kindNoData || f.kind == kindNXDomain:
		return kindEmpty
	}
	return kindAnswer
}

// zoneID is of the zone whose empty answers count as one.
func (f *finding) zoneID() uint32 {
	if f.zone == nil {
		return 0
	}
	return f.zone.number
}

// drawn tells whether cookies are of a secret that was drawn.
func (c *Config) drawn() bool { return len(c.Secrets) == 0 && c.Cookies.SecretFile == "" }

// adopt gives zones what outlives them, and what of before still fits. drawn says
// that both made their cookies from a secret that was drawn.
func (r *Responder) adopt(z, before *zones, drawn bool) {
	for _, one := range z.byApex {
		one.stats = r.stats.zone(one.apex)
		if one.signer != nil {
			one.signer.kept = r.signatures
		}
	}
	// A reload forgets neither who floods nor cookies that were given out.
	if before != nil && drawn && z.guard.jar != nil && before.guard.jar != nil {
		z.guard.jar = before.guard.jar
	}
	if before != nil && z.guard.limiter.like(before.guard.limiter) {
		z.guard.limiter = before.guard.limiter
	} else if z.guard.limiter != nil {
		z.guard.limiter.stats = &r.stats.Limits
	}
}

func (r *limiter) like(other *limiter) bool {
	return r != nil && other != nil && r.proof == other.proof && len(r.slots) == len(other.slots) && r.interval == other.interval &&
		r.slip == other.slip && fmt.Sprint(r.exempt) == fmt.Sprint(other.exempt)
}
