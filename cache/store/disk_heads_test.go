package store

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"edgecdn/internal/unit"
)

// Objects that are wanted alike and do not fit into memory together stay on disk:
// hits there are not paid for with copies. One that is wanted much more comes.
func TestHitsOnDiskAreCopiedSparingly(t *testing.T) {
	b := openTiered(t, t.TempDir()).start(t)
	const objects, size, rounds = 400, 100 << 10, 30
	names := make([]string, objects)
	for i := range names {
		names[i] = fmt.Sprint("object ", i)
		if err := b.put(t, names[i], size, Meta{}); err != nil {
			t.Fatal(err)
		}
		b.has(names[i])
		b.onDisk(t, names[i])
	}
	ask := func(name string) string {
		key := b.Hasher().Key(name)
		if s, ok := b.LookupFile(key); ok {
			defer s.Close()
			return s.Tier()
		}
		s, err := b.Open(key)
		if err != nil {
			t.Fatal(name, err)
		}
		defer s.Close()
		return s.Tier()
	}
	onDisk := 0
	var before Stats
	for round := range rounds {
		if round == rounds/3 {
			before, onDisk = b.Stats(), 0
		}
		for _, name := range names {
			if ask(name) == tierDisk {
				onDisk++
			}
		}
	}
	after := b.Stats()
	if copied := after.PromotedBytes - before.PromotedBytes; onDisk == 0 || copied > int64(onDisk)*size/20 {
		t.Errorf("%d bytes copied to memory for %d hits on disk of %d bytes", copied, onDisk, size)
	}
	if heads := after.HeadHits - before.HeadHits; heads < int64(onDisk)*8/10 {
		t.Errorf("%d of %d hits on disk found their head in memory", heads, onDisk)
	}
	hot := ""
	for _, name := range names {
		if ask(name) == tierDisk {
			hot = name
			break
		}
	}
	for n := 0; ask(hot) == tierDisk; n++ {
		if n == 5000 {
			t.Fatal("asked for 5000 times and not in memory")
		}
		for len(b.memory.accesses) > 0 { // however slow the owner is to count
			runtime.Gosched()
		}
	}
}

// A head that is in memory never answers with what has been replaced, freshened or
// removed, and its memory is accounted for.
func TestHeadsFollowTheIndex(t *testing.T) {
	b := openTiered(t, t.TempDir()).start(t)
	d := b.disk
	seed := rand.Uint64()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	const keys = 40
	want := map[int]uint64{} // header, 0: none
	header := func(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
	used := b.memory.used.Load()
	for n := uint64(1); n < 8000; n++ {
		i := rng.IntN(keys)
		key := b.Hasher().Key(fmt.Sprint("key ", i))
		switch rng.IntN(8) {
		case 0:
			w, err := d.Create(key, Meta{Header: header(n), Length: headBodyMin})
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.Write(make([]byte, headBodyMin))
			if err != nil {
				t.Fatal(err)
			}
			s, err := w.Commit(Meta{Header: header(n), Length: headBodyMin})
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			want[i] = n
		case 1:
			if d.Freshen(key, Meta{Header: header(n)}) == nil {
				want[i] = n
			}
		case 2:
			if err := d.Remove(key); err != nil {
				t.Fatal(err)
			}
			want[i] = 0
		}
		s, _, ok := d.lookup(key)
		if !ok {
			if found, err := d.Open(key); err == nil {
				d.remember(found)
				s, ok = *found, true
			}
		}
		if got := uint64(0); ok {
			got = binary.LittleEndian.Uint64(s.Meta().Header)
			s.Close()
			if got != want[i] {
				t.Fatalf("step %d, key %d: %d, want %d", n, i, got, want[i])
			}
		} else if want[i] != 0 {
			t.Fatalf("step %d: key %d is lost", n, i)
		}
	}
	if d.heads.used.Load() < 1000 {
		t.Errorf("%d heads were used: this proves nothing", d.heads.used.Load())
	}
	if got := b.memory.used.Load() - used; got != d.heads.bytes.Load() || got <= 0 {
		t.Errorf("%d bytes of memory for heads of %d bytes", got, d.heads.bytes.Load())
	}
	for i := range keys {
		d.dropHead(b.Hasher().Key(fmt.Sprint("key ", i)))
	}
	if got := d.heads.bytes.Load(); got != 0 || b.memory.used.Load() != used {
		t.Errorf("%d bytes of heads are left, %d of memory", got, b.memory.used.Load()-used)
	}
}

// Heads take a part of memory at most, and shrink with it.
func TestHeadsAreBounded(t *testing.T) {
	b := openTiered(t, t.TempDir()).start(t)
	d := b.disk
	large := make([]byte, 8<<10)
	for i := range 2000 {
		h := &objectHead{meta: Meta{Header: large, Length: BodyMax}, key: fmt.Sprint(i)}
		h.hash = b.Hasher().Key(h.key).Hash
		d.heads.keep(&diskHead{v: d.volumes[0], h: h}, 0)
	}
	if got, most := d.heads.bytes.Load(), b.memory.budget.Load()/headsShare; got > most || got < most/2 {
		t.Errorf("%d bytes of heads, at most %d", got, most)
	}
	if err := b.Apply(Config{Memory: MemoryConfig{Bytes: 8 * unit.MiB}, Disk: []DiskConfig{{Path: b.dir, Bytes: 2 * unit.GiB}}}); err != nil {
		t.Fatal(err)
	}
	if got := d.heads.bytes.Load(); got > int64(8*unit.MiB)/headsShare {
		t.Errorf("%d bytes of heads after memory shrank", got)
	}
}
