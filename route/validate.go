package route

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"edgecdn/internal/unit"
)

// Bounds of a configuration. They are far above what people write and keep
// matching, key building and reload cheap.
const (
	hostsMax      = 10_000
	namesMax      = 1_000
	routesMax     = 10_000
	redirectsMax  = 1_000
	rulesMax      = 100
	keyPartsMax   = 32
	parameterMax  = 128
	patternMax    = 1_024
	valueBytesMax = 4_096
	lifetimeMax   = 10 * 365 * 24 * time.Hour
)

// reporter takes problems with the yaml path that they are at.
type reporter func(path, problem string)

func (report reporter) add(path, format string, args ...any) {
	report(path, fmt.Sprintf(format, args...))
}

// ValidateHosts reports what is wrong with a list of hosts and how to mend it.
// Paths are relative to the list, such as "[0].routes[2].path". origin says what
// is wrong with the name of an origin, "" being nothing; nil leaves that unchecked.
func ValidateHosts(hosts []Host, origin func(name string) (problem string), report func(path, problem string)) {
	r := reporter(report)
	if len(hosts) > hostsMax {
		r.add("", "%d hosts are too many: at most %d", len(hosts), hostsMax)
		return
	}
	taken := make(map[string]string)
	for i := range hosts {
		at := fmt.Sprintf("[%d]", i)
		validateNames(at, hosts[i].Names, taken, r)
		validateRedirects(at, hosts[i].Redirects, r)
		validatePolicy(at, &hosts[i].Policy, origin, r)
		validateRoutes(at, &hosts[i], origin, r)
		hosts[i].HSTS.validate(at+".hsts", r)
	}
}

func validateNames(at string, names []string, taken map[string]string, r reporter) {
	if len(names) == 0 {
		r.add(at+".names", `is empty: list the names that this host answers to, such as www.example.com, or "*" for all`)
	}
	if len(names) > namesMax {
		r.add(at+".names", "%d names are too many: at most %d", len(names), namesMax)
		return
	}
	for k, name := range names {
		path := fmt.Sprintf("%s.names[%d]", at, k)
		if problem := hostProblem(name); problem != "" {
			r.add(path, "%q %s", name, problem)
			continue
		}
		if other, ok := taken[strings.ToLower(name)]; ok {
			r.add(path, "%q is already named by %s: keep one of them", name, other)
			continue
		}
		taken[strings.ToLower(name)] = "hosts" + path
	}
}

// hostProblem says what keeps name from being matched; "" is nothing.
func hostProblem(name string) string {
	if name == "*" {
		return ""
	}
	base := strings.TrimPrefix(name, "*.")
	for i := range len(base) {
		if base[i] >= 0x80 {
			return "is not ASCII: write it as it is sent, in punycode (xn--...)"
		}
	}
	if base == name && strings.HasPrefix(base, "[") && strings.HasSuffix(base, "]") {
		if addr, err := netip.ParseAddr(base[1 : len(base)-1]); err == nil && addr.Is6() && addr.Zone() == "" {
			return ""
		}
	}
	switch {
	case strings.Contains(base, "://"):
		return "is a URL: write the host's name only"
	case strings.Contains(base, "*"):
		return `has a "*" that is not its whole first label: write "*.example.com" or "*"`
	case withoutPort(base) != base:
		return "has a port: names hold for all ports, leave it out"
	case strings.HasSuffix(base, "."):
		return "ends in a dot: leave it out, it is matched with and without"
	case len(base) > 253:
		return "is longer than 253 bytes, which no DNS name is"
	}
	for label := range strings.SplitSeq(base, ".") {
		if label == "" || len(label) > 63 {
			return "has a label that is empty or longer than 63 bytes"
		}
		for i := range len(label) {
			if c := label[i]; !unreserved(c) || c == '~' {
				return fmt.Sprintf("holds %q, which no host name does", c)
			}
		}
	}
	return ""
}

func validateRedirects(at string, redirects []Redirect, r reporter) {
	if len(redirects) > redirectsMax {
		r.add(at+".redirects", "%d redirects are too many: at most %d", len(redirects), redirectsMax)
		return
	}
	for k := range redirects {
		rule, at := &redirects[k], fmt.Sprintf("%s.redirects[%d]", at, k)
		if rule.Scheme != "" && rule.Scheme != "http" && rule.Scheme != "https" {
			r.add(at+".scheme", "%q is not http or https", rule.Scheme)
		}
		if rule.Path != "" {
			validatePattern(at+".path", rule.Path, r)
		}
		if rule.Status != 0 && !slices.Contains([]int{301, 302, 303, 307, 308}, rule.Status) {
			r.add(at+".status", "%d is not a redirect: use 301, 302, 303, 307 or 308", rule.Status)
		}
		if problem := toProblem(rule.To); problem != "" {
			r.add(at+".to", "%s", problem)
		}
	}
}

// toProblem refuses what would let a client choose the host of a Location.
func toProblem(to string) string {
	pieces, err := parseTo(to)
	switch {
	case to == "":
		return `is missing: say where to, such as "https://{host}{target}"`
	case err != nil:
		return err.Error()
	case len(to) > patternMax:
		return fmt.Sprintf("is longer than %d bytes", patternMax)
	}
	for i := range len(to) {
		if to[i] <= ' ' || to[i] >= 0x7f {
			return "holds a byte that is not visible ASCII: percent-encode it"
		}
	}
	if first := pieces[0]; first.placeholder == 'p' || first.placeholder == 't' || strings.HasPrefix(first.text, "/") {
		return "" // this host: Redirect keeps it there
	}
	rest, ok := strings.CutPrefix(to, "https://")
	if !ok {
		rest, ok = strings.CutPrefix(to, "http://")
	}
	if !ok {
		return `must begin with "https://", "http://", "/", {path} or {target}`
	}
	authority := rest
	for _, end := range []string{"/", "{path}", "{target}"} {
		authority, _, _ = strings.Cut(authority, end)
	}
	if authority == "" {
		return "names no host after the scheme"
	}
	if strings.ContainsAny(strings.ReplaceAll(authority, "{host}", ""), `{}@\?#`) {
		return `lets the client choose the host: put "/" before {rest} and "?"`
	}
	return ""
}

func validateRoutes(at string, host *Host, origin func(string) string, r reporter) {
	if len(host.Routes) > routesMax {
		r.add(at+".routes", "%d routes are too many: at most %d", len(host.Routes), routesMax)
		return
	}
	paths := make(map[string]int)
	hasOrigin := host.Origin != "" || len(host.Redirects) > 0
	for k := range host.Routes {
		route, at := &host.Routes[k], fmt.Sprintf("%s.routes[%d]", at, k)
		hasOrigin = hasOrigin || route.Origin != ""
		validatePattern(at+".path", route.Path, r)
		if first, ok := paths[route.Path]; ok && route.Path != "" {
			r.add(at+".path", "%q is already the path of routes[%d]: merge them", route.Path, first)
		} else {
			paths[route.Path] = k
		}
		validatePolicy(at, &route.Policy, origin, r)
	}
	if !hasOrigin {
		r.add(at+".origin", "is missing: name the origin that answers misses, or give redirects")
	}
}

// validatePattern wants patterns in normalised form: no other could match both ways.
func validatePattern(at, pattern string, r reporter) {
	switch base := strings.TrimSuffix(pattern, "/*"); {
	case pattern == "":
		r.add(at, `is missing: write a path such as /robots.txt or a prefix such as /static/*`)
	case pattern[0] != '/':
		r.add(at, "%q does not begin with a slash: write %q", pattern, "/"+pattern)
	case len(pattern) > patternMax:
		r.add(at, "is longer than %d bytes", patternMax)
	case strings.ContainsAny(pattern, "?#"):
		r.add(at, "%q holds a query or fragment: paths are matched without", pattern)
	case strings.Contains(base, "*"):
		r.add(at, `%q has a "*" that is not its last segment: write /prefix/* or an exact path`, pattern)
	case base != "" && !normal(base):
		suffix := pattern[len(base):]
		clean := string(appendNormal(nil, base))
		if suffix != "" {
			clean = strings.TrimSuffix(clean, "/")
		}
		r.add(at, "%q is not in normal form (RFC 3986 6.2.2): write %q", pattern, clean+suffix)
	case strings.HasSuffix(base, "/") && base != pattern:
		r.add(at, "%q is not in normal form: write %q", pattern, strings.TrimRight(base, "/")+"/*")
	}
}

func validatePolicy(at string, p *Policy, origin func(string) string, r reporter) {
	if p.Origin != "" && origin != nil {
		if problem := origin(p.Origin); problem != "" {
			r.add(at+".origin", "%s", problem)
		}
	}
	validateFallback(at+".fallback", p, origin, r)
	if p.Methods != nil && len(p.Methods) == 0 {
		r.add(at+".methods", "is an empty list, which lets nothing in: leave it out or name methods")
	}
	for k, method := range p.Methods {
		path := fmt.Sprintf("%s.methods[%d]", at, k)
		switch {
		case !token(method):
			r.add(path, "%q is not a method: write one such as GET", method)
		case method == "CONNECT":
			r.add(path, "CONNECT asks for a tunnel, which a host cannot give: leave it out")
		case method == "PURGE":
			r.add(path, "PURGE is for the edge and is never passed on: leave it out, and set purge: true where it is let in")
		case strings.ToUpper(method) != method && slices.Contains(knownMethods, strings.ToUpper(method)):
			r.add(path, "methods are case-sensitive: write %q instead of %q", strings.ToUpper(method), method)
		}
	}
	validateAccess(at+".access", &p.Access, r)
	if p.BodyBytes < 0 || p.BodyBytes > unit.TiB {
		r.add(at+".body_bytes", "%s is out of bounds: choose from 1B to 1TiB", p.BodyBytes)
	}
	if p.Rewrite != nil {
		validateRewrite(at+".rewrite.strip_prefix", p.Rewrite.StripPrefix, r)
		validateRewrite(at+".rewrite.add_prefix", p.Rewrite.AddPrefix, r)
	}
	validateFields(at+".request", p.Request, requestFieldsKept, r)
	validateFields(at+".response", p.Response, responseFieldsKept, r)
	validateCache(at+".cache", &p.Cache, r)
}

func validateFallback(at string, p *Policy, origin func(string) string, r reporter) {
	f := &p.Fallback
	if f.Origin != "" && origin != nil {
		if problem := origin(f.Origin); problem != "" {
			r.add(at+".origin", "%s", problem)
		}
	}
	if f.Origin != "" && f.Origin == p.Origin {
		r.add(at+".origin", "%q is the origin that it would stand in for: name another", f.Origin)
	}
	if f.Status != 0 && (f.Status < 200 || f.Status > 599 || f.Status == 204 || f.Status == 205 || f.Status == 206 || f.Status/100 == 3) {
		r.add(at+".status", "%d does not fit a page of its own: choose 503 or another of 4xx and 5xx, or 200", f.Status)
	}
}

var knownMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut,
	http.MethodPatch, http.MethodDelete, http.MethodOptions, http.MethodTrace,
}

func validateRewrite(at, prefix string, r reporter) {
	if prefix == "" {
		return
	}
	if prefix[0] != '/' {
		r.add(at, "%q does not begin with a slash: write %q", prefix, "/"+prefix)
		return
	}
	if len(prefix) > patternMax {
		r.add(at, "is longer than %d bytes", patternMax)
	}
	if strings.HasPrefix(prefix, "//") {
		r.add(at, `%q begins with "//", which would name a host: write one slash`, prefix)
	}
	for i := range len(prefix) {
		if c := prefix[i]; c <= ' ' || c >= 0x7f || c == '?' || c == '#' || c == '\\' {
			r.add(at, "%q holds %q, which no path does: percent-encode it", prefix, c)
			return
		}
	}
}
