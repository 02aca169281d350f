package route

import (
	"slices"
)

// KeyRules are the part of hosts that decides under which key a URL is stored. A node
// remembers those that were in force before: what was stored under them may be used
// again when they are back, and a purge by URL has to find it.
type KeyRules []HostKeys

// HostKeys are the rules of one host.
type HostKeys struct {
	Names []string
	URLKey
	// Paths with rules of their own, or none where nothing of the host has any.
	Paths []PathKeys `json:",omitempty"`
}

// PathKeys are the rules of a path of a host.
type PathKeys struct {
	Path string
	URLKey
}

// URLKey is Key without what is no part of a URL. nil is not configured.
type URLKey struct {
	Host  *bool     `json:",omitempty"`
	Allow *[]string `json:",omitempty"`
	Deny  *[]string `json:",omitempty"`
	Sort  *bool     `json:",omitempty"`
}

// KeyRulesOf returns the rules of hosts; none where all have the default.
func KeyRulesOf(hosts []Host) KeyRules {
	rules := make(KeyRules, 0, len(hosts))
	configured := false
	for i := range hosts {
		h := HostKeys{Names: slices.Clone(hosts[i].Names), URLKey: urlKey(&hosts[i].Cache.Key)}
		own := h.URLKey != URLKey{}
		for k := range hosts[i].Routes {
			p := PathKeys{hosts[i].Routes[k].Path, urlKey(&hosts[i].Routes[k].Cache.Key)}
			own = own || p.URLKey != URLKey{}
			h.Paths = append(h.Paths, p)
		}
		if !own {
			h.Paths = nil
		}
		configured = configured || own
		rules = append(rules, h)
	}
	if !configured {
		return nil
	}
	return rules
}

func urlKey(k *Key) (key URLKey) {
	key.Host, key.Sort = k.Host, k.Query.Sort
	if k.Query.Allow != nil {
		allow := append([]string{}, *k.Query.Allow...)
		key.Allow = &allow
	}
	if k.Query.Deny != nil {
		deny := append([]string{}, k.Query.Deny...)
		key.Deny = &deny
	}
	return key
}

// key undoes urlKey.
func (k *URLKey) key() (key Key) {
	key.Host, key.Query.Sort, key.Query.Allow = k.Host, k.Sort, k.Allow
	if k.Deny != nil {
		key.Query.Deny = *k.Deny
	}
	return key
}

// Table returns what finds the rules for a URL: its routes are of use for keys alone.
func (rules KeyRules) Table() (*Table, error) {
	const nowhere = "none"
	hosts := make([]Host, len(rules))
	for i := range rules {
		r := &rules[i]
		hosts[i] = Host{Names: r.Names, Policy: Policy{Origin: nowhere, Cache: Cache{Key: r.key()}}}
		for k := range r.Paths {
			hosts[i].Routes = append(hosts[i].Routes, Path{Path: r.Paths[k].Path, Policy: Policy{Cache: Cache{Key: r.Paths[k].key()}}})
		}
	}
	return NewTable(hosts)
}
