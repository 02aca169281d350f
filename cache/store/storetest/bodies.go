package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"edgecdn/cache/store"
)

func testLength(t *testing.T, s *Subject) {
	old := s.put(t, "a", "old", 100)
	w := s.write(t, "a", s.meta("short", 1000), Body("short", 999))
	if _, err := w.Commit(s.meta("short", 1000)); err == nil {
		t.Fatal("a body one byte short was committed")
	}
	w.Abort()
	s.want(t, "a", "old", 100, old)

	w = s.write(t, "a", s.meta("short", -1), Body("short", 999))
	if _, err := w.Commit(s.meta("short", 998)); err == nil {
		t.Fatal("a body one byte longer than its meta was committed")
	}
	s.want(t, "a", "old", 100, old)

	w, err := s.Store.Create(s.key("a"), s.meta("long", 1000))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err = w.Write(Body("long", 1001)); err == nil {
		_, err = w.Commit(s.meta("long", 1000))
	}
	if err == nil {
		t.Fatal("a body longer than announced was committed")
	}
	s.want(t, "a", "old", 100, old)
}

func testCollision(t *testing.T, s *Subject) {
	a := s.key("a")
	b := store.Key{Hash: a.Hash, Text: "b"}
	meta := s.put(t, "a", "a", 5000)
	if st, err := s.Store.Open(b); err == nil {
		st.Close()
		t.Fatal("a colliding key was given another's object")
	}
	if err := s.Store.Freshen(b, s.meta("b", 0)); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("freshening a colliding key: %v", err)
	}
	s.want(t, "a", "a", 5000, meta)

	// Either may be kept, or both; each must be what it says.
	mb := s.meta("b", 6000)
	w, err := s.Store.Create(b, mb)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(Body("b", 6000)); err != nil {
		t.Fatal(err)
	}
	st, err := w.Commit(mb)
	if err != nil {
		t.Fatal(err)
	}
	if err := check(st, Body("b", 6000)); err != nil {
		t.Fatal(err)
	}
	st.Close()
	for _, c := range []struct {
		key  store.Key
		body []byte
	}{{a, Body("a", 5000)}, {b, Body("b", 6000)}} {
		st, err := s.Store.Open(c.key)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := check(st, c.body); err != nil {
			t.Fatalf("%s: %v", c.key.Text, err)
		}
		st.Close()
	}
}

// bodySizes are those where something changes: nothing, units, blocks, size
// classes, pages, slices.
var bodySizes = []int{
	0, 1, 63, 64, 65, 511, 512, 513, 4095, 4096, 4097, 16<<10 - 1, 16 << 10, 16<<10 + 1,
	32 << 10, 32<<10 + 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 200_000, 1<<20 - 1, 1 << 20,
	1<<20 + 1, 2 << 20, 2<<20 + 1, 3<<20 + 17,
}

func testSizes(t *testing.T, s *Subject) {
	for _, n := range bodySizes {
		if s.BodyMax > 0 && int64(n) > s.BodyMax {
			continue
		}
		tag := fmt.Sprint("size ", n)
		meta := s.put(t, tag, tag, n)
		s.want(t, tag, tag, n, meta)
	}
}

func testUnknownLength(t *testing.T, s *Subject) {
	for _, n := range bodySizes {
		if s.BodyMax > 0 && int64(n) > s.BodyMax {
			continue
		}
		tag := fmt.Sprint("size ", n)
		meta := s.meta(tag, -1)
		s.fill(t, tag, meta, Body(tag, n)).Close()
		meta.Length = int64(n)
		s.want(t, tag, tag, n, meta)
	}
}

func testTooLarge(t *testing.T, s *Subject) {
	meta := s.meta("a", 0)
	meta.Header = make([]byte, store.HeaderMax+1)
	w, err := s.Store.Create(s.key("a"), meta)
	if err == nil {
		_, err = w.Commit(meta)
	}
	if !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("a header over HeaderMax: %v, want ErrTooLarge", err)
	}
	s.wantNone(t, "a")
	if s.BodyMax == 0 {
		return
	}
	_, err = s.Store.Create(s.key("a"), s.meta("a", s.BodyMax+1))
	if !errors.Is(err, store.ErrTooLarge) {
		t.Fatalf("Create of more than BodyMax: %v, want ErrTooLarge", err)
	}
	w = s.write(t, "a", s.meta("a", -1), Body("a", int(s.BodyMax)))
	if _, err := w.Write([]byte{0}); !errors.Is(err, store.ErrTooLarge) {
		t.Fatalf("Write past BodyMax: %v, want ErrTooLarge", err)
	}
	// Followers may still read what there is until the writer gives up.
	got := make([]byte, 1000)
	if _, err := w.ReadAt(got, s.BodyMax-1000); err != nil || !bytes.Equal(got, Body("a", int(s.BodyMax))[s.BodyMax-1000:]) {
		t.Fatalf("ReadAt after ErrTooLarge: %v", err)
	}
	w.Abort()
	s.wantNone(t, "a")
}

func testRanges(t *testing.T, s *Subject) {
	for _, n := range []int{0, 1, 1000, 70_000, 1 << 20, 2<<20 + 100} {
		if s.BodyMax > 0 && int64(n) > s.BodyMax {
			continue
		}
		tag := fmt.Sprint("ranges ", n)
		body := Body(tag, n)
		s.put(t, tag, tag, n)
		st, err := s.Store.Open(s.key(tag))
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range []int{0, 1, n / 3, n / 2, 64<<10 - 1, 64 << 10, 1<<20 - 1, 1 << 20, n - 1, n, n + 1} {
			for _, length := range []int{0, 1, 100, 64 << 10, 300_000} {
				if err := checkRange(st, body, off, length); err != nil {
					t.Fatalf("%s: %v", tag, err)
				}
			}
		}
		st.Close()
	}
}

// checkRange holds ReadAt to io.ReaderAt.
func checkRange(st *store.Stored, body []byte, off, length int) error {
	if off < 0 {
		return nil
	}
	want := body[min(off, len(body)):min(off+length, len(body))]
	got := make([]byte, length)
	n, err := st.ReadAt(got, int64(off))
	switch {
	case n != len(want) || !bytes.Equal(got[:n], want):
		return fmt.Errorf("ReadAt(%d bytes, %d) gave %d bytes, want %d the same", length, off, n, len(want))
	case n < length && err != io.EOF:
		return fmt.Errorf("ReadAt(%d bytes, %d) past the end: %v, want EOF", length, off, err)
	case n == length && err != nil && err != io.EOF:
		return fmt.Errorf("ReadAt(%d bytes, %d): %w", length, off, err)
	}
	return nil
}

func testMeta(t *testing.T, s *Subject) {
	groups := make([]uint64, 1000)
	for i := range groups {
		groups[i] = s.Hasher.Sum(fmt.Sprint(i))
	}
	for i, meta := range []store.Meta{
		{},
		{Header: []byte{0, 1, 2, 255}, Order: 1<<64 - 1, URL: 1<<64 - 1, Host: 1 << 63},
		{Stored: -1, FreshUntil: -1 << 62, KeepUntil: 1<<63 - 1},
		{Header: Body("header", store.HeaderMax), Groups: groups},
	} {
		text := fmt.Sprint("meta ", i)
		meta.Length = 700
		s.fill(t, text, meta, Body(text, 700)).Close()
		s.want(t, text, text, 700, meta)
	}
}

func testBuffers(t *testing.T, s *Subject) {
	text := []byte("the key")
	want := s.meta("a", 5000)
	meta := want
	meta.Header, meta.Groups = bytes.Clone(want.Header), []uint64{want.Groups[0], want.Groups[1]}
	body := Body("a", 5000)
	key := store.Key{Hash: s.key("the key").Hash, Text: unsafeString(text)}
	w, err := s.Store.Create(key, meta)
	if err != nil {
		t.Fatal(err)
	}
	copy(text, "XXX XXX")
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	clear(body)
	st, err := w.Commit(meta)
	if err != nil {
		t.Fatal(err)
	}
	clear(meta.Header)
	clear(meta.Groups)
	if err := check(st, Body("a", 5000)); err != nil {
		t.Fatal(err)
	}
	st.Close()
	s.want(t, "the key", "a", 5000, want)
}
