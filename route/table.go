package route

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"
)

// Table finds the Route of a request. It is immutable and safe for use by many
// goroutines; a reload makes a new one.
type Table struct {
	exact    map[string]*host // "www.example.com"
	wildcard map[string]*host // ".example.com" for "*.example.com"
	rest     *host            // "*", or nil
	names    []string
}

// host is one compiled Host. Paths are normalised patterns without "/*".
type host struct {
	own     *Route // the host's own policy
	exact   map[string]*Route
	prefix  map[string]*Route
	longest int // length of the longest prefix, which bounds the walk
}

// hostBytesMax bounds the host of a request: a DNS name of 253 bytes, its final
// dot and a port.
const hostBytesMax = 260

// NewTable validates and compiles hosts. Whether the origins they name exist is
// not its affair.
func NewTable(hosts []Host) (*Table, error) {
	var problems []error
	ValidateHosts(hosts, nil, func(path, problem string) {
		problems = append(problems, fmt.Errorf("route: hosts%s: %s", path, problem))
	})
	if problems != nil {
		return nil, errors.Join(problems...)
	}
	read := pages{}
	t := &Table{exact: make(map[string]*host), wildcard: make(map[string]*host)}
	for i := range hosts {
		compiled := compileHost(&hosts[i], i)
		if err := read.load(compiled); err != nil {
			return nil, err
		}
		t.names = append(t.names, compiled.own.Host)
		for _, name := range hosts[i].Names {
			name = strings.ToLower(name)
			if name == "*" {
				t.rest = compiled
			} else if suffix, ok := strings.CutPrefix(name, "*"); ok {
				t.wildcard[suffix] = compiled
			} else {
				t.exact[name] = compiled
			}
		}
	}
	return t, nil
}

// Hosts returns the first name of each host, by HostIndex.
func (t *Table) Hosts() []string { return t.names }

// ClientCA returns the client_ca of the host that has a name (lower case), "" for none.
func (t *Table) ClientCA(name string) string {
	if h := t.host(name); h != nil {
		return h.own.ClientCA
	}
	return ""
}

// Match returns the route of a request for host (lower case, without the
// scheme's default port) and target (origin form as sent, or "*"). It fails with
// ErrNoHost, ErrNoRoute or ErrAmbiguous; with ErrNoRoute comes the route that has no
// origin. The port does not matter, nor does a final dot. Where path and host are in the
// usual form nothing is allocated.
func (t *Table) Match(host, target string) (*Route, error) {
	h := t.host(host)
	if h == nil {
		return nil, ErrNoHost
	}
	r, err := h.match(target)
	if err != nil {
		return nil, err
	}
	if r.Origin == "" && len(r.redirects) == 0 {
		return r, ErrNoRoute
	}
	return r, nil
}

func (t *Table) host(name string) *host {
	if len(name) > hostBytesMax || !plainHost(name) {
		return nil
	}
	name = strings.TrimSuffix(withoutPort(name), ".")
	if h := t.exact[name]; h != nil {
		return h
	}
	if len(t.wildcard) > 0 {
		for i := 1; i < len(name); i++ {
			if name[i] == '.' {
				if h := t.wildcard[name[i:]]; h != nil {
					return h
				}
			}
		}
	}
	return t.rest
}

// plainHost reports whether name holds only bytes that hosts and ports are
// written with, so that it can be put into a Location.
func plainHost(name string) bool {
	for i := range len(name) {
		if c := name[i]; !unreserved(c) && c != ':' && c != '[' && c != ']' {
			return false
		}
	}
	return true
}

// withoutPort cuts ":8080" off; the colons of "[::1]" are not ports.
func withoutPort(name string) string {
	if i := strings.LastIndexByte(name, ':'); i >= 0 && strings.LastIndexByte(name, ']') < i {
		return name[:i]
	}
	return name
}

func (h *host) match(target string) (*Route, error) {
	if target == "*" {
		return h.own, nil
	}
	path, _, _ := strings.Cut(target, "?")
	if path == "" || path[0] != '/' {
		return nil, ErrNoRoute
	}
	raw := h.find(path)
	if normal(path) || len(h.exact)+len(h.prefix) == 0 {
		return raw, nil
	}
	var buffer [1024]byte
	if h.find(view(appendNormal(buffer[:0], path))) != raw {
		return nil, ErrAmbiguous
	}
	return raw, nil
}

// view reads b as a string without a copy. The string must not outlive the call
// that made b, nor b be written to meanwhile.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// find walks from the whole path to its shorter prefixes.
func (h *host) find(path string) *Route {
	if r := h.exact[path]; r != nil {
		return r
	}
	if len(h.prefix) == 0 {
		return h.own
	}
	if len(path) > h.longest {
		// A prefix ends where a segment does: cut there at the latest.
		end := h.longest
		if path[end] != '/' {
			end = strings.LastIndexByte(path[:end], '/')
		}
		path = path[:max(end, 0)]
	}
	for path != "" {
		if r := h.prefix[path]; r != nil {
			return r
		}
		path = path[:max(strings.LastIndexByte(path, '/'), 0)]
	}
	return h.own
}
