package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"edgecdn/access"
	"edgecdn/admin"
	"edgecdn/cache"
	"edgecdn/cache/store"
	"edgecdn/cluster"
	"edgecdn/config"
	"edgecdn/dnsgeo"
	"edgecdn/origin"
	"edgecdn/pool"
	"edgecdn/purge"
	"edgecdn/server"
	"edgecdn/server/gate"
	"edgecdn/server/h1"
	"edgecdn/server/h2"
	"edgecdn/server/h3"
)

// startNode runs a node over an origin by flags alone.
func startNode(t *testing.T, origin http.HandlerFunc) (n *node, data string) {
	t.Helper()
	behind := httptest.NewServer(origin)
	t.Cleanup(behind.Close)
	data = t.TempDir()
	cfg, err := config.TryOut(behind.URL, "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", data)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Server.AccessLog.Format = "off"
	dns := dnsgeo.Config{
		Listen: []string{"127.0.0.1:0"},
		Zones: []dnsgeo.Zone{{
			Name: "cdn.example", NameServers: []string{"ns1.example.net"}, Dynamic: []dnsgeo.Dynamic{{Name: "www"}},
		}},
		Probe: dnsgeo.Probe{Kind: "off"},
	}.WithDefaults()
	cfg.DNS = &dns
	cfg.Cluster = cluster.Config{
		Listen: "127.0.0.1:0", Secrets: []string{"a secret for this test"}, Name: "edge", Dir: filepath.Join(data, "cluster"),
		Site: "fra", Place: &cluster.Place{Lat: 50.1, Lon: 8.7}, Speaks: []cluster.Address{{IP: netip.MustParseAddr("192.0.2.1"), HTTP: 80, HTTPS: 443}},
	}.WithDefaults()
	return startServing(t, cfg, ""), data
}

// startServing runs a node in this process and returns it when it serves.
func startServing(t *testing.T, cfg *config.Config, file string) *node {
	t.Helper()
	n := &node{level: new(slog.LevelVar), log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- n.serve(ctx, cfg, file, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); n.state.now() != serving; {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the node does not serve within a minute")
		case err := <-ran:
			ran <- nil
			t.Fatalf("the node ended: %v", err)
		}
	}
	return n
}

// metric is a metric's type and label names, le excepted.
type metric struct{ Type, Labels string }

func TestMetricsAreDocumented(t *testing.T) {
	n, data := startNode(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
	})
	addresses, _ := n.server.Addresses()
	for _, path := range []string{"/", "/abort"} {
		resp, err := http.Get("http://" + addresses[0] + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	question := new(dns.Msg)
	question.SetQuestion("www.cdn.example.", dns.TypeA)
	asked := 0
	for late := time.Now().Add(20 * time.Second); ; { // the node tells that it serves just after it does
		m, _, err := (&dns.Client{Timeout: 20 * time.Second}).Exchange(question, n.dns.Addresses()[0])
		if asked++; err == nil && len(m.Answer) == 1 {
			break
		}
		if err != nil || time.Now().After(late) {
			t.Fatal(m, err)
		}
	}
	token, err := admin.ReadToken(filepath.Join(data, admin.TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	scrape := func() []byte {
		req, err := http.NewRequest(http.MethodGet, "http://"+n.admin.Addr()+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s, %v\n%s", resp.Status, err, text)
		}
		return text
	}
	wanted := []string{
		`edge_requests_total{host="*",outcome="uri-miss",protocol="h1"} 2`,
		`edge_responses_total{protocol="h1",status="2xx"} 1`,
		`edge_origin_requests_total{origin="default"} 2`,
		`edge_store_disk_state{directory="` + filepath.Join(data, "cache") + `",state="serving"} 1`,
		"edge_ready 1",
		fmt.Sprintf(`edge_dns_answers_total{rcode="NOERROR",type="A",zone="cdn.example."} %d`, asked),
		`edge_dns_site_answers_total{site="fra"} 1`,
		`edge_dns_country_answers_total{country=""} 1`,
	}
	missing := func(text []byte) []string {
		return slices.DeleteFunc(slices.Clone(wanted), func(w string) bool { return bytes.Contains(text, []byte("\n"+w+"\n")) })
	}
	text := scrape()
	// What is over is counted when it is over, which a client may see first.
	for late := time.Now().Add(10 * time.Second); len(missing(text)) > 0 && time.Now().Before(late); {
		text = scrape()
	}
	http.DefaultClient.CloseIdleConnections()
	for _, w := range missing(text) {
		t.Errorf("not in /metrics: %s", w)
	}
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil {
		t.Errorf("not in the format of Prometheus: %v", err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "edge_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	document, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(documentedIn(t, document), exportedIn(text)); diff != "" {
		t.Errorf("docs/metrics.md (-) and what a node exports (+) differ:\n%s", diff)
	}
	for _, name := range regexp.MustCompile(`edge_\w+`).FindAllString(string(document), -1) {
		if family := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, ""); !bytes.Contains(text, []byte("# TYPE "+family+" ")) {
			t.Errorf("docs/metrics.md names %s, which is not there", name)
		}
	}
}

func exportedIn(text []byte) map[string]metric {
	exported := map[string]metric{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (edge_\w+) (\w+)$`).FindAllSubmatch(text, -1) {
		name := string(m[1])
		labels := map[string]bool{}
		for _, series := range regexp.MustCompile(fmt.Sprintf(`(?m)^%s(?:_bucket)?\{(.*)\} `, name)).FindAllSubmatch(text, -1) {
			for _, l := range regexp.MustCompile(`(\w+)="`).FindAllSubmatch(series[1], -1) {
				labels[string(l[1])] = true
			}
		}
		delete(labels, "le")
		exported[name] = metric{string(m[2]), strings.Join(slices.Sorted(maps.Keys(labels)), ", ")}
	}
	return exported
}

func documentedIn(t *testing.T, document []byte) map[string]metric {
	documented := map[string]metric{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(edge_\\w+)` \\| (\\w+) \\| (.*?) ?\\| (\\S.*) \\|$").FindAllSubmatch(document, -1) {
		name := string(m[1])
		if _, twice := documented[name]; twice {
			t.Errorf("%s is documented twice", name)
		}
		documented[name] = metric{string(m[2]), strings.ReplaceAll(string(m[3]), "`", "")}
	}
	if len(documented) < 50 {
		t.Errorf("found only %d metrics in the document: the test reads it wrongly", len(documented))
	}
	return documented
}

// Every count of every room reaches the metrics: each is set to a number of its
// own, which must be among the samples.
func TestEveryCountIsExported(t *testing.T) {
	next := uint64(1000)
	var want map[float64]string
	var fill func(v reflect.Value, name string)
	fill = func(v reflect.Value, name string) {
		switch v.Kind() {
		case reflect.Struct:
			switch count := v.Addr().Interface().(type) {
			case *atomic.Uint64:
				next++
				count.Store(next)
				want[float64(next)] = name
			case *atomic.Int64:
				next++
				count.Store(int64(next))
				want[float64(next)] = name
			default:
				for i := range v.NumField() {
					f := v.Type().Field(i)
					// Histograms are cumulative; the test of the document sees them.
					if f.IsExported() && !strings.HasSuffix(f.Type.String(), "Histogram") {
						fill(v.Field(i), name+"."+f.Name)
					}
				}
			}
		case reflect.Array, reflect.Slice:
			for i := range v.Len() {
				if elem := v.Index(i); !strings.HasSuffix(elem.Type().String(), "Histogram") {
					fill(elem, fmt.Sprintf("%s[%d]", name, i))
				}
			}
		case reflect.Int, reflect.Int64:
			next++
			v.SetInt(int64(next))
			want[float64(next)] = name
		}
	}
	for _, room := range []struct {
		stats any
		emit  func(emitter, any)
	}{
		{new(gate.Stats), func(e emitter, s any) { e.server(s.(*gate.Stats)) }},
		{new(access.Stats), func(e emitter, s any) { e.access(s.(*access.Stats)) }},
		{new(h1.Stats), func(e emitter, s any) { e.h1(s.(*h1.Stats)) }},
		{new(h2.Stats), func(e emitter, s any) { e.h2(s.(*h2.Stats)) }},
		{new(h3.Stats), func(e emitter, s any) { e.h3(s.(*h3.Stats)) }},
		{new(server.TLSStats), func(e emitter, s any) { e.tls(s.(*server.TLSStats)) }},
		{new(cache.Stats), func(e emitter, s any) { e.cache(s.(*cache.Stats)) }},
		{new(origin.Stats), func(e emitter, s any) { e.origin("o", s.(*origin.Stats)) }},
		{new(pool.Stats), func(e emitter, s any) { e.pool("o", pool.State{}, s.(*pool.Stats)) }},
		{new(purge.Stats), func(e emitter, s any) { e.purges(s.(*purge.Stats), purgeSpread(t)) }},
		{new(dnsgeo.Stats), func(e emitter, s any) { e.dns(s.(*dnsgeo.Stats), 0) }},
		{new(cluster.Stats), func(e emitter, s any) { e.cluster(nil, s.(*cluster.Stats)) }},
		{new(admin.Stats), func(e emitter, s any) { e.admin(s.(*admin.Stats)) }},
		{&store.Stats{Disk: store.DiskStats{Directories: make([]store.DirectoryStats, 1)}}, func(e emitter, s any) {
			e.store(*s.(*store.Stats))
			e.disk(s.(*store.Stats).Disk)
		}},
	} {
		want = map[float64]string{}
		fill(reflect.ValueOf(room.stats).Elem(), fmt.Sprintf("%T", room.stats))
		if len(want) == 0 {
			t.Errorf("%T has no counts", room.stats)
		}
		room.emit(func(s admin.Sample) { delete(want, s.Value) }, room.stats)
		for _, name := range slices.Sorted(maps.Values(want)) {
			t.Errorf("%s is in no metric", name)
		}
	}
}

// purgeSpread is what spreads the purges of a node that is alone.
func purgeSpread(t *testing.T) *purge.Spread {
	t.Helper()
	l, err := purge.Open(purge.Config{Dir: t.TempDir()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return purge.NewSpread(l, nil, nil, true, nil)
}
