package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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
	const keys, rounds = 4, 600
	var group, readers sync.WaitGroup
	stop := make(chan struct{})
	for k := range keys {
		c := &changer{store: store, key: store.Hasher().Key(fmt.Sprint("key ", k)), k: uint64(k)}
		group.Go(func() {
			for round := range rounds {
				if err := c.change(round); err != nil {
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
	last  uint64
	least atomic.Uint64 // no reader may see less from here on
}

func (c *changer) change(round int) error {
	for range 5 {
		// As an eviction would, so that reads go to disk and come back.
		if err := c.store.memory.Remove(c.key); err != nil {
			return err
		}
		if err := c.look(c.last); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	c.last++
	switch round % 4 {
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

func (c *changer) put() error {
	header := binary.LittleEndian.AppendUint64(nil, c.last)
	meta := Meta{Header: header, Length: 8}
	w, err := c.store.Create(c.key, meta)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, c.k)); err != nil {
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
