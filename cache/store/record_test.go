package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestRecordRoundTrip(t *testing.T) {
	groups := make([]uint64, groupsMax)
	for i := range groups {
		groups[i] = rand.Uint64()
	}
	body := testBody(1, 200_000)
	for name, h := range map[string]objectHead{
		"empty":     {key: "k", meta: Meta{Header: []byte{}}},
		"body":      {key: "https://example.org/", meta: testMeta(3, len(body)), sums: checksums(nil, body)},
		"elsewhere": {key: "k", meta: testMeta(3, len(body)), sums: checksums(nil, body), address: 1<<40 + 512, prefix: prefix{flags: flagElsewhere}},
		"sliced":    {key: "k", meta: testMeta(3, 10<<20), fill: 99, sliceBytes: 1 << 20},
		"largest": {key: strings.Repeat("k", keyMax), meta: Meta{Header: make([]byte, HeaderMax), Groups: groups,
			Stored: -1, FreshUntil: 1<<63 - 1, KeepUntil: -1 << 63, Order: 1<<64 - 1}},
	} {
		t.Run(name, func(t *testing.T) {
			h.hash = Hash{rand.Uint64(), rand.Uint64()}
			if h.fill == 0 && h.flags == 0 {
				h.bodyBytes = int(h.meta.Length)
			}
			head, err := encodeObject(&h)
			if err != nil {
				t.Fatal(err)
			}
			const position = 1<<60 | 77
			stamp(head, position, 12345)
			p, rest, err := decodeHead(head, position)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decodeObject(p, rest)
			if err != nil {
				t.Fatal(err)
			}
			h.headBytes, h.position, h.sequence = len(head), position, 12345
			if diff := cmp.Diff(&h, got, cmp.AllowUnexported(objectHead{}, prefix{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("differs (-want +got):\n%s", diff)
			}
			if _, _, err := decodeHead(head, position+1); !errors.Is(err, errNoRecord) {
				t.Errorf("read at another position: %v", err)
			}
		})
	}
	if _, err := encodeObject(&objectHead{key: strings.Repeat("k", keyMax+1)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("key over keyMax: %v", err)
	}
}

// TestRecordBitFlips: whichever bit of a head flips, it is no record any more.
func TestRecordBitFlips(t *testing.T) {
	h := &objectHead{key: "key", meta: testMeta(3, 100), sums: checksums(nil, testBody(3, 100)), prefix: prefix{bodyBytes: 100}}
	head, err := encodeObject(h)
	if err != nil {
		t.Fatal(err)
	}
	stamp(head, 42, 1)
	for i := range len(head) * 8 {
		head[i/8] ^= 1 << (i % 8)
		if _, _, err := decodeHead(head, 42); !errors.Is(err, errNoRecord) {
			t.Fatalf("bit %d flipped: %v", i, err)
		}
		head[i/8] ^= 1 << (i % 8)
	}
	if _, _, err := decodeHead(head, 42); err != nil {
		t.Fatal(err)
	}
}

func TestTableRoundTrip(t *testing.T) {
	var entries []tableEntry
	unit := 1
	for i := range 1000 {
		p := &prefix{kind: recordKind(1 + i%3), flags: uint16(i % 2), headBytes: 52 + i*7%2000, bodyBytes: i * 997 % sliceMax}
		e := makeEntry(uint64(i)*7919, unit, p)
		if e.unit() != unit || e.kind() != p.kind || e.units() != p.units() || e.headUnits() != unitsOf(p.headBytes) || e.elsewhere() != (i%2 == 1) {
			t.Fatalf("entry %d is %x", i, e.word)
		}
		if unit+p.units() >= 1<<unitBits-100 {
			break
		}
		entries = append(entries, e)
		unit += p.units()
	}
	file := make([]byte, unit*unitBytes)
	file = append(file, encodeTable(9, int64(len(file)), entries)...)
	got, err := readTable(bytes.NewReader(file), 9, int64(len(file)))
	if err != nil || !cmp.Equal(entries, got, cmp.AllowUnexported(tableEntry{})) {
		t.Fatalf("%d entries, %v; want the %d written", len(got), err, len(entries))
	}
	if _, err := readTable(bytes.NewReader(file), 8, int64(len(file))); !errors.Is(err, errTorn) {
		t.Errorf("table of another segment: %v", err)
	}
	for range 2000 {
		i := unit*unitBytes + rand.IntN(len(file)-unit*unitBytes)
		file[i] ^= 1
		got, err := readTable(bytes.NewReader(file), 9, int64(len(file)))
		if err == nil && !cmp.Equal(entries, got, cmp.AllowUnexported(tableEntry{})) {
			t.Fatalf("byte %d flipped: other entries", i)
		}
		file[i] ^= 1
	}
}

// restamp lets the fuzzer past the checksum.
func restamp(b []byte) {
	if len(b) >= prefixBytes {
		copy(b, []byte{0x45, 0x44, 0x47, 0x52})
		b[9] = recordVersion
		stamp(b, 42, 1)
	}
}

func FuzzRecord(f *testing.F) {
	object, _ := encodeObject(&objectHead{key: "key", meta: testMeta(3, 100), sums: checksums(nil, testBody(3, 100)), prefix: prefix{bodyBytes: 100}})
	manifest, _ := encodeObject(&objectHead{key: "key", meta: testMeta(3, 10<<20), fill: 99, sliceBytes: 1 << 20})
	f.Add(object)
	f.Add(manifest)
	f.Add(encodeSlice(&sliceHead{fill: 1, owner: 2, number: 3, sums: []uint32{4}, prefix: prefix{bodyBytes: 5}}))
	f.Add(encodeRemovals([]removal{{1, 2}, {3, 4}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		restamp(b)
		p, rest, err := decodeHead(b, 42)
		if err != nil {
			return
		}
		if h, err := decodeObject(p, rest); err == nil {
			again, err := encodeObject(h)
			if err != nil {
				t.Fatalf("decoded but not encoded: %v", err)
			}
			stamp(again, 42, 1)
			if !bytes.Equal(again[prefixBytes:], b[prefixBytes:]) {
				t.Fatal("encodes to other bytes")
			}
		}
		if h, err := decodeSlice(p, rest); err == nil && len(h.sums) != blocksOf(int64(h.bodyBytes)) {
			t.Fatal("checksums do not fit the body")
		}
		if gone, err := decodeRemovals(p, rest); err == nil && len(gone) > removalsMax {
			t.Fatal("too many removals")
		}
		if _, sums, err := describe(p, rest); err == nil && int64(len(sums)) > sliceMax/blockBytes {
			t.Fatal("too many checksums")
		}
	})
}

// FuzzTable gives a segment of any bytes to what reads them at the start.
func FuzzTable(f *testing.F) {
	head := encodeRemovals([]removal{{1, 2}})
	stamp(head, positionOf(1, 1), 1)
	file := append(encodeSegmentHeader(1), head...)
	file = append(file, make([]byte, unitsOf(len(head))*unitBytes-len(head))...)
	f.Add(file)
	entries := []tableEntry{makeEntry(0, 1, &prefix{kind: kindRemoval, headBytes: len(head)})}
	f.Add(append(file, encodeTable(1, int64(len(file)), entries)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		size := int64(len(b))
		if err := checkSegmentHeader(b, 1); err == nil && size < unitBytes {
			t.Fatal("a header of less than a unit")
		}
		check := func(entries []tableEntry) {
			next := 1
			for _, e := range entries {
				if e.unit() < next || int64(e.unit()+e.units())*unitBytes > size {
					t.Fatalf("entry at unit %d of %d bytes, the last ended at %d", e.unit(), size, next)
				}
				next = e.unit() + e.units()
			}
		}
		if entries, err := readTable(bytes.NewReader(b), 1, size); err == nil {
			check(entries)
		}
		entries, _, end := walkSegment(bytes.NewReader(b), 1, size)
		if check(entries); end > size {
			t.Fatal("walked past the end")
		}
	})
}
