package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	sayAgain    = 10 * time.Minute // the same of the same address
	saidMax     = 64
	refusedText = "a node with another secret asks in: it is kept out; if it is ours, give it the secret of this cluster, and if not, the port is open to strangers"
	labelText   = "a node of another cluster asks in: it is kept out; if it is ours, give it the label of this cluster"
	queueText   = "gossip comes faster than it is taken: some is dropped"
)

// bridge is where memberlist logs. It writes one line for each of its many: those
// who are kept out are told of once in ten minutes, what else it says is for
// debugging.
type bridge struct {
	log   *slog.Logger
	stats *Stats

	mu   sync.Mutex
	said map[string]time.Time
}

// Write takes one line.
func (b *bridge) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	from := ""
	if _, after, ok := strings.Cut(text, "from="); ok {
		from, _, _ = strings.Cut(after, " ")
	}
	switch {
	case strings.Contains(text, "acceptable label"):
		b.stats.GossipRefused.Add(1)
		b.once("label", from, labelText, text)
	case strings.Contains(text, "installed keys could decrypt"), strings.Contains(text, "Decrypt packet failed"),
		strings.Contains(text, "remote state is not encrypted"):
		b.stats.GossipRefused.Add(1)
		b.once("secret", from, refusedText, text)
	case strings.Contains(text, "queue full"):
		b.stats.GossipDropped.Add(1)
		b.once("queue", "", queueText, text)
	default:
		b.log.Debug(text)
	}
	return len(line), nil
}

// once logs unless it has of late. Whoever sends from many addresses gets no more
// lines than saidMax in ten minutes.
func (b *bridge) once(what, from, text, detail string) {
	host := from
	if i := strings.LastIndexByte(from, ':'); i > 0 {
		host = from[:i]
	}
	now := time.Now()
	b.mu.Lock()
	key := what + " " + host
	if b.said == nil {
		b.said = make(map[string]time.Time)
	}
	for k, t := range b.said {
		if now.Sub(t) > sayAgain {
			delete(b.said, k)
		}
	}
	_, already := b.said[key]
	already = already || len(b.said) >= saidMax
	if !already {
		b.said[key] = now
	}
	b.mu.Unlock()
	if already {
		b.log.Debug(detail)
		return
	}
	b.log.Warn(text, "from", from, "detail", detail)
}
