package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"edgecdn/internal/unit"
)

// While copies go back and forth between the tiers, nobody is ever given what
// was removed, or an older object or header than the last that was stored.
func TestTieredCopiesBringNothingBack(t *testing.T) {
	store, err := Open(Config{
		Memory: MemoryConfig{Bytes: 16 * unit.MiB},
		Disk:   []DiskConfig{{Path: t.TempDir(), Bytes: 256 * unit.MiB}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	defer func() {
		cancel()
		if err := errors.Join(<-done, store.Close()); err != nil {
			t.Error(err)
		}
	}()
	const keys, rounds = 3, 500
	var group, readers sync.WaitGroup
	stop := make(chan struct{})
	for k := range keys {
		c := &changer{store: store, key: store.Hasher().Key(fmt.Sprint("key ", k)), k: uint64(k), rng: rand.New(rand.NewPCG(uint64(k), 1))}
		group.Go(func() {
			for round := range rounds {
				if err := c.change(); err != nil {
					t.Errorf("key %d, round %d: %v", c.k, round, err)
					return
				}
			}
		})
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				least := c.least.Load()
				if err := c.look(least); err != nil && !errors.Is(err, ErrNotFound) {
					t.Errorf("reader of key %d: %v", c.k, err)
					return
				}
			}
		})
	}
	group.Wait()
	close(stop)
	readers.Wait()
	if st := store.Stats(); st.Promotions == 0 || st.OffersTaken == 0 {
		t.Errorf("%d copies to memory and %d to disk: this proves nothing", st.Promotions, st.OffersTaken)
	}
}

// A changer changes what is under one key. Each change has a number, which the
// body and the header carry.
type changer struct {
	store *Tiered
	key   Key
	k     uint64
	rng   *rand.Rand
	last  uint64
	least atomic.Uint64 // no reader may see less from here on
}

func (c *changer) change() error {
	if c.rng.IntN(2) == 0 { // else the change meets the copy to disk under way
		if err := c.evict(); err != nil {
			return err
		}
	}
	c.last++
	switch c.rng.IntN(4) {
	case 0, 1:
		if err := c.put(); err != nil {
			return err
		}
	case 2:
		meta := Meta{Header: binary.LittleEndian.AppendUint64(nil, c.last)}
		if err := c.store.Freshen(c.key, meta); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	default:
		if err := c.store.Remove(c.key); err != nil {
			return err
		}
		for range 5 {
			if err := c.look(c.last); !errors.Is(err, ErrNotFound) {
				return fmt.Errorf("removed, and then: %w", err)
			}
		}
	}
	c.least.Store(c.last)
	return nil
}

// evict waits until what is in memory is on disk too, and makes reads go there
// and bring it back.
func (c *changer) evict() error {
	for {
		o := c.store.memory.index.find(c.key)
		if o == nil || o.onDisk.Load() || c.store.stats.offersPending.Load() == 0 {
			break
		}
		runtime.Gosched()
	}
	for range 5 {
		if err := c.store.memory.Remove(c.key); err != nil {
			return err
		}
		if err := c.look(c.last); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

func (c *changer) put() error {
	header := binary.LittleEndian.AppendUint64(nil, c.last)
	meta := Meta{Header: header, Length: 8 << (6 * c.k)}
	w, err := c.store.Create(c.key, meta)
	if err != nil {
		return err
	}
	defer w.Abort()
	// Copies of larger bodies take longer.
	body := make([]byte, meta.Length)
	binary.LittleEndian.PutUint64(body, c.k)
	if _, err := w.Write(body); err != nil {
		return err
	}
	s, err := w.Commit(meta)
	if err != nil {
		return err
	}
	s.Close()
	return nil
}

// look opens the object; it must not be older than least.
func (c *changer) look(least uint64) error {
	s, err := c.store.Open(c.key)
	if err != nil {
		return err
	}
	defer s.Close()
	var body [8]byte
	if _, err := s.ReadAt(body[:], 0); err != nil {
		return err
	}
	if k := binary.LittleEndian.Uint64(body[:]); k != c.k {
		return fmt.Errorf("the body of %d", k)
	}
	if got := binary.LittleEndian.Uint64(s.Meta().Header); got < least {
		return fmt.Errorf("number %d from %s, %d was stored", got, s.Tier(), least)
	}
	return nil
}

// A copy that began before a change and ends after it is thrown away.
func TestTieredThrowsLateCopiesAway(t *testing.T) {
	for name, change := range map[string]func(*changer) error{
		"remove":  func(c *changer) error { return c.store.Remove(c.key) },
		"replace": func(c *changer) error { c.last++; return c.put() },
		"freshen": func(c *changer) error {
			c.last++
			return c.store.Freshen(c.key, Meta{Header: binary.LittleEndian.AppendUint64(nil, c.last)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			store, err := Open(Config{
				Memory: MemoryConfig{Bytes: 16 * unit.MiB},
				Disk:   []DiskConfig{{Path: t.TempDir(), Bytes: 256 * unit.MiB}},
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			c := &changer{store: store, key: store.Hasher().Key("key")}
			if err := c.put(); err != nil {
				t.Fatal(err)
			}
			version := store.stripe(c.key.Hash).read()
			o := store.memory.index.find(c.key)
			if err := change(c); err != nil {
				t.Fatal(err)
			}
			if done, err := store.copyOut(o, version); done || err != nil {
				t.Errorf("the late copy to disk: %v, %v", done, err)
			}
			if s, err := store.disk.Open(c.key); err == nil {
				t.Errorf("the late copy is on disk: %x", s.Meta().Header)
				s.Close()
			}

			version = store.stripe(c.key.Hash).read()
			now := store.memory.index.find(c.key)
			if now == nil {
				return // nothing to copy back after a removal
			}
			if done, err := store.copyOut(now, version); !done || err != nil {
				t.Fatalf("a copy in time: %v, %v", done, err)
			}
			if err := store.memory.Remove(c.key); err != nil {
				t.Fatal(err)
			}
			from, err := store.disk.Open(c.key)
			if err != nil {
				t.Fatal(err)
			}
			defer from.Close()
			if err := change(c); err != nil {
				t.Fatal(err)
			}
			if late := store.promote(c.key, from, version); late != nil {
				t.Error("the late copy to memory was made")
				late.Close()
			}
			if err := c.look(c.last); err != nil {
				t.Error(err)
			}
		})
	}
}
