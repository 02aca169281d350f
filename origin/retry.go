package origin

// retry.go is the configuration of what is sent again, and beside.

import (
	"cmp"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"edgecdn/internal/unit"
	"edgecdn/pool"
)

// Retries says what is sent again when an endpoint fails.
type Retries struct {
	// Off sends nothing again.
	Off bool `yaml:"off"`
	// Max is how often a request is sent again. Default 2.
	Max int `yaml:"max"`
	// Statuses that mean that the endpoint failed: such a response is asked for at another endpoint. Default 502, 503, 504.
	Statuses []int `yaml:"statuses"`
	// Backoff is the longest wait before the first retry; it doubles each time, and the wait is any time up to it. Default 25ms.
	Backoff time.Duration `yaml:"backoff"`
	// BackoffMax bounds that. Default 1s.
	BackoffMax time.Duration `yaml:"backoff_max"`
	// RetryAfterMax is the longest Retry-After that is waited for. Default 1s.
	RetryAfterMax time.Duration `yaml:"retry_after_max"`
	// Budget is what retries and hedges together may add to the load, in percent. Default 20.
	Budget int `yaml:"budget"`
	// BudgetMin is how many there may be in ten seconds whatever the load. Default 10.
	BudgetMin int `yaml:"budget_min"`
	// BodyMax is the longest request body that is kept to be sent again. Default 64KiB.
	BodyMax unit.Bytes `yaml:"body_max"`
}

// Hedging says when a GET or HEAD goes to a second endpoint because the first is slow.
type Hedging struct {
	// Enabled sends a second request when the first takes longer than 95 % do.
	Enabled bool `yaml:"enabled"`
	// DelayMin is the shortest time after which that is done. Default 10ms.
	DelayMin time.Duration `yaml:"delay_min"`
}

// Hashes that Hash may name.
const (
	hashURL    = "url"
	hashClient = "client"
)

// withPool fills in the defaults of what is about more than one endpoint.
func (c Config) withPool() Config {
	c.Pool = c.Pool.WithDefaults()
	if c.Pool.Policy == pool.PolicyMaglev {
		c.Hash = cmp.Or(c.Hash, hashURL)
	}
	r := &c.Retries
	if r.Statuses == nil {
		r.Statuses = []int{502, 503, 504}
	}
	r.Max = cmp.Or(r.Max, 2)
	r.Backoff = cmp.Or(r.Backoff, 25*time.Millisecond)
	r.BackoffMax = cmp.Or(r.BackoffMax, max(time.Second, r.Backoff))
	r.RetryAfterMax = cmp.Or(r.RetryAfterMax, time.Second)
	r.Budget = cmp.Or(r.Budget, 20)
	r.BudgetMin = cmp.Or(r.BudgetMin, 10)
	r.BodyMax = cmp.Or(r.BodyMax, 64<<10)
	c.Hedging.DelayMin = cmp.Or(c.Hedging.DelayMin, 10*time.Millisecond)
	return c
}

func (c *Config) validatePool(report func(path, problem string)) {
	settings := c.Pool
	settings.Port = c.port()
	settings.Validate(report)
	switch c.Hash {
	case "":
	case hashURL, hashClient:
		if c.Pool.Policy != pool.PolicyMaglev {
			report("hash", "has no effect without policy: maglev")
		}
	default:
		report("hash", fmt.Sprintf("%q is neither url nor client", c.Hash))
	}
	r := &c.Retries
	for i, status := range r.Statuses {
		if status < 400 || status > 599 {
			report(fmt.Sprintf("retries.statuses[%d]", i), fmt.Sprintf("%d does not say that something failed: choose from 400 to 599", status))
		}
	}
	for _, n := range []struct {
		path         string
		n, low, high int
	}{
		{"max", r.Max, 1, 10}, {"budget", r.Budget, 1, 100}, {"budget_min", r.BudgetMin, 1, 10000}, {"body_max", int(r.BodyMax), 1, 16 << 20},
	} {
		if n.n != 0 && (n.n < n.low || n.n > n.high) {
			report("retries."+n.path, fmt.Sprintf("%d is out of bounds: choose from %d to %d", n.n, n.low, n.high))
		}
	}
	for _, d := range []struct {
		path  string
		value time.Duration
	}{
		{"retries.backoff", r.Backoff}, {"retries.backoff_max", r.BackoffMax}, {"retries.retry_after_max", r.RetryAfterMax},
		{"hedging.delay_min", c.Hedging.DelayMin},
	} {
		if d.value != 0 && (d.value < time.Millisecond || d.value > time.Minute) {
			report(d.path, fmt.Sprintf("%v is out of bounds: choose from 1ms to 1m", d.value))
		}
	}
	if r.BackoffMax != 0 && r.Backoff > r.BackoffMax {
		report("retries.backoff", fmt.Sprintf("%v is more than backoff_max, %v", r.Backoff, r.BackoffMax))
	}
}

// port returns the port of the URL, 0 if the URL is none.
func (c *Config) port() int {
	if urlProblem(c.URL) != "" {
		return 0
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return 0
	}
	return portOf(u)
}

// portOf returns a URL's port, also where it is left out.
func portOf(u *url.URL) int {
	if n, err := strconv.Atoi(u.Port()); err == nil {
		return n
	}
	if u.Scheme == "https" {
		return 443
	}
	return 80
}

// sameLink says whether two configurations differ in nothing that connections are
// made by.
func (c Config) sameLink(other Config) bool {
	for _, cfg := range []*Config{&c, &other} {
		cfg.Pool, cfg.Retries, cfg.Hedging, cfg.Hash = pool.Config{}, Retries{}, Hedging{}, ""
	}
	return reflect.DeepEqual(c, other)
}

// clientHost returns the address in host:port.
func clientHost(remote string) string {
	if i := strings.LastIndexByte(remote, ':'); i >= 0 {
		return remote[:i]
	}
	return remote
}
