package purge

// names.go reads what a Request names into what the cache forgets.

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"edgecdn/cache"
	"edgecdn/internal/authority"
)

// What one request may name.
const (
	URLsMax     = purgesMax
	PrefixesMax = 256
	HostsMax    = 256
	GroupsMax   = 256
	// problemsMax bounds FieldErrors: who got all wrong need not read all of it.
	problemsMax = 100
)

// FieldError says what is wrong with a part of a Request.
type FieldError struct {
	Field  string // such as urls[3] or groups.host, "" for the whole
	Detail string
}

// FieldErrors is what is wrong with a Request, in the order of its fields.
type FieldErrors []FieldError

func (e FieldErrors) Error() string {
	all := make([]string, len(e))
	for i, f := range e {
		all[i] = strings.TrimPrefix(f.Field+": "+f.Detail, ": ")
	}
	return "purge: " + strings.Join(all, "; ")
}

// resolve returns what the cache is to forget, or FieldErrors.
func resolve(r *Request) ([]cache.Purge, error) {
	v := resolver{soft: r.Soft}
	if len(r.Actor) > actorBytesMax || !plain(r.Actor) {
		v.wrong("actor", "must be text of at most %d bytes", actorBytesMax)
	}
	if len(r.Reason) > ReasonBytesMax || !plain(r.Reason) {
		v.wrong("reason", "must be text of at most %d bytes, without control characters", ReasonBytesMax)
	}
	kinds := 0
	for _, has := range [...]bool{len(r.URLs) > 0, len(r.Prefixes) > 0, len(r.Hosts) > 0, r.Groups.Host != "" || len(r.Groups.Names) > 0, r.All} {
		if has {
			kinds++
		}
	}
	if kinds != 1 {
		v.wrong("", "name one of urls, prefixes, hosts, groups or all")
		return nil, v.problems
	}
	v.each("urls", r.URLs, URLsMax, v.url)
	v.each("prefixes", r.Prefixes, PrefixesMax, v.prefix)
	v.each("hosts", r.Hosts, HostsMax, v.host)
	v.groups(&r.Groups)
	if r.All {
		v.add("all", cache.Purge{Kind: cache.PurgeEverything})
	}
	if len(v.problems) > 0 {
		return nil, v.problems
	}
	return v.all, nil
}

// resolver turns names into what the cache forgets, and collects what is wrong.
type resolver struct {
	soft     bool
	all      []cache.Purge
	problems FieldErrors
}

func (v *resolver) wrong(field, format string, args ...any) {
	if len(v.problems) < problemsMax {
		v.problems = append(v.problems, FieldError{field, fmt.Sprintf(format, args...)})
	}
}

func (v *resolver) add(field string, p cache.Purge) {
	p.Soft = v.soft
	if err := p.Check(); err != nil {
		v.wrong(field, "%s", strings.TrimPrefix(err.Error(), cache.ErrPurge.Error()+": "))
		return
	}
	v.all = append(v.all, p)
}

// each has read take each text of a list.
func (v *resolver) each(field string, texts []string, most int, read func(field, text string)) {
	if len(texts) > most {
		v.wrong(field, "names %d: at most %d a purge", len(texts), most)
		return
	}
	for i, text := range texts {
		at := fmt.Sprintf("%s[%d]", field, i)
		if len(text) > nameBytesMax {
			v.wrong(at, "has %d bytes: at most %d", len(text), nameBytesMax)
			continue
		}
		read(at, text)
	}
}

// url reads an absolute URL as the server reads the target and host of a request
// for it; bytes of path and query stay as they are.
func (v *resolver) url(field, text string) {
	scheme, rest, ok := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "http" && scheme != "https" || !plainTarget(text) {
		v.wrong(field, "is no absolute http or https URL without spaces and fragment, such as https://www.example.com/logo.svg")
		return
	}
	named, target := rest, "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		named, target = rest[:i], rest[i:]
	}
	if target[0] == '?' {
		target = "/" + target
	}
	host, ok := authority.Parse(named, scheme)
	if !ok {
		v.wrong(field, "has no valid host: a name or address and perhaps a port, no user")
		return
	}
	v.add(field, cache.Purge{Kind: cache.PurgeURL, Scheme: scheme, Host: host, Name: target})
}

func (v *resolver) prefix(field, text string) {
	if _, rest, ok := strings.Cut(text, "://"); ok {
		v.wrong(field, "has a scheme: prefixes mean both, write %s", rest)
		return
	}
	slash := strings.IndexByte(text, '/')
	if slash < 0 {
		v.wrong(field, "has no path: purge the host, or write it such as www.example.com/static")
		return
	}
	host, path := v.named(field, text[:slash]), text[slash:]
	switch {
	case host == "":
	case strings.HasSuffix(path, "*"):
		v.wrong(field, "ends in a pattern: there are none, and no regular expressions; a prefix ends where a segment does: write %s", strings.TrimRight(text, "*/"))
	case !plainTarget(path) || strings.Contains(path, "?"):
		v.wrong(field, "is no path as clients send it: no query, no fragment, no spaces")
	default:
		if path != "/" {
			path = strings.TrimSuffix(path, "/")
		}
		v.add(field, cache.Purge{Kind: cache.PurgePrefix, Host: host, Name: path})
	}
}

// named reads a host, "" for what is none.
func (v *resolver) named(field, text string) string {
	host, ok := authority.Parse(text, "")
	if !ok {
		v.wrong(field, "has no valid host: a name or address and perhaps a port, such as www.example.com")
		return ""
	}
	return host
}

func (v *resolver) host(field, text string) {
	if host := v.named(field, text); host != "" {
		v.add(field, cache.Purge{Kind: cache.PurgeHost, Host: host})
	}
}

func (v *resolver) groups(g *Groups) {
	if len(g.Names) == 0 && g.Host == "" {
		return
	}
	host := v.named("groups.host", g.Host)
	if host == "" {
		return
	}
	if len(g.Names) == 0 {
		v.wrong("groups.names", "is missing: name the groups, or purge the host")
	}
	v.each("groups.names", g.Names, GroupsMax, func(field, name string) {
		if name == "" || !plain(name) {
			v.wrong(field, "is no name of a group: text without control characters")
			return
		}
		v.add(field, cache.Purge{Kind: cache.PurgeGroup, Host: host, Name: name})
	})
}

// plain tells whether text is UTF-8 without control characters.
func plain(text string) bool {
	for _, r := range text {
		if r < ' ' || r == 0x7f {
			return false
		}
	}
	return utf8.ValidString(text)
}

// plainTarget tells whether text may be, or be in, the target of a request (RFC
// 3986 2): visible ASCII without a fragment.
func plainTarget(text string) bool {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return true
}
