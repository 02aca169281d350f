package route

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"edgecdn/internal/unit"
)

// maxBytesDefault bounds the body of a stored response where nothing else is said.
const maxBytesDefault = unit.GiB

// WithDefaults returns the host with what was left out filled in: what its paths
// inherit, so that a path's own policy says only what is its own.
func (h Host) WithDefaults() Host {
	c := &h.Cache
	fill(&c.Bypass, false)
	fill(&c.Key.Host, true)
	fill(&c.Key.Query.Sort, false)
	fill(&c.StaleWhileRevalidate, 0)
	fill(&c.StaleIfError, 0)
	fill(&c.RequestDirectives, false)
	fill(&c.StripSetCookie, false)
	fill(&c.StatusKey, false)
	if c.Targets == nil {
		c.Targets = []string{"Surrogate-Control", "CDN-Cache-Control"}
	}
	c.MaxBytes = cmp.Or(c.MaxBytes, maxBytesDefault)
	c.Compress.fillDefaults()
	h.Redirects = slices.Clone(h.Redirects)
	for i := range h.Redirects {
		h.Redirects[i].Status = cmp.Or(h.Redirects[i].Status, redirectStatusDefault)
	}
	h.Routes = slices.Clone(h.Routes)
	c.Freshness = withStatus(c.Freshness)
	for i := range h.Routes {
		rules := &h.Routes[i].Cache.Freshness
		*rules = withStatus(*rules)
	}
	return h
}

func fill[T any](value **T, otherwise T) {
	if *value == nil {
		*value = &otherwise
	}
}

// withStatus gives rules without status the one that they hold for.
func withStatus(rules []Freshness) []Freshness {
	rules = slices.Clone(rules)
	for i := range rules {
		if len(rules[i].Status) == 0 {
			rules[i].Status = []string{statusDefault}
		}
	}
	return rules
}

// compileHost merges the policies of a validated host into one Route a path.
func compileHost(given *Host, index int) *host {
	h := given.WithDefaults()
	name := strings.ToLower(h.Names[0])
	redirects := make([]redirect, len(h.Redirects))
	for i := range h.Redirects {
		redirects[i] = compileRedirect(&h.Redirects[i])
	}
	compile := func(pattern string, p *Policy) *Route {
		r := compilePolicy(p)
		r.Host, r.Pattern, r.HostIndex, r.redirects = name, pattern, index, redirects
		r.ClientCA, r.HSTS = h.ClientCA, h.HSTS.value()
		return r
	}
	out := &host{exact: make(map[string]*Route), prefix: make(map[string]*Route)}
	out.own = compile("/*", &h.Policy)
	out.own.Access.name(name, "")
	for i := range h.Routes {
		path := &h.Routes[i]
		merged := merge(&h.Policy, &path.Policy)
		r := compile(path.Path, &merged)
		if path.Access.Rates == nil {
			r.Access.name(name, "") // one bucket with the host
		} else {
			r.Access.name(name, path.Path)
		}
		base, isPrefix := strings.CutSuffix(path.Path, "/*")
		switch {
		case !isPrefix:
			out.exact[path.Path] = r
		case base == "":
			out.own = r
		default:
			out.prefix[base] = r
			out.longest = max(out.longest, len(base))
		}
	}
	out.setShares()
	return out
}

func (h *host) setShares() {
	all := append(slices.Collect(maps.Values(h.exact)), slices.Collect(maps.Values(h.prefix))...)
	all = append(all, h.own)
	shares := slices.ContainsFunc(all, func(r *Route) bool { return !*r.Key.Host })
	for _, r := range all {
		r.Shares = shares
	}
}

// merge returns the policy of a path: its own where it says something, else its
// host's. Field rules and key parts are merged one by one.
func merge(host, path *Policy) Policy {
	out := *path
	if out.Origin == "" {
		out.Origin = host.Origin
	}
	if out.Methods == nil {
		out.Methods = host.Methods
	}
	inherit(&out.Purge, host.Purge)
	inherit(&out.IdempotencyKey, host.IdempotencyKey)
	out.Access = mergeAccess(&host.Access, &path.Access)
	if out.BodyBytes == 0 {
		out.BodyBytes = host.BodyBytes
	}
	if out.Rewrite == nil {
		out.Rewrite = host.Rewrite
	}
	out.Request = mergeFields(host.Request, path.Request)
	out.Response = mergeFields(host.Response, path.Response)
	out.Cache = mergeCache(&host.Cache, &path.Cache)
	out.Fallback = Fallback{
		Origin: cmp.Or(path.Fallback.Origin, host.Fallback.Origin),
		Page:   cmp.Or(path.Fallback.Page, host.Fallback.Page),
		Status: cmp.Or(path.Fallback.Status, host.Fallback.Status),
	}
	return out
}

func mergeCache(host, path *Cache) Cache {
	out := *path
	inherit(&out.Bypass, host.Bypass)
	inherit(&out.StaleWhileRevalidate, host.StaleWhileRevalidate)
	inherit(&out.StaleIfError, host.StaleIfError)
	inherit(&out.RequestDirectives, host.RequestDirectives)
	inherit(&out.StripSetCookie, host.StripSetCookie)
	inherit(&out.StatusKey, host.StatusKey)
	if out.Targets == nil {
		out.Targets = host.Targets
	}
	if out.Vary == nil {
		out.Vary = host.Vary
	}
	inherit(&out.Key.Host, host.Key.Host)
	inherit(&out.Key.Query.Allow, host.Key.Query.Allow)
	inherit(&out.Key.Query.Sort, host.Key.Query.Sort)
	if out.Key.Query.Deny == nil {
		out.Key.Query.Deny = host.Key.Query.Deny
	}
	if out.Key.Headers == nil {
		out.Key.Headers = host.Key.Headers
	}
	if out.Key.Cookies == nil {
		out.Key.Cookies = host.Key.Cookies
	}
	if out.Freshness == nil {
		out.Freshness = host.Freshness
	}
	if out.MaxBytes == 0 {
		out.MaxBytes = host.MaxBytes
	}
	out.Compress.inherit(&host.Compress)
	return out
}

func inherit[T any](own **T, from *T) {
	if *own == nil {
		*own = from
	}
}

// mergeFields lets a path's rules win over its host's for the same field.
func mergeFields(host, path Fields) Fields {
	host, path = compileFields(host), compileFields(path)
	named := func(name string) bool {
		_, set := path.Set[name]
		_, added := path.Add[name]
		return set || added || slices.Contains(path.Remove, name)
	}
	out := path
	out.Set, out.Add = mergeValues(host.Set, path.Set, named), mergeValues(host.Add, path.Add, named)
	for _, name := range host.Remove {
		if !named(name) {
			out.Remove = append(out.Remove, name)
		}
	}
	slices.Sort(out.Remove)
	return out
}

// mergeValues returns path with those of host that path's rules do not name.
func mergeValues(host, path map[string]string, named func(string) bool) map[string]string {
	for name, value := range host {
		if named(name) {
			continue
		}
		if path == nil {
			path = make(map[string]string)
		}
		path[name] = value
	}
	return path
}

// compileFields returns a copy with names in lower case.
func compileFields(f Fields) Fields {
	return Fields{Set: lowerKeys(f.Set), Add: lowerKeys(f.Add), Remove: lower(f.Remove)}
}

func lowerKeys(values map[string]string) map[string]string {
	if len(values) == 0 {
		return nil
	}
	out := make(map[string]string, len(values))
	for name, value := range values {
		out[strings.ToLower(name)] = value
	}
	return out
}

// compilePolicy takes a policy with defaults filled in.
func compilePolicy(p *Policy) *Route {
	c := &p.Cache
	r := &Route{
		Origin:               p.Origin,
		Access:               compileAccess(&p.Access),
		BodyBytes:            int64(p.BodyBytes),
		Request:              compileFields(p.Request),
		Response:             compileFields(p.Response),
		Fallback:             p.Fallback.Origin,
		PageStatus:           p.Fallback.Status,
		page:                 p.Fallback.Page,
		Bypass:               *c.Bypass,
		Key:                  c.Key,
		Freshness:            c.Freshness,
		StaleWhileRevalidate: *c.StaleWhileRevalidate,
		StaleIfError:         *c.StaleIfError,
		MaxBytes:             int64(c.MaxBytes),
		RequestDirectives:    *c.RequestDirectives,
		StripSetCookie:       *c.StripSetCookie,
		StatusKey:            *c.StatusKey,
		lifetimes:            compileLifetimes(c.Freshness),
		query:                compileQuery(&c.Key.Query),
		allow:                defaultMethods,
	}
	r.compileCompress(&c.Compress)
	for _, name := range c.Targets {
		r.Targets = append(r.Targets, strings.ToLower(name))
	}
	for name, values := range c.Vary {
		if r.Vary == nil {
			r.Vary = make(map[string][]string, len(c.Vary))
		}
		r.Vary[strings.ToLower(name)] = values
	}
	r.Key.Headers = lower(c.Key.Headers)
	r.Key.Cookies = slices.Compact(slices.Sorted(slices.Values(c.Key.Cookies)))
	if w := p.Rewrite; w != nil && *w != (Rewrite{}) {
		r.Rewrite = &Rewrite{
			StripPrefix: strings.TrimSuffix(w.StripPrefix, "/"),
			AddPrefix:   strings.TrimSuffix(w.AddPrefix, "/"),
		}
	}
	if p.Methods != nil {
		r.Methods = slices.Clone(p.Methods)
		if slices.Contains(r.Methods, "GET") && !slices.Contains(r.Methods, "HEAD") {
			r.Methods = append(r.Methods, "HEAD")
		}
		r.allow = strings.Join(r.Methods, ", ")
	}
	r.IdempotencyKey = p.IdempotencyKey != nil && *p.IdempotencyKey
	if r.Purge = p.Purge != nil && *p.Purge; r.Purge {
		r.allow += ", PURGE"
	}
	return r
}

// lower returns the names in lower case, sorted, each once.
func lower(names []string) []string {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[strings.ToLower(name)] = true
	}
	return slices.Sorted(maps.Keys(set))
}
