package pool

// discover.go finds endpoints in DNS and looks again when the answer's TTL is over.
// What is found replaces what was found before; connections to addresses that stay
// do not notice. An answer that names nobody, or none, changes nothing: the last good
// one stays, and is asked for again soon.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	lookupTimeout = 2 * time.Second // of one question to one resolver
	udpSize       = 1232
	// targetsMax bounds the names of an SRV answer, and the aliases of one name.
	targetsMax = 32
	aliasesMax = 8
	// After failures it is asked again after retryFirst to retryLast, at random.
	retryFirst = time.Second
	retryLast  = 30 * time.Second
	resolvConf = "/etc/resolv.conf"
)

// discover looks up until ctx ends.
func (p *Pool) discover(ctx context.Context) {
	failures := 0
	for {
		p.mu.Lock()
		d := p.cfg.Discover
		p.mu.Unlock()
		found, ttl, err := lookUp(ctx, d)
		if ctx.Err() != nil {
			return
		}
		pause := min(max(ttl, d.TTLMin), d.TTLMax)
		pause += rand.N(pause/20 + 1) // not all nodes at once
		if err == nil {
			failures = 0
		} else {
			pause = retryFirst<<min(failures, 5) + 1
			pause = min(pause, retryLast)/2 + rand.N(min(pause, retryLast)/2+1)
			failures++
		}
		p.resolve(found, pause, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// resolve takes the result of a look-up.
func (p *Pool) resolve(found []Endpoint, pause time.Duration, err error) {
	p.mu.Lock()
	now := time.Now()
	before := p.resolved.err
	p.resolved = resolution{at: now, next: now.Add(pause), err: err}
	p.answered()
	name := p.cfg.Discover.Name
	if err != nil && (len(found) == 0 || len(p.found) > 0) { // a part is better than nothing
		p.mu.Unlock()
		p.stats.ResolutionsFailed.Add(1)
		if before == nil || before.Error() != err.Error() {
			p.log.Warn("pool: endpoints cannot be looked up: those known stay", "name", name, "err", err)
		}
		return
	}
	p.stats.Resolutions.Add(1)
	same := slices.Equal(p.found, found)
	var gone []string
	if !same {
		p.found = found
		gone = p.renew(true)
	}
	p.mu.Unlock()
	if !same {
		p.drop(gone)
		p.wake()
		p.log.Info("pool: endpoints looked up", "name", name, "endpoints", len(found), "gone", len(gone))
	}
}

// lookUp returns the endpoints that DNS knows, in an order that does not depend on
// that of the answer, and how long they may be believed. With an error it returns what
// it has found until then.
func lookUp(ctx context.Context, d Discover) (found []Endpoint, ttl time.Duration, err error) {
	q := question{resolvers: d.Resolvers, ttl: d.TTLMax}
	if len(q.resolvers) == 0 {
		if q.resolvers, err = systemResolvers(resolvConf); err != nil {
			return nil, 0, err
		}
	}
	name := dns.CanonicalName(d.Name)
	if d.Type == DiscoverSRV {
		found, err = q.services(ctx, name)
	} else {
		var addresses []netip.Addr
		addresses, err = q.addresses(ctx, name)
		for _, a := range addresses {
			found = append(found, Endpoint{Address: a.String(), Weight: 1})
		}
	}
	slices.SortFunc(found, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), strings.Compare(a.Address, b.Address))
	})
	found = slices.CompactFunc(found, func(a, b Endpoint) bool { return a.Address == b.Address })
	if len(found) == 0 && err == nil {
		err = fmt.Errorf("DNS has no address for %s", d.Name)
	}
	return found, q.ttl, err
}

func systemResolvers(file string) ([]string, error) {
	conf, err := dns.ClientConfigFromFile(file)
	if err != nil {
		return nil, fmt.Errorf("no resolvers: write them under discover.resolvers: %w", err)
	}
	var resolvers []string
	for _, server := range conf.Servers[:min(len(conf.Servers), resolversMax)] {
		resolvers = append(resolvers, net.JoinHostPort(server, conf.Port))
	}
	if len(resolvers) == 0 {
		return nil, fmt.Errorf("%s names no resolver: write them under discover.resolvers", file)
	}
	return resolvers, nil
}

// question is one look-up: whom to ask, and the shortest TTL of what was used.
type question struct {
	resolvers []string
	ttl       time.Duration
}

// services asks for SRV (RFC 2782) and for the addresses of what it names.
func (q *question) services(ctx context.Context, name string) ([]Endpoint, error) {
	msg, owner, err := q.ask(ctx, name, dns.TypeSRV)
	if err != nil {
		return nil, err
	}
	var found []Endpoint
	targets := 0
	for _, rr := range msg.Answer {
		srv, ok := rr.(*dns.SRV)
		if !ok || dns.CanonicalName(srv.Hdr.Name) != owner || srv.Port == 0 || srv.Target == "." {
			continue // "." says that there is no such service
		}
		if targets++; targets > targetsMax {
			break
		}
		q.use(srv.Hdr.Ttl)
		addresses, failed := q.addresses(ctx, dns.CanonicalName(srv.Target))
		err = cmp.Or(err, failed) // another target may have some
		for _, a := range addresses {
			found = append(found, Endpoint{
				Address:  net.JoinHostPort(a.String(), strconv.Itoa(int(srv.Port))),
				Weight:   min(max(int(srv.Weight), 1), weightMax), // 0 is little, not nothing
				Priority: int(srv.Priority),
			})
		}
	}
	return found, err
}

// addresses asks for A and AAAA. With an error it returns the half that it has.
func (q *question) addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	var found []netip.Addr
	var errs [2]error
	for i, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		msg, owner, err := q.ask(ctx, name, qtype)
		if err != nil {
			errs[i] = err
			continue
		}
		for _, rr := range msg.Answer {
			if dns.CanonicalName(rr.Header().Name) != owner {
				continue
			}
			var ip net.IP
			switch rr := rr.(type) {
			case *dns.A:
				ip = rr.A
			case *dns.AAAA:
				ip = rr.AAAA
			default:
				continue
			}
			a, ok := netip.AddrFromSlice(ip)
			if a = a.Unmap(); !ok || a.IsUnspecified() || a.IsMulticast() || len(found) == endpointsMax {
				continue
			}
			q.use(rr.Header().Ttl)
			found = append(found, a)
		}
	}
	return found, cmp.Or(errs[0], errs[1])
}

func (q *question) use(ttl uint32) { q.ttl = min(q.ttl, time.Duration(ttl)*time.Second) }

// ask returns an answer of the first resolver that gives one, and the name at the
// end of its aliases.
func (q *question) ask(ctx context.Context, name string, qtype uint16) (*dns.Msg, string, error) {
	var errs []error
	for _, resolver := range q.resolvers {
		msg, err := exchange(ctx, resolver, name, qtype)
		if err == nil {
			owner, err := q.follow(msg, name)
			if err == nil {
				return msg, owner, nil
			}
			errs = append(errs, fmt.Errorf("%s of %s from %s: %w", dns.TypeToString[qtype], name, resolver, err))
			continue
		}
		errs = append(errs, fmt.Errorf("%s of %s from %s: %w", dns.TypeToString[qtype], name, resolver, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, "", errors.Join(errs...)
}

// follow returns where the CNAMEs of an answer lead.
func (q *question) follow(msg *dns.Msg, name string) (string, error) {
	for range aliasesMax {
		i := slices.IndexFunc(msg.Answer, func(rr dns.RR) bool {
			return rr.Header().Rrtype == dns.TypeCNAME && dns.CanonicalName(rr.Header().Name) == name
		})
		if i < 0 {
			return name, nil
		}
		q.use(msg.Answer[i].Header().Ttl)
		name = dns.CanonicalName(msg.Answer[i].(*dns.CNAME).Target)
	}
	return "", errors.New("too many aliases")
}

// exchange asks one resolver, over TCP if the answer is too long for UDP.
func exchange(ctx context.Context, resolver, name string, qtype uint16) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.SetEdns0(udpSize, false)
	for _, network := range []string{"udp", "tcp"} {
		msg, err := exchangeBy(ctx, network, resolver, m)
		switch {
		case err != nil:
			return nil, err
		case len(msg.Question) != 1 || dns.CanonicalName(msg.Question[0].Name) != name || msg.Question[0].Qtype != qtype || !msg.Response:
			return nil, errors.New("the answer is to another question")
		case msg.Truncated && network == "udp":
			continue
		case msg.Rcode == dns.RcodeSuccess, msg.Rcode == dns.RcodeNameError:
			return msg, nil
		default:
			return nil, fmt.Errorf("the resolver says %s", dns.RcodeToString[msg.Rcode])
		}
	}
	return nil, errors.New("the answer is truncated")
}

func exchangeBy(ctx context.Context, network, resolver string, m *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	client := dns.Client{Net: network, UDPSize: udpSize, Timeout: lookupTimeout}
	conn, err := client.DialContext(ctx, resolver)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // the answer is there, or an error
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	msg, _, err := client.ExchangeWithConnContext(ctx, m, conn)
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", lookupTimeout)
	}
	return msg, err
}
