package cache

// What the tests of purges add to the bed: a log of purges that outlives restarts.

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"edgecdn/cache/store"
)

// purgeLog is what a log of purges would keep.
type purgeLog struct {
	boot    uint64
	dropped uint64 // order
	entries []purgeEntry
}

type purgeEntry struct {
	order uint64
	all   []Purge
}

// replay starts a cache as a node does: the store is claimed, what the log has is
// replayed. cache makes the cache.
func (b *bed) replay(tiered *store.Tiered, cache func()) {
	b.t.Helper()
	b.log.boot++
	if _, err := tiered.Claim([16]byte{1}, b.log.boot, BootOf(b.log.dropped)); err != nil {
		b.t.Fatal(err)
	}
	cache()
	b.cache.BeginOrder(b.log.boot)
	for _, e := range b.log.entries {
		if err := b.cache.Replay(e.order, e.all); err != nil {
			b.t.Fatal(err)
		}
	}
}

// purge purges, logs it, and drops from the log what is swept.
func (b *bed) purge(all ...Purge) uint64 {
	b.t.Helper()
	b.drop()
	order, err := b.cache.Purge(all)
	if err != nil {
		b.t.Fatal(err)
	}
	b.log.entries = append(b.log.entries, purgeEntry{order, all})
	return order
}

func (b *bed) drop() {
	swept := b.cache.SweptOrder()
	b.log.entries = slices.DeleteFunc(b.log.entries, func(e purgeEntry) bool {
		if e.order <= swept {
			b.log.dropped = max(b.log.dropped, e.order)
		}
		return e.order <= swept
	})
}

// sweep waits until all purges are swept.
func (b *bed) sweep() error {
	for range 600 {
		b.drop()
		if len(b.log.entries) == 0 && !b.cache.purges.pending() {
			return nil
		}
		time.Sleep(time.Second)
	}
	return errors.New("the sweep does not end")
}

// restart closes the node and starts it again with what is on disk. crash: with what
// had reached the files before it was closed.
func (b *bed) restart(crash bool) error {
	dir := b.dir
	if dir == "" {
		b.close()
		b.open(store.DiskConfig{})
		return nil
	}
	if crash {
		synctest.Wait() // no file comes or goes while they are copied
		dir = b.t.TempDir()
		b.drop()
		if err := os.CopyFS(dir, os.DirFS(b.dir)); err != nil {
			return err
		}
	}
	b.close()
	b.dir = dir
	b.open(store.DiskConfig{Path: dir, Bytes: 64 << 20})
	return nil
}

// purgeStep does the steps of stories that are about purges.
func (b *bed) purgeStep(verb string, args []string) error {
	switch verb {
	case "sweep":
		return b.sweep()
	case "restart", "crash":
		return b.restart(verb == "crash")
	case "fence":
		b.cache.Fence()
		return nil
	case "unfence":
		b.cache.Unfence()
		return nil
	}
	p := Purge{Host: b.request("GET", "/").Host}
	if len(args) > 0 && args[0] == "soft" {
		p.Soft, args = true, args[1:]
	}
	if len(args) == 0 {
		return errors.New("a purge of what?")
	}
	p.Kind = PurgeKind(slices.Index(PurgeKinds[:], args[0]) + 1)
	p.Name = strings.Join(args[1:], " ")
	switch p.Kind {
	case PurgeHost:
		if p.Name != "" {
			p.Host, p.Name = p.Name, ""
		}
	case PurgeEverything:
		p.Host = ""
	case 0:
		return fmt.Errorf("unknown kind %q", args[0])
	}
	b.purge(p)
	synctest.Wait()
	return nil
}
