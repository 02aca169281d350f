package pool

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	endpointsMax = 256
	weightMax    = 1000
	priorityMax  = 100
	resolversMax = 8
	// readyTimeout is how long requests wait for the first answer of DNS.
	readyTimeout = 5 * time.Second
)

// Policies.
const (
	PolicyEWMA             = "ewma"
	PolicyRoundRobin       = "round-robin"
	PolicyLeastConnections = "least-connections"
	PolicyMaglev           = "maglev"
)

// Kinds of probes, and of records.
const (
	HealthOff   = "off"
	HealthHTTP  = "http"
	HealthTCP   = "tcp"
	DiscoverA   = "a"
	DiscoverSRV = "srv"
)

// Endpoint is one place where the service is.
type Endpoint struct {
	// Address is host and port; without a port, that of the service.
	Address string `yaml:"address"`
	// Weight among the endpoints of its priority. Default 1.
	Weight int `yaml:"weight"`
	// Priority: 0 is asked first, others only when no endpoint of a lower number is usable.
	Priority int `yaml:"priority"`
}

// Discover says how endpoints are found in DNS.
type Discover struct {
	// Name to look up; "" is none. Default: none.
	Name string `yaml:"name"`
	// Type of record: a (A and AAAA) or srv. Default a.
	Type string `yaml:"type"`
	// Resolvers to ask, host and port. Default: those of /etc/resolv.conf.
	Resolvers []string `yaml:"resolvers"`
	// TTLMin bounds how often is asked again. Default 1s.
	TTLMin time.Duration `yaml:"ttl_min"`
	// TTLMax bounds how long an answer is believed. Default 5m.
	TTLMax time.Duration `yaml:"ttl_max"`
}

func (d Discover) key() string {
	return strings.Join(append([]string{d.Name, d.Type, d.TTLMin.String(), d.TTLMax.String()}, d.Resolvers...), " ")
}

// Health says how endpoints are probed.
type Health struct {
	// Type is http, tcp or off. Default off: only requests tell.
	Type string `yaml:"type"`
	// Path to ask for by http. Default /.
	Path string `yaml:"path"`
	// Host to ask for by http. Default: that of the service.
	Host string `yaml:"host"`
	// Statuses that are good. Default: 200 to 299.
	Statuses []int `yaml:"statuses"`
	// Body is a text that must be in the first 64 KiB of the answer. Default: none.
	Body string `yaml:"body"`
	// Interval between probes, give or take a fifth. Default 5s.
	Interval time.Duration `yaml:"interval"`
	// Timeout of a probe. Default 2s.
	Timeout time.Duration `yaml:"timeout"`
	// Rise is how many probes in a row bring an endpoint up. Default 2.
	Rise int `yaml:"rise"`
	// Fall is how many in a row take it down. Default 3.
	Fall int `yaml:"fall"`
}

func (h Health) key() string { return fmt.Sprintf("%+v", h) }

// Breaker says when an endpoint is left alone for a while because requests to it fail.
type Breaker struct {
	// Off leaves endpoints never alone.
	Off bool `yaml:"off"`
	// Consecutive failures open it. Default 5.
	Consecutive int `yaml:"consecutive"`
	// Ratio of failures that opens it, in percent. Default 50.
	Ratio int `yaml:"ratio"`
	// Requests that there must be in the window for the ratio to count. Default 20.
	Requests int `yaml:"requests"`
	// Window in which failures are counted. Default 10s.
	Window time.Duration `yaml:"window"`
	// Open is how long it stays open; twice as long each time it opens again. Default 1s.
	Open time.Duration `yaml:"open"`
	// OpenMax bounds that. Default 30s.
	OpenMax time.Duration `yaml:"open_max"`
	// Trials are let through at once when that time is over, and close it when so many went well. Default 3.
	Trials int `yaml:"trials"`
	// OpenShare of the endpoints may be unusable, in percent; when more are, all are tried. Default 100.
	OpenShare int `yaml:"open_share"`
}

// Config of a pool.
type Config struct {
	// Endpoints that are known.
	Endpoints []Endpoint `yaml:"endpoints"`
	// Discover finds more.
	Discover Discover `yaml:"discover"`
	// Policy by which one is chosen: ewma, round-robin, least-connections or maglev. Default ewma.
	Policy string `yaml:"policy"`
	// SlowStart is the time in which an endpoint that is new or has recovered gets its full share. Default 10s.
	SlowStart time.Duration `yaml:"slow_start"`
	// Health says how endpoints are probed.
	Health Health `yaml:"health"`
	// Breaker says when an endpoint is left alone.
	Breaker Breaker `yaml:"breaker"`
	// Concurrency is how many requests may be under way at once; further ones queue. Default 1024.
	Concurrency int `yaml:"concurrency"`
	// Queue is how many may wait. Default 1024.
	Queue int `yaml:"queue"`
	// QueueTimeout is how long. Default 5s.
	QueueTimeout time.Duration `yaml:"queue_timeout"`

	// Port of endpoints that have none.
	Port int `yaml:"-" json:"-"`
	// Probe holds what Health does not say: TLS, the service's Host, how to dial.
	Probe Probe `yaml:"-" json:"-"`
	// Gone is called with an address that is no endpoint any more.
	Gone func(address string) `yaml:"-" json:"-"`
}

// WithDefaults returns the configuration with what was left out filled in.
func (c Config) WithDefaults() Config {
	c.Endpoints = slices.Clone(c.Endpoints)
	for i := range c.Endpoints {
		c.Endpoints[i].Weight = cmp.Or(c.Endpoints[i].Weight, 1)
	}
	c.Policy = cmp.Or(c.Policy, PolicyEWMA)
	c.SlowStart = cmp.Or(c.SlowStart, 10*time.Second)
	c.Concurrency = cmp.Or(c.Concurrency, 1024)
	c.Queue = cmp.Or(c.Queue, 1024)
	c.QueueTimeout = cmp.Or(c.QueueTimeout, 5*time.Second)
	d, h, b := &c.Discover, &c.Health, &c.Breaker
	if d.Name != "" {
		d.Type = cmp.Or(d.Type, DiscoverA)
	}
	d.TTLMin = cmp.Or(d.TTLMin, min(time.Second, cmp.Or(d.TTLMax, time.Second)))
	d.TTLMax = cmp.Or(d.TTLMax, max(5*time.Minute, d.TTLMin))
	h.Type = cmp.Or(h.Type, HealthOff)
	if h.Type == HealthHTTP {
		h.Path = cmp.Or(h.Path, "/")
	}
	h.Interval = cmp.Or(h.Interval, 5*time.Second)
	h.Timeout = cmp.Or(h.Timeout, 2*time.Second)
	h.Rise = cmp.Or(h.Rise, 2)
	h.Fall = cmp.Or(h.Fall, 3)
	b.OpenShare = cmp.Or(b.OpenShare, 100)
	if !b.Off {
		b.Consecutive = cmp.Or(b.Consecutive, 5)
		b.Ratio = cmp.Or(b.Ratio, 50)
		b.Requests = cmp.Or(b.Requests, 20)
		b.Window = cmp.Or(b.Window, 10*time.Second)
		b.Open = cmp.Or(b.Open, time.Second)
		b.OpenMax = cmp.Or(b.OpenMax, max(30*time.Second, b.Open))
		b.Trials = cmp.Or(b.Trials, 3)
	}
	return c
}

// Validate reports everything that cannot work, each by its path in this struct.
func (c Config) Validate(report func(path, problem string)) {
	if len(c.Endpoints) > endpointsMax {
		report("endpoints", fmt.Sprintf("%d endpoints are too many: at most %d", len(c.Endpoints), endpointsMax))
	}
	seen := map[string]int{}
	for i, e := range c.Endpoints {
		path := func(key string) string { return fmt.Sprintf("endpoints[%d].%s", i, key) }
		if problem := addressProblem(e.Address); problem != "" {
			report(path("address"), problem)
		} else if first, ok := seen[e.withPort(c.Port).Address]; ok {
			report(path("address"), fmt.Sprintf("%q is endpoint %d already: give that one more weight instead", e.Address, first+1))
		} else {
			seen[e.withPort(c.Port).Address] = i
		}
		bounds(report, path("weight"), e.Weight, 1, weightMax)
		bounds(report, path("priority"), e.Priority, 0, priorityMax)
	}
	if !slices.Contains([]string{"", PolicyEWMA, PolicyRoundRobin, PolicyLeastConnections, PolicyMaglev}, c.Policy) {
		report("policy", fmt.Sprintf("%q is no policy: write ewma, round-robin, least-connections or maglev", c.Policy))
	}
	within(report, "slow_start", c.SlowStart, time.Millisecond, time.Hour)
	bounds(report, "concurrency", c.Concurrency, 1, 1<<20)
	bounds(report, "queue", c.Queue, 1, 1<<20)
	within(report, "queue_timeout", c.QueueTimeout, time.Millisecond, 10*time.Minute)
	c.Discover.validate(func(path, problem string) { report("discover."+path, problem) })
	c.Health.validate(func(path, problem string) { report("health."+path, problem) })
	c.Breaker.validate(func(path, problem string) { report("breaker."+path, problem) })
}

func (d Discover) validate(report func(path, problem string)) {
	if d.Name == "" {
		if d.Type != "" || len(d.Resolvers) > 0 {
			report("name", "is missing: write the name to look up")
		}
		return
	}
	if strings.ContainsAny(d.Name, ":/@ \\?#\t\r\n") || len(d.Name) > 253 {
		report("name", fmt.Sprintf("%q is no name: write it without scheme and port", d.Name))
	} else if _, err := netip.ParseAddr(d.Name); err == nil {
		report("name", fmt.Sprintf("%q is an address: write it under endpoints", d.Name))
	}
	if d.Type != "" && d.Type != DiscoverA && d.Type != DiscoverSRV {
		report("type", fmt.Sprintf("%q is neither a nor srv", d.Type))
	}
	if len(d.Resolvers) > resolversMax {
		report("resolvers", fmt.Sprintf("%d resolvers are too many: at most %d", len(d.Resolvers), resolversMax))
	}
	for i, r := range d.Resolvers {
		if _, err := netip.ParseAddrPort(r); err != nil {
			report(fmt.Sprintf("resolvers[%d]", i), fmt.Sprintf("%q is no address with a port: write one such as 127.0.0.1:53", r))
		}
	}
	within(report, "ttl_min", d.TTLMin, 100*time.Millisecond, time.Hour)
	within(report, "ttl_max", d.TTLMax, 100*time.Millisecond, 24*time.Hour)
	if d.TTLMax != 0 && d.TTLMin > d.TTLMax {
		report("ttl_min", fmt.Sprintf("%v is more than ttl_max, %v", d.TTLMin, d.TTLMax))
	}
}

func (h Health) validate(report func(path, problem string)) {
	web := h.Path != "" || h.Host != "" || len(h.Statuses) > 0 || h.Body != ""
	switch h.Type {
	case "", HealthOff:
		if web {
			report("type", "is off, so that path, host, statuses and body have no effect: write http")
		}
		return
	case HealthTCP:
		if web {
			report("type", "is tcp, so that path, host, statuses and body have no effect: write http or leave them out")
		}
	case HealthHTTP:
	default:
		report("type", fmt.Sprintf("%q is none of http, tcp and off", h.Type))
	}
	if h.Path != "" && (!strings.HasPrefix(h.Path, "/") || strings.ContainsAny(h.Path, " #\t\r\n")) {
		report("path", fmt.Sprintf("%q does not begin with a slash, or has a space or # in it", h.Path))
	}
	if strings.ContainsAny(h.Host, "/@ \\?#\t\r\n") {
		report("host", fmt.Sprintf("%q is not a host", h.Host))
	}
	for i, status := range h.Statuses {
		if status < 200 || status > 599 {
			report(fmt.Sprintf("statuses[%d]", i), fmt.Sprintf("%d is no status of an answer: choose from 200 to 599", status))
		}
	}
	if len(h.Body) > 1024 {
		report("body", "is longer than 1024 bytes")
	}
	within(report, "interval", h.Interval, 100*time.Millisecond, time.Hour)
	within(report, "timeout", h.Timeout, 10*time.Millisecond, 10*time.Minute)
	bounds(report, "rise", h.Rise, 1, 100)
	bounds(report, "fall", h.Fall, 1, 100)
}

func (b Breaker) validate(report func(path, problem string)) {
	if b.Off && (b.Consecutive != 0 || b.Ratio != 0 || b.Requests != 0 || b.Window != 0 || b.Open != 0 || b.OpenMax != 0 || b.Trials != 0) {
		report("off", "is true, so that the rest has no effect: leave it out")
	}
	bounds(report, "consecutive", b.Consecutive, 1, 10000)
	bounds(report, "ratio", b.Ratio, 1, 100)
	bounds(report, "requests", b.Requests, 1, 100000)
	within(report, "window", b.Window, 100*time.Millisecond, time.Hour)
	within(report, "open", b.Open, 10*time.Millisecond, time.Hour)
	within(report, "open_max", b.OpenMax, 10*time.Millisecond, 24*time.Hour)
	if b.OpenMax != 0 && b.Open > b.OpenMax {
		report("open", fmt.Sprintf("%v is more than open_max, %v", b.Open, b.OpenMax))
	}
	bounds(report, "trials", b.Trials, 1, 1000)
	bounds(report, "open_share", b.OpenShare, 1, 100)
}

// bounds lets 0 pass: it is the default.
func bounds(report func(path, problem string), path string, n, low, high int) {
	if n != 0 && (n < low || n > high) {
		report(path, fmt.Sprintf("%d is out of bounds: choose from %d to %d", n, low, high))
	}
}

func within(report func(path, problem string), path string, d, low, high time.Duration) {
	if d != 0 && (d < low || d > high) {
		report(path, fmt.Sprintf("%v is out of bounds: choose from %v to %v", d, low, high))
	}
}

// addressProblem says what keeps text from being an address; "" is nothing.
func addressProblem(text string) string {
	if text == "" {
		return "is missing: write host and port, such as 10.0.0.1:8080"
	}
	host, port := split(text)
	if strings.Contains(text, "/") || host == "" || strings.ContainsAny(host, ":/@ \\?#[]\t\r\n") && !isIP(host) {
		return fmt.Sprintf("%q is no address: write host and port, such as 10.0.0.1:8080 or [2001:db8::1]:8080", text)
	}
	if port != "" || strings.HasSuffix(text, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Sprintf("%q is no port: write a number from 1 to 65535", port)
		}
	}
	return ""
}

func isIP(host string) bool { _, err := netip.ParseAddr(host); return err == nil }

// split parts host and port, of which the latter may be missing.
func split(address string) (host, port string) {
	if isIP(address) { // an IPv6 address without brackets
		return address, ""
	}
	if host, port, err := net.SplitHostPort(address); err == nil {
		return host, port
	}
	return strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"), ""
}

// withPort returns the endpoint with a port in its address, and a weight.
func (e Endpoint) withPort(port int) Endpoint {
	host, own := split(e.Address)
	if own == "" {
		own = strconv.Itoa(port)
	}
	e.Address = net.JoinHostPort(strings.ToLower(host), own)
	e.Weight = cmp.Or(e.Weight, 1)
	return e
}
