package origin

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"edgecdn/pool"
)

// The same client gets the same endpoint whatever it asks for; by URL whoever asks.
func TestMaglevByClientAndByURL(t *testing.T) {
	var addresses []string
	for range 3 {
		b := serve(t)
		name := b.address
		b.set(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) })
		addresses = append(addresses, name)
	}
	for _, hash := range []string{"", hashClient} {
		f := among(t, func(cfg *Config) {
			cfg.Pool.Policy, cfg.Hash = pool.PolicyMaglev, hash
			for i := range cfg.Pool.Endpoints {
				cfg.Pool.Endpoints[i].Priority = 0
			}
		}, addresses...)
		chosen := map[string]string{} // by what counts
		used := map[string]bool{}
		for i := range 400 {
			client, url := fmt.Sprintf("192.0.2.%d", i%20), fmt.Sprintf("/%d", i%21)
			r := f.request(t.Context(), "GET", url, nil)
			r.RemoteAddr = fmt.Sprintf("%s:%d", client, 1024+i) // the port is another each time
			resp, err := f.RoundTrip(r)
			_, who := finish(t, resp, err)
			counts := url
			if hash == hashClient {
				counts = client
			}
			if before, ok := chosen[counts]; ok && before != who {
				t.Fatalf("hash %q: %s went to %s and to %s", hash, counts, before, who)
			}
			chosen[counts], used[who] = who, true
		}
		if len(used) < 2 {
			t.Errorf("hash %q: all went to one", hash)
		}
	}
}

// Requests that fail at one instant are sent again after waits that double at most, and
// that are none of them the same. EDGE_PLOT=FILE draws them.
func TestBackoffWaits(t *testing.T) {
	const requests, tries = 60, 7
	var mu sync.Mutex
	arrived := map[string][]time.Time{}
	b := serve(t)
	b.set(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		arrived[r.URL.Path] = append(arrived[r.URL.Path], time.Now())
		mu.Unlock()
		panic(http.ErrAbortHandler)
	})
	f := among(t, func(cfg *Config) {
		cfg.Retries = Retries{Max: tries - 1, Backoff: 10 * time.Millisecond, BackoffMax: 160 * time.Millisecond, BudgetMin: requests * tries}
	}, b.address)
	cfg := f.upstreamOf("o").cfg.Retries
	var work sync.WaitGroup
	for i := range requests {
		work.Go(func() {
			_, err := f.do("GET", fmt.Sprintf("/%d", i), nil)
			wantKind(t, "after all", err, KindTerminated)
		})
	}
	work.Wait()
	mu.Lock()
	defer mu.Unlock()
	waits := make([][]time.Duration, tries-1)
	for _, at := range arrived {
		for i := 1; i < len(at); i++ {
			waits[i-1] = append(waits[i-1], at[i].Sub(at[i-1]))
		}
	}
	for i, all := range waits {
		slices.Sort(all)
		if most := longest(&cfg, i); len(all) == 0 || most != min(10*time.Millisecond<<i, 160*time.Millisecond) {
			t.Errorf("wait %d: %d of them, of up to %v", i+1, len(all), most)
		}
		drawn := map[time.Duration]bool{}
		for range 100 {
			wait := backoff(&cfg, i)
			drawn[wait] = true
			if wait < 0 || wait > longest(&cfg, i) {
				t.Errorf("wait %d: %v", i+1, wait)
			}
		}
		if len(drawn) < 90 {
			t.Errorf("wait %d: %d of 100 differ", i+1, len(drawn))
		}
	}
	if file := os.Getenv("EDGE_PLOT"); file != "" {
		if err := os.WriteFile(file, []byte(plotWaits(&cfg, waits)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// upstreamOf returns what there is of an origin.
func (f *fixture) upstreamOf(name string) *upstream { return (*f.upstreams.Load())[name] }

// plotWaits draws each wait of a run over its number, and those without jitter.
func plotWaits(cfg *Retries, waits [][]time.Duration) string {
	const left, bottom, step, height = 60, 250, 90, 220
	top := longest(cfg, len(waits)-1) * 5 / 4
	y := func(d time.Duration) float64 { return bottom - height*float64(min(d, top))/float64(top) }
	width := left + step*len(waits) + 20
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d 290" font-family="sans-serif" font-size="11">`+"\n", width)
	fmt.Fprintf(&b, `<rect width="%d" height="290" fill="white"/>`+"\n", width)
	for d := time.Duration(0); d <= top; d += cfg.BackoffMax / 4 {
		fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/><text x="6" y="%.1f">%v</text>`+"\n", left, y(d), width-10, y(d), y(d)+4, d)
	}
	for i, all := range waits {
		x := left + step*i + step/2
		for k, d := range all {
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="2.2" fill="#1f77b4" fill-opacity="0.6"/>`, float64(x)-30+60*float64(k)/float64(len(all)), y(d))
		}
		fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#d9705f" stroke-width="2"/>`+"\n", x-36, y(longest(cfg, i)), x+36, y(longest(cfg, i)))
		fmt.Fprintf(&b, `<text x="%d" y="268" text-anchor="middle">retry %d (%d)</text>`+"\n", x, i+1, len(all))
	}
	fmt.Fprintf(&b, `<circle cx="%d" cy="16" r="3" fill="#1f77b4"/><text x="%d" y="20">waits as the endpoint saw them, full jitter</text>`, left+6, left+14)
	fmt.Fprintf(&b, `<line x1="%d" y1="16" x2="%d" y2="16" stroke="#d9705f" stroke-width="2"/><text x="%d" y="20">all of them without jitter</text>`+"\n</svg>\n", left+250, left+270, left+275)
	return b.String()
}
