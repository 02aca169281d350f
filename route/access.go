package route

// access.go compiles which clients may ask and how often; access judges by it.

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Clients says which clients may ask, and how often.
type Clients struct {
	// Allow is nil where all are let in. Deny weighs more.
	Allow, Deny Addresses
	Rates       []Bucket
}

// Bucket is a Rate as a token bucket.
type Bucket struct {
	// ID tells rules apart, and is that of the same rule after a reload.
	ID uint64
	// IPv4 and IPv6 are how many bits of an address are a client.
	IPv4, IPv6 int
	// Interval between tokens, and how many there can be.
	Interval time.Duration
	Burst    int
}

// Addresses is a set of addresses: disjoint ranges in order.
type Addresses []span

type span struct{ first, last netip.Addr }

// Contains reports whether an address is in the set. An IPv4 address in IPv6 is
// the IPv4 address; no address is in none.
func (a Addresses) Contains(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	i, found := slices.BinarySearchFunc(a, address, func(s span, address netip.Addr) int { return s.first.Compare(address) })
	return found || i > 0 && address.IsValid() && address.Compare(a[i-1].last) <= 0
}

const (
	accessListMax = 10_000
	ratesMax      = 8
	rateMax       = 1_000_000
	ratePeriodMax = 24 * time.Hour
)

func mergeAccess(host, path *Access) Access {
	out := *path
	if out.Allow == nil {
		out.Allow = host.Allow
	}
	if out.Deny == nil {
		out.Deny = host.Deny
	}
	if out.Rates == nil {
		out.Rates = host.Rates
	}
	return out
}

// compileAccess takes what is valid. It returns nil where nothing is said.
func compileAccess(a *Access) *Clients {
	if a.Allow == nil && len(a.Deny) == 0 && len(a.Rates) == 0 {
		return nil
	}
	c := &Clients{Allow: NewAddresses(a.Allow), Deny: NewAddresses(a.Deny)}
	for _, rate := range a.Rates {
		rate = rate.withDefaults()
		b := Bucket{IPv4: 32, IPv6: 64, Interval: max(rate.Per/time.Duration(rate.Requests), 1), Burst: rate.Burst}
		if rate.Key == "prefix" {
			b.IPv4, b.IPv6 = 24, 48
		}
		c.Rates = append(c.Rates, b)
	}
	return c
}

func (r Rate) withDefaults() Rate {
	if r.Per == 0 {
		r.Per = time.Second
	}
	if r.Burst == 0 {
		r.Burst = r.Requests
	}
	return r
}

// name gives the rates the identity of where they were configured.
func (c *Clients) name(host, path string) {
	if c == nil {
		return
	}
	for i := range c.Rates {
		h := fnv.New64a()
		_, _ = h.Write([]byte(host + "\x00" + path + "\x00" + strconv.Itoa(i))) // never fails
		c.Rates[i].ID = h.Sum64()
	}
}

// NewAddresses makes a set of networks and addresses in which NetworkProblem finds
// nothing; nil of nil.
func NewAddresses(list []string) Addresses {
	if list == nil {
		return nil
	}
	spans := make(Addresses, 0, len(list))
	for _, text := range list {
		p, err := parseNetwork(text)
		if err != nil {
			continue // validated before
		}
		spans = append(spans, span{p.Addr(), lastOf(p)})
	}
	slices.SortFunc(spans, func(a, b span) int { return a.first.Compare(b.first) })
	merged := spans[:0]
	for _, s := range spans {
		if n := len(merged); n > 0 && s.first.Compare(merged[n-1].last) <= 0 {
			if s.last.Compare(merged[n-1].last) > 0 {
				merged[n-1].last = s.last
			}
			continue
		}
		merged = append(merged, s)
	}
	return merged
}

// parseNetwork reads a network or an address.
func parseNetwork(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	if a.Zone() != "" {
		return netip.Prefix{}, errors.New("route: a zone is this machine's own affair")
	}
	return a.Prefix(a.BitLen())
}

// lastOf returns a network's last address.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(b); bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func validateAccess(at string, a *Access, r reporter) {
	for _, list := range []struct {
		key   string
		texts []string
	}{{".allow", a.Allow}, {".deny", a.Deny}} {
		if len(list.texts) > accessListMax {
			r.add(at+list.key, "%d networks are too many: at most %d", len(list.texts), accessListMax)
			continue
		}
		for k, text := range list.texts {
			path := at + list.key + "[" + strconv.Itoa(k) + "]"
			if problem := NetworkProblem(text); problem != "" {
				r.add(path, "%s", problem)
			}
		}
	}
	if a.Allow != nil && len(a.Allow) == 0 {
		r.add(at+".allow", "is an empty list, which lets nobody in: leave it out or name networks")
	}
	if len(a.Rates) > ratesMax {
		r.add(at+".rates", "%d rates are too many: at most %d", len(a.Rates), ratesMax)
	}
	for k := range a.Rates {
		validateRate(at+".rates["+strconv.Itoa(k)+"]", &a.Rates[k], r)
	}
}

// NetworkProblem says what is wrong with the text of a network or an address; "" is
// nothing.
func NetworkProblem(text string) string {
	switch p, err := parseNetwork(text); {
	case err != nil:
		return fmt.Sprintf("%q is no network: write one such as 192.0.2.0/24 or 2001:db8::/32, or an address", text)
	case p.Addr().Is4In6():
		return fmt.Sprintf("%q is an IPv4 address in IPv6: write it as IPv4", text)
	case p.Masked() != p:
		return fmt.Sprintf("%q has bits set behind the prefix: write %s", text, p.Masked())
	}
	return ""
}

func validateRate(at string, rate *Rate, r reporter) {
	if rate.Key != "" && rate.Key != "address" && rate.Key != "prefix" {
		r.add(at+".key", "%q is not address or prefix", rate.Key)
	}
	if rate.Requests < 1 || rate.Requests > rateMax {
		r.add(at+".requests", "%d is out of bounds: choose from 1 to %d", rate.Requests, rateMax)
	}
	if rate.Burst < 0 || rate.Burst > rateMax {
		r.add(at+".burst", "%d is out of bounds: choose from 1 to %d", rate.Burst, rateMax)
	}
	if rate.Per < 0 || rate.Per > ratePeriodMax || rate.Per > 0 && rate.Per < time.Millisecond {
		r.add(at+".per", "%s is out of bounds: choose from 1ms to %s", rate.Per, ratePeriodMax)
	}
}
