package main

// What is measured: the shapes of requests, and who is asked.

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// distinctURLs of each size are asked for in turn.
const distinctURLs = 16

// size is a size of body.
type size struct {
	name  string // as in the URL
	bytes int64
}

var sizes = []size{{"1kB", 1000}, {"10kB", 10_000}, {"100kB", 100_000}, {"1MB", 1_000_000}}

func (s size) paths(n int) []string {
	paths := make([]string, n)
	for i := range paths {
		paths[i] = fmt.Sprintf("/video/%s.bin?n=%d", s.name, i)
	}
	return paths
}

// bySize makes a row for each size.
func bySize(connections, streams int) []row {
	var rows []row
	for _, s := range sizes {
		rows = append(rows, row{name: s.name, paths: s.paths(distinctURLs), bytes: s.bytes, connections: connections, streams: streams})
	}
	return rows
}

func topics(s *stage) []*topic {
	all := []*server{s.edgeNode, s.nginx, s.goStd}
	kilo, hundred := sizes[0], sizes[2]
	return []*topic{
		{
			name: "http1", title: "HTTP/1.1 in the clear, hits in memory", text: "wrk, 32 connections, 16 URLs of each size. " + goStdText, note: http1Note,
			sides: []*server{s.edgeNode, s.nginx, s.nginxPush, s.goStd}, rows: bySize(32, 0), prepare: prepareClear, load: loadWrk,
		},
		{
			name: "http1-tls", title: "HTTP/1.1 over TLS 1.3, hits in memory", text: "wrk, 32 connections, 16 URLs of each size. " + goStdText,
			sides: all, rows: bySize(32, 0), prepare: prepareTLS, load: loadWrkTLS,
		},
		{
			name: "http2", title: "HTTP/2 over TLS 1.3, hits in memory", text: "h2load, 16 connections of 20 streams, 16 URLs of each size. " + goStdText,
			sides: all, rows: bySize(16, 20), prepare: prepareHTTP2, load: loadHTTP2,
		},
		{
			name: "http3", title: "HTTP/3, hits in memory", note: http3Note,
			text:  "A closed loop over quic-go, 8 connections of 10 streams, 16 URLs of each size. Debian's nginx has no HTTP/3; the other side is quic-go's own http3.Server with the bodies in memory.",
			sides: []*server{s.edgeNode, s.goStd}, rows: bySize(8, 10), prepare: prepareHTTP3, load: loadHTTP3,
		},
		{
			name: "other", title: "Other requests over HTTP/1.1 in the clear", text: "wrk, 32 connections unless said.",
			sides: []*server{s.edgeNode, s.nginx}, prepare: prepareClear, load: loadWrk,
			rows: []row{
				{name: "304 by If-None-Match, 1kB", paths: kilo.paths(distinctURLs), fields: []string{`If-None-Match: *`}, connections: 32},
				{name: "1 kB range of 1MB", paths: sizes[3].paths(distinctURLs), fields: []string{"Range: bytes=500000-500999"}, connections: 32},
				{name: "1kB, 1,000 connections", paths: kilo.paths(distinctURLs), bytes: 1000, connections: 1000},
				{name: "Zipf mix, 1kB to 1MB", paths: zipfMix(), connections: 32},
			},
		},
		passTopic(s), passH2Topic(s),
		{
			name: "disk", title: "Hits on disk, page cache warm", note: diskNote, text: fmt.Sprintf("wrk, 32 connections, %d URLs in turn; the edge has 16 MiB of memory for them.", diskURLs),
			sides: []*server{s.edgeDisk, s.nginx, s.nginxPush}, prepare: prepareDisk, load: loadWrk,
			rows: []row{
				{name: "100kB", paths: hundred.paths(diskURLs), bytes: hundred.bytes, connections: 32},
			},
		},
		{
			name: "handshakes", title: "New connections with TLS 1.3, one request of 1kB each", text: "A Go client, 8 at a time, certificates of ECDSA P-256.", note: handshakeNote,
			sides: all, prepare: prepareTLS, load: loadHandshakes,
			rows: []row{
				{name: "full handshake", paths: kilo.paths(1), bytes: 1000, connections: 8},
				{name: "resumed", paths: kilo.paths(1), bytes: 1000, connections: 8, resume: true},
			},
		},
		{
			name: "idle", title: "Idle connections", sides: all, instead: measureIdle,
		},
		{name: "dns", title: "DNS over UDP, addresses by the client's network", text: dnsLoadText, instead: measureDNS},
		{
			name: "dns-map", title: "DNS with a map of 1,000,000 networks and a city database of 300,000",
			text: dnsLoadText + " Both sides are the edge.", instead: measureDNSMap,
		},
	}
}

// Where a bound is missed, these say what the processor is busy with.
const (
	http1Note = "The bounds at 100 kB and 1 MB (0.6 of nginx) were set by an nginx with tcp_nopush, as Debian's own file and many others have it, and are kept beside that; " +
		"beside one without, which is nginx's own default and costs half as much on loopback, they are missed. There nginx sends bodies from the page cache by sendfile, without copying them; a body in memory " +
		"has to be copied into the socket, as its memory is used again as soon as it is evicted. A bare loop of read and writev in Go, " +
		"without HTTP, costs as much as the edge or more: 61 to 70 µs where the edge took 59 to 76 with header and body in one write, and 32 to 53 with two, as now (nginx 27 to 44 beside it). " +
		"The machine paces connections by BBR, whose timers are a large part of what one large write costs: under reno one write and two cost the same."
	diskNote = "The bound (1.0 of nginx) was set by an nginx with tcp_nopush, as Debian's own file has it, and is kept beside that; beside one without it is missed, by 1.06 to 1.43 in runs of one day. " +
		"The system calls are the same (1.2 reads, one write of the header and one sendfile of the whole body a hit, by strace -c) and in a profile two thirds of the time are theirs; " +
		"the edge asks cachestat(2) besides, nginx reads its header from the file instead. With one thread of Go (GOMAXPROCS=1) the ratio is the same. Why the same sendfile costs the kernel more when Go calls it is not known; timers of BBR and interrupts " +
		"that become due in it are in the profile. Before hits on disk were answered inline and copied to memory sparingly they cost 3.7 to 4.4 of nginx without tcp_nopush."
	handshakeNote = "The bound (1.2 of nginx) is missed, and the two do not do the same: clients and servers of Go agree on X25519 with ML-KEM-768, which holds against quantum computers and which the OpenSSL 3.0 of this nginx does not have. " +
		"In a profile of the edge with resumed connections ML-KEM is 21 % of the processor, X25519 21 %, system calls 24 %, the edge's own code with its answer 15 %."
	passNote = "The bound at 1 kB (0.5 of ReverseProxy) was set by ReverseProxy as it comes, at nearly six times nginx, whose transport keeps two idle connections to an origin and dials for the others, and is kept beside that. " +
		"Beside one with a transport that keeps 64, which is what a careful programmer would write, it is missed but where other work keeps the processors busy. Where the processor is, by a profile of the edge at 1 kB:\n\n" +
		"| what | share |\n|---|---|\n" +
		"| system calls on sockets: two writes, three reads of which one finds nothing, a look whether the origin's connection is still silent | 54 % |\n" +
		"| scheduler, poller and locks of Go's runtime, epoll: a request waits twice | 20 % |\n" +
		"| the edge's own code | 24 % |\n" +
		"| memory | 1 % |\n" +
		"| the clock | 1 % |\n\n" +
		"ReverseProxy makes as many system calls, wakes two more goroutines for each request, and has all that a request is made of collected as garbage; what is left to gain is the read that finds nothing (3 %), the look (3 %, without which " +
		"what an origin says unasked could be taken for an answer), and the edge's own code. Before what a request is made of served the next one it cost a tenth to a quarter more: 0.67 of ReverseProxy where this was 0.61, in one run at a load average of 4, and 0.60 where it was 0.48, in one at 20; before header fields went to origins and back as lists, " +
		"half as much again as that."
	http3Note = "The bound at 100 kB (0.9 of http3.Server) is missed: quic-go and the kernel are 93 % of what such a hit costs, and the same on both sides."
)

func passTopic(s *stage) *topic {
	return &topic{
		name: "pass", title: "Pass-through over HTTP/1.1 in the clear", note: passNote, text: "wrk, 32 connections; the answers say no-store, so that each request goes to the origin, but in the last row, where each URL is new and edge and nginx store the answer. The Go sides are httputil.ReverseProxy, with a transport that keeps 64 idle connections and as it comes.",
		sides: []*server{s.edgeNode, s.nginx, s.goStd, s.goPlain}, prepare: prepareNothing, load: loadWrk,
		rows: []row{
			{name: "1kB", paths: []string{"/_origin/respond?size=1000&header=Cache-Control:no-store"}, connections: 32},
			{name: "100kB", paths: []string{"/_origin/respond?size=100000&header=Cache-Control:no-store"}, connections: 32},
			{name: "1kB, a miss that is stored", paths: []string{"/_origin/respond?size=1000&header=Cache-Control:max-age%3D3600"}, connections: 32, fresh: true},
		},
	}
}

func passH2Topic(s *stage) *topic {
	return &topic{
		name: "pass-h2", title: "Pass-through to an origin that speaks HTTP/2 over TLS", text: "wrk, 32 connections over HTTP/1.1 in the clear to the proxies. The other side is httputil.ReverseProxy; both speak HTTP/2 to the origin by net/http.",
		sides: []*server{s.edgeH2, s.goH2}, prepare: prepareNothing, load: loadWrk,
		rows: []row{
			{name: "1kB", paths: []string{"/_origin/respond?size=1000&header=Cache-Control:no-store"}, connections: 32},
			{name: "100kB", paths: []string{"/_origin/respond?size=100000&header=Cache-Control:no-store"}, connections: 32},
		},
	}
}

const (
	goStdText = "Go's own server has the bodies in memory."
	// diskURLs of 100 kB are many times the memory that the edge has then.
	diskURLs = 1500
	// Of the mix: objects, and requests drawn from them.
	mixURLs, mixDraws = 3000, 20_000
)

// zipfMix draws requests for objects of log-normal sizes with a median of 12 kB, the
// n-th most wanted asked for in proportion to 1/n^0.9. The same each time.
func zipfMix() []string {
	random := rand.New(rand.NewPCG(1, 2))
	paths := make([]string, mixURLs)
	weights := make([]float64, mixURLs)
	sum := 0.0
	for i := range paths {
		n := min(max(int64(12_000*math.Exp(1.4*random.NormFloat64())), 1000), 1_000_000)
		paths[i] = fmt.Sprintf("/video/%d.bin?m=%d", n, i)
		sum += math.Pow(float64(i+1), -0.9)
		weights[i] = sum
	}
	draws := make([]string, mixDraws)
	for i := range draws {
		at, _ := slices.BinarySearch(weights, random.Float64()*sum)
		draws[i] = paths[min(at, mixURLs-1)]
	}
	return draws
}
