package storetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"unsafe"

	"edgecdn/cache/store"
)

// unsafeString is the caller's buffer as a string, as engines pass it.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Seed returns the seed of a random test and logs it; EDGE_TEST_SEED repeats one.
func Seed(t testing.TB) uint64 {
	seed := rand.Uint64()
	if text := os.Getenv("EDGE_TEST_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("EDGE_TEST_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("EDGE_TEST_SEED=%d", seed)
	return seed
}

func testReopen(t *testing.T, s *Subject) {
	if s.Reopen == nil {
		t.Skip("keeps nothing")
	}
	metas := map[string]store.Meta{}
	for i := range 200 {
		text := fmt.Sprint("object ", i)
		metas[text] = s.put(t, text, text, i*i*7)
	}
	if err := s.Store.Remove(s.key("object 7")); err != nil {
		t.Fatal(err)
	}
	fresh := s.meta("a new header", 0)
	if err := s.Store.Freshen(s.key("object 9"), fresh); err != nil {
		t.Fatal(err)
	}
	fresh.Length = 9 * 9 * 7
	metas["object 9"] = fresh
	for range 2 {
		s.Store = s.Reopen(t)
		for i := range 200 {
			text := fmt.Sprint("object ", i)
			if i == 7 {
				s.wantNone(t, text)
				continue
			}
			s.want(t, text, text, i*i*7, metas[text])
		}
	}
}

// stamped returns a body that says under which key and version it was stored.
func stamped(key, version uint64, n int) []byte {
	body := Body(fmt.Sprint(key, version), max(n, 16))
	binary.LittleEndian.PutUint64(body, key)
	binary.LittleEndian.PutUint64(body[8:], version)
	return body
}

func checkStamped(st *store.Stored, key uint64) error {
	head := make([]byte, 16)
	if _, err := st.ReadAt(head, 0); err != nil {
		return fmt.Errorf("read the stamp: %w", err)
	}
	if got := binary.LittleEndian.Uint64(head); got != key {
		return fmt.Errorf("key %d was given the object of %d", key, got)
	}
	return check(st, stamped(key, binary.LittleEndian.Uint64(head[8:]), int(st.Meta().Length)))
}

func testConcurrent(t *testing.T, s *Subject) {
	const goroutines, rounds, keys = 8, 400, 12
	seed := Seed(t)
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(g)))
			var held []func()
			for round := range rounds {
				k := rng.Uint64N(keys)
				release, err := s.step(rng, k, uint64(g)<<32|uint64(round))
				if err != nil {
					t.Errorf("goroutine %d, round %d, key %d: %v", g, round, k, err)
					return
				}
				if release == nil {
					continue
				}
				if held = append(held, release); len(held) > 4 {
					held[0]()
					held = held[1:]
				}
			}
			for _, release := range held {
				release()
			}
		})
	}
	group.Wait()
}

// step does one random thing with key k and checks what it sees. It may return
// a reference to close later.
func (s *Subject) step(rng *rand.Rand, k, version uint64) (func(), error) {
	key := s.key(fmt.Sprint("key ", k))
	switch rng.IntN(8) {
	case 0:
		return nil, s.Store.Remove(key)
	case 1:
		err := s.Store.Freshen(key, s.meta(fmt.Sprint(version), -1))
		if err == nil || errors.Is(err, store.ErrNotFound) {
			return nil, nil
		}
		return nil, err
	case 2, 3:
		return s.stepFill(rng, key, k, version)
	}
	st, err := s.Store.Open(key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return st.Close, checkStamped(st, k)
}

func (s *Subject) stepFill(rng *rand.Rand, key store.Key, k, version uint64) (func(), error) {
	body := stamped(k, version, rng.IntN(1+1<<rng.IntN(18)))
	meta := s.meta(fmt.Sprint(version), int64(len(body)))
	announced := meta
	if rng.IntN(2) == 0 {
		announced.Length = -1
	}
	w, err := s.Store.Create(key, announced)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	for rest := body; len(rest) > 0; {
		n, err := w.Write(rest[:min(len(rest), 1+rng.IntN(40_000))])
		if err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	if rng.IntN(4) == 0 {
		return nil, nil
	}
	st, err := w.Commit(meta)
	if err != nil {
		return nil, err
	}
	return st.Close, checkStamped(st, k)
}

// modelObject is what the model says is stored.
type modelObject struct {
	version uint64
	meta    store.Meta
}

func testModel(t *testing.T, s *Subject) {
	rng := rand.New(rand.NewPCG(Seed(t), 0))
	model := map[uint64]modelObject{}
	const keys = 30
	for version := range uint64(1500) {
		k := rng.Uint64N(keys)
		text := fmt.Sprint("key ", k)
		switch n := rng.IntN(100); {
		case n < 10:
			if err := s.Store.Remove(s.key(text)); err != nil {
				t.Fatal(err)
			}
			delete(model, k)
		case n < 25:
			s.modelFreshen(t, model, k, version)
		case n < 55:
			s.modelFill(t, rng, model, k, version)
		case n < 56 && s.Reopen != nil && version%3 == 0:
			s.Store = s.Reopen(t)
		default:
			s.modelOpen(t, model, k)
		}
	}
	for k := range uint64(keys) {
		s.modelOpen(t, model, k)
	}
}

func (s *Subject) modelFreshen(t *testing.T, model map[uint64]modelObject, k, version uint64) {
	t.Helper()
	object, there := model[k]
	meta := s.meta(fmt.Sprint("fresh ", version), -1)
	err := s.Store.Freshen(s.key(fmt.Sprint("key ", k)), meta)
	if there != (err == nil) || !there && !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("operation %d: Freshen of key %d, there: %v: %v", version, k, there, err)
	}
	if there {
		meta.Length = object.meta.Length
		model[k] = modelObject{object.version, meta}
	}
}

func (s *Subject) modelFill(t *testing.T, rng *rand.Rand, model map[uint64]modelObject, k, version uint64) {
	t.Helper()
	size := rng.IntN(1 + 1<<rng.IntN(20))
	if rng.IntN(50) == 0 && s.BodyMax == 0 {
		size = 1<<20 + rng.IntN(2<<20)
	}
	body := stamped(k, version, size)
	meta := s.meta(fmt.Sprint("fill ", version), int64(len(body)))
	announced := meta
	if rng.IntN(2) == 0 {
		announced.Length = -1
	}
	w := s.write(t, fmt.Sprint("key ", k), announced, body)
	if rng.IntN(5) == 0 {
		w.Abort()
		return
	}
	st, err := w.Commit(meta)
	if err != nil {
		t.Fatalf("operation %d: Commit: %v", version, err)
	}
	st.Close()
	meta.Groups = slices.Clone(meta.Groups)
	model[k] = modelObject{version, meta}
}

func (s *Subject) modelOpen(t *testing.T, model map[uint64]modelObject, k uint64) {
	t.Helper()
	text := fmt.Sprint("key ", k)
	object, there := model[k]
	if !there {
		s.wantNone(t, text)
		return
	}
	st, err := s.Store.Open(s.key(text))
	if err != nil {
		t.Fatalf("Open %s: %v", text, err)
	}
	defer st.Close()
	if err := check(st, stamped(k, object.version, int(object.meta.Length))); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if got := string(st.Meta().Header); got != string(object.meta.Header) {
		t.Fatalf("%s: header %q, want %q", text, got, object.meta.Header)
	}
}
