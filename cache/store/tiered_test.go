package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"edgecdn/cache/store"
	"edgecdn/cache/store/storetest"
	"edgecdn/internal/unit"
)

// running is a Tiered whose Run is under way.
type running struct {
	*store.Tiered
	stop func()
}

func openTiered(t *testing.T, cfg store.Config) *running {
	t.Helper()
	tiered, err := store.Open(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tiered.Run(ctx) }()
	r := &running{Tiered: tiered}
	r.stop = func() {
		r.stop = func() {}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := tiered.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	t.Cleanup(func() { r.stop() })
	return r
}

// settle waits until everything that was offered to the disk tier is there.
func (r *running) settle(t *testing.T) store.Stats {
	t.Helper()
	wait(t, func() bool { return r.Stats().OffersPending == 0 })
	return r.Stats()
}

// wait polls until ok.
func wait(t *testing.T, ok func() bool) {
	t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	late := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-poll.C:
		case <-late:
			t.Fatal("waited in vain")
		}
	}
}

func twoTiers(t *testing.T) store.Config {
	return store.Config{
		Memory: store.MemoryConfig{Bytes: 64 * unit.MiB},
		Disk:   []store.DiskConfig{{Path: t.TempDir(), Bytes: 512 * unit.MiB}},
	}
}

func TestTieredConforms(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		cfg := twoTiers(t)
		r := openTiered(t, cfg)
		return storetest.Subject{
			Store: r, Hasher: r.Hasher(),
			Reopen: func(t *testing.T) store.Store {
				r.settle(t)
				r.stop()
				r = openTiered(t, cfg)
				return r
			},
		}
	})
}

// With little memory, everything goes through both tiers all the time.
func TestTieredConformsWithLittleMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		cfg := twoTiers(t)
		cfg.Memory.Bytes = 8 * unit.MiB
		r := openTiered(t, cfg)
		return storetest.Subject{Store: r, Hasher: r.Hasher()}
	})
}

func TestTieredWithoutDiskConforms(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		r := openTiered(t, store.Config{Memory: store.MemoryConfig{Bytes: 64 * unit.MiB}})
		return storetest.Subject{Store: r, Hasher: r.Hasher(), BodyMax: store.BodyMax}
	})
}

func (r *running) put(t *testing.T, text string, announced int64, body []byte) {
	t.Helper()
	meta := store.Meta{Header: []byte("header of " + text), Length: announced}
	w, err := r.Create(r.Hasher().Key(text), meta)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	meta.Length = int64(len(body))
	s, err := w.Commit(meta)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// tier opens text, checks its body and says where it came from, "" for nowhere.
func (r *running) tier(t *testing.T, text string, body []byte) string {
	t.Helper()
	s, err := r.Open(r.Hasher().Key(text))
	if errors.Is(err, store.ErrNotFound) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := io.ReadAll(io.NewSectionReader(s, 0, s.Meta().Length))
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%s from %s: %d bytes, %v; want %d", text, s.Tier(), len(got), err, len(body))
	}
	return s.Tier()
}

func TestTieredMovesBetweenTiers(t *testing.T) {
	cfg := twoTiers(t)
	r := openTiered(t, cfg)
	small, large := storetest.Body("small", 70_000), storetest.Body("large", 3<<20)
	r.put(t, "small", 70_000, small)
	r.put(t, "large", 3<<20, large)
	r.put(t, "grown", -1, large)
	if _, ok := r.Lookup(r.Hasher().Key("large")); ok {
		t.Error("a large object is in memory")
	}
	for text, want := range map[string]string{"small": "memory", "large": "disk", "grown": "disk"} {
		body := large
		if text == "small" {
			body = small
		}
		if got := r.tier(t, text, body); got != want {
			t.Errorf("%s came from %q, want %q", text, got, want)
		}
	}
	if st := r.settle(t); st.OffersTaken != 1 || st.Spills != 1 {
		t.Errorf("%d copied to disk and %d spilled, want 1 and 1", st.OffersTaken, st.Spills)
	}
	r.stop()

	r = openTiered(t, cfg)
	key := r.Hasher().Key("small")
	for i := range 2 {
		if _, ok := r.Lookup(key); ok {
			t.Errorf("in memory before request %d found it on disk again", i)
		}
		if got := r.tier(t, "small", small); got != "disk" {
			t.Errorf("request %d: from %q, want disk", i, got)
		}
	}
	s, ok := r.Lookup(key)
	if !ok {
		t.Fatal("not in memory after the second request found it on disk")
	}
	defer s.Close()
	if string(s.Meta().Header) != "header of small" || !bytes.Equal(s.Bytes(), small) {
		t.Error("what was promoted differs from what was stored")
	}
	if st := r.Stats(); st.Promotions != 1 {
		t.Errorf("%d promotions, want 1", st.Promotions)
	}
}

// A removal, a newer header or a newer object must hold in both tiers, also
// after the memory tier has lost what it had.
func TestTieredChangesBothTiers(t *testing.T) {
	body, newer := storetest.Body("old", 5000), storetest.Body("new", 6000)
	for name, c := range map[string]struct {
		change func(*testing.T, *running, store.Key)
		body   []byte
		header string
	}{
		"remove": {func(t *testing.T, r *running, key store.Key) {
			if err := r.Remove(key); err != nil {
				t.Fatal(err)
			}
		}, nil, ""},
		"freshen": {func(t *testing.T, r *running, key store.Key) {
			if err := r.Freshen(key, store.Meta{Header: []byte("fresh")}); err != nil {
				t.Fatal(err)
			}
		}, body, "fresh"},
		"replace": {func(t *testing.T, r *running, key store.Key) { r.put(t, "k", 6000, newer) }, newer, "header of k"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := twoTiers(t)
			r := openTiered(t, cfg)
			key := r.Hasher().Key("k")
			r.put(t, "k", 5000, body)
			r.settle(t)
			c.change(t, r, key)
			r.settle(t)
			for _, when := range []string{"at once", "after a restart"} {
				s, err := r.Open(key)
				if c.body == nil {
					if !errors.Is(err, store.ErrNotFound) {
						t.Fatalf("%s: Open gave %v, want ErrNotFound", when, err)
					}
				} else if err != nil {
					t.Fatalf("%s: %v", when, err)
				} else {
					if string(s.Meta().Header) != c.header {
						t.Errorf("%s: header %q, want %q", when, s.Meta().Header, c.header)
					}
					s.Close()
					r.tier(t, "k", c.body)
				}
				r.stop()
				r = openTiered(t, cfg)
			}
		})
	}
}

// A follower reads on while the fill moves from memory to disk.
func TestTieredFollowersOutliveTheSpill(t *testing.T) {
	r := openTiered(t, twoTiers(t))
	body := storetest.Body("big", 3<<20)
	w, err := r.Create(r.Hasher().Key("big"), store.Meta{Length: -1})
	if err != nil {
		t.Fatal(err)
	}
	written, done := make(chan int, len(body)), make(chan error, 1)
	go func() {
		for n := range written {
			got := make([]byte, min(n, 100_000))
			if m, err := w.ReadAt(got, int64(n-len(got))); m != len(got) || err != nil && err != io.EOF {
				done <- fmt.Errorf("%d written, read %d of the last %d: %w", n, m, len(got), err)
				return
			}
			if !bytes.Equal(got, body[n-len(got):n]) {
				done <- fmt.Errorf("%d written: the last bytes differ", n)
				return
			}
		}
		done <- nil
	}()
	for at := 0; at < len(body); {
		n, err := w.Write(body[at:min(at+10_007, len(body))])
		if err != nil {
			t.Fatal(err)
		}
		at += n
		written <- at
	}
	close(written)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s, err := w.Commit(store.Meta{Length: int64(len(body))})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	r.tier(t, "big", body)
}

// Prepare's value rides on every object, from whichever tier, and prints do.
func TestTieredPrepares(t *testing.T) {
	cfg := twoTiers(t)
	cfg.Prepare = func(m *store.Meta) (any, int64, error) {
		if string(m.Header) == "bad" {
			return nil, 0, errors.New("bad header")
		}
		return "prepared " + string(m.Header), 100, nil
	}
	r := openTiered(t, cfg)
	r.SetPrints(func(m *store.Meta) { m.Prints[1] = uint32(len(m.Header)) + 1 })
	r.put(t, "small", -1, []byte("x"))
	r.put(t, "large", -1, make([]byte, 2<<20))
	for _, text := range []string{"small", "large"} {
		for _, when := range []string{"stored", "freshened"} {
			s, err := r.Open(r.Hasher().Key(text))
			if err != nil {
				t.Fatal(err)
			}
			if want := "prepared " + string(s.Meta().Header); s.Value() != want {
				t.Errorf("%s %s: value %v, want %q", text, when, s.Value(), want)
			}
			if want := uint32(len(s.Meta().Header)) + 1; s.Meta().Prints[1] != want {
				t.Errorf("%s %s: prints %x, want %x", text, when, s.Meta().Prints, want)
			}
			s.Close()
			if err := r.Freshen(r.Hasher().Key(text), store.Meta{Header: []byte("new")}); err != nil {
				t.Fatal(err)
			}
		}
	}
	w, err := r.Create(r.Hasher().Key("bad"), store.Meta{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(store.Meta{Header: []byte("bad")}); err == nil {
		t.Error("an object whose header cannot be prepared was stored")
	}
}
