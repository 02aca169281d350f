package cache

// purge.go applies purges: what operators want forgotten, at once and for good.
//
// A purge walks over nothing. It gets the next order, a number that only grows,
// and leaves it beside what it names in a table of generations
// (generations.go). Every fetch notes the order that was the last one when it
// began (store.Meta.Order), and what is derived from its response inherits it: a
// stored response is purged when something that it is or belongs to has a higher
// order. Clocks play no part. A hit looks into the table only when the order has
// moved since its last look, and sweep.go takes out, behind everybody's back,
// what is purged, and then what purged it.

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"edgecdn/cache/store"
	"edgecdn/route"
)

// PurgeKind says what a Purge names.
type PurgeKind uint8

// The kinds of purges.
const (
	PurgeURL        PurgeKind = iota + 1 // one target, all that is stored for it: variants, values of key.headers and key.cookies
	PurgePrefix                          // all targets of a host at and under a path
	PurgeHost                            // all targets of a host
	PurgeGroup                           // all responses of a host that are in a group
	PurgeEverything                      // all there is
)

// PurgeKinds names the kinds, by PurgeKind - 1.
var PurgeKinds = [...]string{"url", "prefix", "host", "group", "everything"}

// String returns the kind in one word of PurgeKinds.
func (k PurgeKind) String() string {
	if k >= PurgeURL && k <= PurgeEverything {
		return PurgeKinds[k-1]
	}
	return "unknown"
}

// Purge names what is to be forgotten.
type Purge struct {
	Kind PurgeKind
	// Soft: what is named goes stale and may be used as any stale response, for as
	// long as the response allows it. Else it is never used again, for nothing.
	Soft bool
	// Scheme of a URL or prefix: "http", "https", or "" for both.
	Scheme string
	// Host as Request.Host has it: lower case, without the scheme's default port.
	// Of all kinds but PurgeEverything.
	Host string
	// Name is of a URL the target in origin form, of a prefix the path, compared byte
	// for byte as it is in requests ("/a" and "/a/" are the same prefix: /a, /a?x and
	// all under /a/, not /ab), of a group its name.
	Name string
	// At is when a soft purge was made: the windows in which stale responses may be
	// used begin there, at the latest. Zero: now.
	At time.Time
}

// PrefixDepthMax is how many segments the path of a PurgePrefix may have.
const PrefixDepthMax = 32

var (
	// ErrPurgesFull: the table of purges is at its bound and the sweep could not make
	// room in time. Nothing was purged; it may be tried again.
	ErrPurgesFull = errors.New("cache: too many purges wait for the sweep")
	// ErrPurge: a purge that makes no sense. Nothing was purged.
	ErrPurge = errors.New("cache: no valid purge")
)

// PurgeCount says how much a purge matched: stored responses, each variant of its
// own, whatever else is kept for them (slices, coded bodies) left out.
type PurgeCount struct {
	// Memory: in memory when the purge was applied; of a soft one, what it made stale.
	// What several purges name counts for one of them. Exact when MemoryCounted.
	Memory int64
	// Disk: on disk and not in memory. Exact when Counted; before, an estimate from what
	// is in memory, or what was found so far where that is more.
	Disk int64
	// MemoryCounted, Counted: the sweep, or CountMemory, has passed memory, and the sweep
	// all.
	MemoryCounted, Counted bool
}

// BootOf returns the boot that an order was made in.
func BootOf(order uint64) uint64 { return order >> bootShift }

// BeginOrder numbers the orders of this start: all are above those of every start
// with a lower boot, and below those of one with a higher. Once, before requests.
func (c *Cache) BeginOrder(boot uint64) { c.purges.begin(boot << bootShift) }

// bootShift leaves room for a million purges a second during 12 days, or a thousand
// during 34 years, of one start.
const bootShift = 40

// Purge forgets what is named, at once: when it returns, no request that comes
// finds anything of it, and no fetch that began before leaves anything behind.
// All get one order. Where the table is full it waits some seconds for the sweep.
func (c *Cache) Purge(all []Purge) (order uint64, err error) {
	for rules := c.rules.Load(); ; {
		marks, err := c.marks(all)
		if err != nil {
			return 0, err
		}
		if order, err = c.purges.apply(marks); err != nil {
			return 0, err
		}
		before := rules
		if rules = c.rules.Load(); rules == before {
			break
		}
		// Something may have been stored under new rules before the order was given.
	}
	for i := range all {
		c.stats.Purges[all[i].Kind-1].Add(1)
	}
	return order, nil
}

// Replay applies purges that were applied before under that order. At the start,
// after BeginOrder and before requests; in any order.
func (c *Cache) Replay(order uint64, all []Purge) error {
	marks, err := c.marks(all)
	if err != nil {
		return err
	}
	c.purges.replay(order, marks)
	return nil
}

// PurgeCount returns what the purges of an order have matched so far; false where
// the order is not known, or so long ago that its count is forgotten.
func (c *Cache) PurgeCount(order uint64) (PurgeCount, bool) { return c.purges.counted(order) }

// SweptOrder is the highest order such that nothing is left, in memory or on disk,
// of what purges up to it named: they need not be replayed any more.
func (c *Cache) SweptOrder() uint64 { return c.purges.swept.Load() }

// Check returns an ErrPurge that says what is wrong with p, or nil.
func (p Purge) Check() error {
	wrong := func(what string) error { return fmt.Errorf("%w: %s", ErrPurge, what) }
	switch {
	case p.Kind < PurgeURL || p.Kind > PurgeEverything:
		return wrong("unknown kind")
	case p.Scheme != "" && p.Scheme != "http" && p.Scheme != "https":
		return wrong("the scheme is http, https or empty for both")
	case p.Kind != PurgeEverything && (p.Host == "" || p.Host != strings.ToLower(p.Host) || strings.ContainsAny(p.Host, "/\n")):
		return wrong("the host must be named in lower case")
	case p.Kind == PurgeGroup && p.Name == "":
		return wrong("the group must be named")
	case (p.Kind == PurgeURL || p.Kind == PurgePrefix) && !keyable(&Request{Target: p.Name}):
		return wrong("the target must be in origin form: a path that begins with a slash, without spaces")
	case p.Kind == PurgePrefix && strings.IndexByte(p.Name, '?') >= 0:
		return wrong("a prefix is a path without a query")
	case p.Kind == PurgePrefix && strings.Count(prefixOf(p.Name), "/") > PrefixDepthMax:
		return wrong(fmt.Sprintf("the prefix has more than %d segments", PrefixDepthMax))
	}
	return nil
}

// prefixOf brings a path prefix into the one form that is hashed.
func prefixOf(path string) string { return strings.TrimSuffix(path, "/") }

// A mark is a purge as the table has it: a hash, of what kind, and how.
type mark struct {
	hash  uint64 // of everything: 0
	kind  PurgeKind
	soft  bool
	since int64 // of a soft one: stale from this instant, in nanoseconds
	// shows is the hash of which all that has hash has a print (store.Meta.Prints).
	shows uint64
}

// marks returns what purges mean for the table.
func (c *Cache) marks(all []Purge) ([]mark, error) {
	marks := make([]mark, 0, len(all))
	now := time.Now()
	for _, p := range all {
		if err := p.Check(); err != nil {
			return nil, err
		}
		m := mark{kind: p.Kind, soft: p.Soft}
		if p.Soft {
			m.since = now.UnixNano()
			if !p.At.IsZero() { // by another node's clock, perhaps, which may be ahead
				m.since = min(m.since, p.At.UnixNano())
			}
		}
		c.eachHash(p, func(hash, shows uint64) {
			m.hash, m.shows = hash, shows
			marks = append(marks, m)
		})
	}
	return marks, nil
}

// eachHash calls do for each hash by which a stored response may know p, with the one that
// it shows by.
func (c *Cache) eachHash(p Purge, do func(hash, shows uint64)) {
	schemes := []string{p.Scheme}
	if p.Scheme == "" {
		schemes = []string{"http", "https"}
	}
	switch p.Kind {
	case PurgeEverything:
		do(0, 0)
	case PurgeURL:
		for _, scheme := range schemes {
			var known []uint64
			for _, r := range c.asRequests(scheme, p.Host, p.Name) {
				if hash := c.names.url.Sum(string(appendURL(nil, r))); !slices.Contains(known, hash) {
					known = append(known, hash)
					do(hash, c.nearest(r))
				}
			}
		}
	case PurgePrefix:
		for _, host := range c.hostNames(p.Host) {
			for _, scheme := range schemes {
				hash := c.names.prefix.Sum(scheme + "://" + host + prefixOf(p.Name))
				shows := hash
				if prefixOf(p.Name) == "" {
					shows = c.names.host.Sum(host)
				}
				do(hash, shows)
			}
		}
	case PurgeHost:
		for _, host := range c.hostNames(p.Host) {
			hash := c.names.host.Sum(host)
			do(hash, hash)
		}
	case PurgeGroup:
		for _, host := range c.hostNames(p.Host) {
			hash := c.names.group.Sum(host + "\n" + p.Name)
			do(hash, hash)
		}
	}
}

// nearest is the hash of the longest prefix that a target is under, or of its host.
func (c *Cache) nearest(r *Request) uint64 {
	host := hostName(r)
	if all := c.names.appendPrefixes(nil, r.Scheme+"://"+host, r.Path()); len(all) > 1 {
		return all[len(all)-1]
	}
	return c.names.host.Sum(host)
}

// names are the hashers of what purges name, each kind its own.
type names struct{ url, prefix, host, group store.Hasher }

func newNames(h store.Hasher) names {
	return names{url: h.Domain(1), prefix: h.Domain(2), host: h.Domain(3), group: h.Domain(4)}
}

// appendPrefixes appends the hashes of the path prefixes that a target is under;
// base is its scheme and host.
func (n *names) appendPrefixes(hashes []uint64, base, path string) []uint64 {
	text := base + path
	depth := 0
	for i := len(base); i < len(text) && depth <= PrefixDepthMax; i++ {
		if text[i] == '/' {
			hashes = append(hashes, n.prefix.Sum(text[:i]))
			depth++
		}
	}
	if depth <= PrefixDepthMax && text[len(text)-1] != '/' {
		hashes = append(hashes, n.prefix.Sum(text))
	}
	return hashes
}

// asRequests returns what requests for a target would be, as far as their keys go:
// by the rules in force, and by those that were in force when what is stored may have
// been. What no route is for is named as it stands.
func (c *Cache) asRequests(scheme, host, target string) []*Request {
	rules := []matchFunc{c.match}
	if before := c.rules.Load(); before != nil {
		rules = append(rules, *before...)
	}
	all := make([]*Request, 0, len(rules))
	for _, match := range rules {
		r := &Request{Method: "GET", Scheme: scheme, Host: host, Target: target, Route: &route.Route{}}
		if match != nil {
			if rt, _ := match(host, target); rt != nil {
				r.Route = rt
			}
		}
		all = append(all, r)
	}
	return all
}

// matchFunc finds the route of a host and target.
type matchFunc = func(host, target string) (*route.Route, error)

// RememberRules has purges understand what they name by more rules for keys than
// those in force: by all that something stored may have been stored under, and those
// to come. Called before rules change; the ones before are forgotten.
func (c *Cache) RememberRules(all []func(host, target string) (*route.Route, error)) {
	c.rules.Store(&all)
}

// hostName is the host that what is stored for r belongs to: its own, or one that
// those who share the responses of a route have in common and no request can name.
func hostName(r *Request) string {
	if hosted := r.Route.Key.Host; hosted == nil || *hosted {
		return r.Host
	}
	return sharedName(r.Route)
}

// hostNames are those under which responses for a host may be stored. That is one,
// where none of its paths shares: the table, and the filters, hold so much more.
func (c *Cache) hostNames(host string) []string {
	names := []string{host}
	for _, r := range c.asRequests("", host, "/") {
		if shared := sharedName(r.Route); r.Route.Shares && !slices.Contains(names, shared) {
			names = append(names, shared)
		}
	}
	return names
}

func sharedName(r *route.Route) string { return "\n" + r.Host }
