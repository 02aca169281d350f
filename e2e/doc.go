// Package e2e starts the real programs, built as users build them, and uses
// them as people do: with curl, a browser, a client for HTTP/3, kills and
// restarts. There is no code here but tests. Each starts its own origin and
// edge on loopback, on ports and with a data directory of its own.
//
// EDGE_FULL=1 adds the slow ones, EDGE_SOAK=DURATION the endurance runs.
package e2e
