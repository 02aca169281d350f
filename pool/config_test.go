package pool

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	ok := func(*Config) {}
	for _, c := range []struct {
		name, want string // path: problem
		change     func(*Config)
	}{
		{"as it is", "", ok},
		{"no address", "endpoints[0].address: is missing", func(c *Config) { c.Endpoints = []Endpoint{{}} }},
		{"IPv6", "", func(c *Config) {
			c.Endpoints = []Endpoint{{Address: "[2001:db8::1]:80"}, {Address: "2001:db8::2"}, {Address: "host"}}
		}},
		{"URL", "is no address", func(c *Config) { c.Endpoints = []Endpoint{{Address: "http://a"}} }},
		{"port 0", `"0" is no port`, func(c *Config) { c.Endpoints = []Endpoint{{Address: "a:0"}} }},
		{"no port after a colon", "is no port", func(c *Config) { c.Endpoints = []Endpoint{{Address: "a:"}} }},
		{"twice", `endpoints[1].address: "A" is endpoint 1 already`, func(c *Config) { c.Endpoints = []Endpoint{{Address: "a:80"}, {Address: "A"}} }},
		{"too many", "257 endpoints are too many", func(c *Config) { c.Endpoints = make([]Endpoint, 257) }},
		{"weight", "endpoints[0].weight: -1 is out of bounds", func(c *Config) { c.Endpoints = []Endpoint{{Address: "a", Weight: -1}} }},
		{"priority", "endpoints[0].priority: 101", func(c *Config) { c.Endpoints = []Endpoint{{Address: "a", Priority: 101}} }},
		{"policy", `policy: "fair" is no policy`, func(c *Config) { c.Policy = "fair" }},
		{"queue", "queue: -1", func(c *Config) { c.Queue = -1 }},
		{"discover without a name", "discover.name: is missing", func(c *Config) { c.Discover.Type = "srv" }},
		{"discover an address", "discover.name: \"10.0.0.1\" is an address", func(c *Config) { c.Discover.Name = "10.0.0.1" }},
		{"discover a port", "discover.name", func(c *Config) { c.Discover.Name = "a:80" }},
		{"discover mx", "discover.type", func(c *Config) { c.Discover = Discover{Name: "a", Type: "mx"} }},
		{"resolver by name", "discover.resolvers[0]", func(c *Config) { c.Discover = Discover{Name: "a", Resolvers: []string{"dns:53"}} }},
		{"ttls", "discover.ttl_min: 1m0s is more than ttl_max", func(c *Config) { c.Discover = Discover{Name: "a", TTLMin: time.Minute, TTLMax: time.Second} }},
		{"health off", "health.type: is off", func(c *Config) { c.Health.Path = "/" }},
		{"health tcp", "health.type: is tcp", func(c *Config) { c.Health = Health{Type: "tcp", Body: "x"} }},
		{"health udp", "health.type", func(c *Config) { c.Health.Type = "udp" }},
		{"health path", "health.path", func(c *Config) { c.Health = Health{Type: "http", Path: "x"} }},
		{"health status", "health.statuses[1]: 99", func(c *Config) { c.Health = Health{Type: "http", Statuses: []int{200, 99}} }},
		{"health interval", "health.interval", func(c *Config) { c.Health = Health{Type: "tcp", Interval: time.Millisecond} }},
		{"breaker off", "breaker.off", func(c *Config) { c.Breaker = Breaker{Off: true, Ratio: 10} }},
		{"breaker ratio", "breaker.ratio: 101", func(c *Config) { c.Breaker.Ratio = 101 }},
		{"breaker open", "breaker.open: 1m0s is more than open_max", func(c *Config) { c.Breaker = Breaker{Open: time.Minute, OpenMax: time.Second} }},
	} {
		cfg := Config{Port: 80}
		c.change(&cfg)
		var problems []string
		cfg.Validate(func(path, problem string) { problems = append(problems, path+": "+problem) })
		found := slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, c.want) })
		if c.want == "" && len(problems) > 0 || c.want != "" && !found {
			t.Errorf("%s: %q, want %q", c.name, problems, c.want)
		}
		if c.want == "" {
			cfg.WithDefaults().Validate(func(path, problem string) { t.Errorf("%s: the default of %s: %s", c.name, path, problem) })
		}
	}
	if a, b := (Config{}).WithDefaults(), (Config{}).WithDefaults().WithDefaults(); a.Breaker != b.Breaker || a.Policy != b.Policy {
		t.Error("the defaults have other defaults")
	}
}
