// Package edgecdn is the map of edge, a program that turns a few machines into
// a CDN. There is no code here; ARCHITECTURE.md tells the same at more length.
//
// Rooms, from the client inwards:
//
//   - cmd/edge: main wires the rooms together; one small file a subcommand
//   - config: edge.yaml to Config; strict decoding, defaults, validation, reload
//   - server: listeners, TLS, the engines for HTTP/1.1, HTTP/2 and HTTP/3, drain
//   - server/gate: what the engines share: a request from its header to its answer
//   - server/h1: the engine for HTTP/1.1 and 1.0
//   - server/h3: the engine for HTTP/3, on quic-go's connections and streams
//   - server/h2: the engine for HTTP/2: its own connection loop and HPACK
//   - server/wiretest: connections in memory, and patience, for tests of the engines
//   - route: Host and path to a Route, matched once per request
//   - access: who may ask, judged before anything is looked up
//   - cache: the HTTP cache of RFC 9111; decides, judges, forwards, collapses
//   - cache/store: keeps bytes in memory and on disk; knows no HTTP
//   - cache/store/storetest: what every store must do, as tests
//   - purge: what must be forgotten: its log, receipts, what a restart applies again
//   - cluster: who is alive; one way to tell one node, or all, and to agree on facts
//   - pool: endpoints of a service: discovery, probes, breakers, choice
//   - origin: the way back to where content comes from
//   - dnsgeo: authoritative DNS that answers with the nearest healthy nodes
//   - admin: the operators' side: health, metrics, profiles, the REST API
//
// Beside them:
//
//   - internal/h1: the wire form of HTTP/1.1 messages, read strictly
//   - internal/authority: hosts and ports in the one form that is compared and stored
//   - internal/huffman: the Huffman code of header fields in HTTP/2 and HTTP/3
//   - internal/unit: units that configuration is written in
//   - cmd/origin: a scripted origin for demonstration, load and tests
//   - cmd/origin/script: the same as an http.Handler
//   - e2e: tests that start the real programs and use them as people do
//   - e2e/relay: a network that delays, loses and cuts, for tests
//   - bench: what it costs to serve, side by side with nginx
//
// Who may know whom (arch_test.go keeps it true):
//
//	server -> route, access, cache, its engines and server/gate
//	server/gate -> route, access, cache
//	server/h1, h2, h3 -> server/gate, cache, internal/h1, internal/huffman
//	access -> route
//	cache  -> route, cache/store
//	origin -> route, pool, internal/h1
//	purge  -> cache
//	route, admin, cluster, cache/store, dnsgeo, pool -> nothing of ours
//	config -> every room's Config
//	cmd/edge -> all
//
// and internal/authority and internal/unit are leaves that all may use. Siblings meet in cmd/edge.
package edgecdn
