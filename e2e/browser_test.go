package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// A browser loads the sample site through the edge twice; the second time all
// of it comes from the edge's cache.
func TestBrowser(t *testing.T) {
	need(t, "chromium")
	for _, tt := range []struct {
		name, protocol string
		force          bool
	}{
		{"HTTP/2", "h2", false},
		{"HTTP/3 forced", "h3", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := startEdge(t, startOrigin(t))
			b := startBrowser(t, n, tt.force)
			first := b.load(t)
			second := b.load(t)
			if len(first) < 4 {
				t.Errorf("only %d responses make up the page: %v", len(first), first)
			}
			if first["/"].protocol != tt.protocol {
				t.Errorf("the page came over %q, want %s", first["/"].protocol, tt.protocol)
			}
			for path, r := range first {
				if tt.force && r.protocol != "h3" {
					t.Errorf("%s came over %q with HTTP/3 forced", path, r.protocol)
				}
				if r.status != 200 || !strings.HasPrefix(r.cacheStatus, "edge; fwd=uri-miss") {
					t.Errorf("first load: %s: %d, %q", path, r.status, r.cacheStatus)
				}
				if again := second[path]; again.status != 200 || !strings.HasPrefix(again.cacheStatus, "edge; hit") {
					t.Errorf("second load: %s: %d, %q", path, again.status, again.cacheStatus)
				}
			}
		})
	}
}

type browser struct {
	ctx  context.Context
	base string

	mu   sync.Mutex
	seen map[string]seen
}

// seen is a response as the browser saw it.
type seen struct {
	status                int64
	protocol, cacheStatus string
}

// startBrowser starts a browser that knows the node as edge.test.
func startBrowser(t *testing.T, n *node, forceHTTP3 bool) *browser {
	t.Helper()
	_, port, err := net.SplitHostPort(n.https)
	if err != nil {
		t.Fatal(err)
	}
	host := net.JoinHostPort("edge.test", port)
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath("chromium"),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.UserDataDir(t.TempDir()),
		chromedp.WSURLReadTimeout(2 * patience), // it is slow to start on a busy machine
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("host-resolver-rules", "MAP edge.test 127.0.0.1"),
		chromedp.Flag("ignore-certificate-errors-spki-list", pin(t, n)),
	}
	if forceHTTP3 {
		options = append(options, chromedp.Flag("origin-to-force-quic-on", host))
	}
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	ctx, cancelLate := context.WithTimeout(ctx, 4*patience)
	t.Cleanup(cancelLate)

	b := &browser{ctx: ctx, base: "https://" + host}
	err = chromedp.Listen(ctx, func(event any) {
		received, ok := event.(*network.EventResponseReceived)
		if !ok {
			return
		}
		path, ours := strings.CutPrefix(received.Response.URL, b.base)
		if !ours || path == "/favicon.ico" { // asked for once in a browser's life
			return
		}
		r := seen{status: received.Response.Status, protocol: received.Response.Protocol}
		for name, value := range received.Response.Headers {
			if strings.EqualFold(name, "Cache-Status") {
				r.cacheStatus, _ = value.(string)
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		// The first counts: the page's own script fetches parts again to show
		// how they were served.
		if _, again := b.seen[path]; !again {
			b.seen[path] = r
		}
	})
	if err != nil {
		t.Fatalf("browser: %v", err)
	}
	// The browser's own cache is off: what comes from a cache comes from ours.
	if _, err := chromedp.Call(ctx, network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: true}); err != nil {
		t.Fatalf("browser: %v", err)
	}
	return b
}

// pin returns what the browser is to accept instead of a certificate that it
// does not know: the SHA-256 of the node's public key.
func pin(t *testing.T, n *node) string {
	t.Helper()
	conn, err := tls.Dial("tcp", n.https, trust(t, n))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sum := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// load loads the page and returns the responses that it took, by path. It
// fails the test unless the page is there with all its images and fonts.
func (b *browser) load(t *testing.T) map[string]seen {
	t.Helper()
	b.mu.Lock()
	b.seen = map[string]seen{}
	b.mu.Unlock()
	if err := chromedp.Do(b.ctx, chromedp.Navigate(b.base+"/")); err != nil {
		t.Fatalf("browser: %v", err)
	}
	title, err := chromedp.Run(b.ctx, chromedp.Title())
	if err != nil {
		t.Fatalf("browser: %v", err)
	}
	broken, err := chromedp.Run(b.ctx, chromedp.Evaluate[[]string](`document.fonts.ready.then(() =>
		[...document.images].filter(i => !i.complete || i.naturalWidth == 0).map(i => i.src))`, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("browser: %v", err)
	}
	if title == "" || len(broken) > 0 {
		t.Errorf("the page has title %q and broken images %q", title, broken)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.seen) // the page's script goes on asking
}
