// Package storetest is the conformance suite of store.Store: what every tier,
// and tiers put together, must do. A test of a store hands Run a function that
// opens a fresh one.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"edgecdn/cache/store"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Subject is a store under test.
type Subject struct {
	Store  store.Store
	Hasher store.Hasher
	// BodyMax is the largest body that the store takes; 0: more than the suite tries.
	BodyMax int64
	// Reopen closes the store and opens what it left behind; nil where it leaves
	// nothing. Subject.Store is not used any more after it.
	Reopen func(t *testing.T) store.Store
}

// Run runs the suite. open returns a fresh, empty store of at least 64 MiB and
// registers its end with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *Subject)
	}{
		{"life of an object", testLife},
		{"abort leaves no trace", testAbort},
		{"a dropped writer is an abort", testDropped},
		{"followers read an open writer", testFollow},
		{"replaced while a reference is open", testReplace},
		{"two writers of one key", testTwoWriters},
		{"freshen keeps the body", testFreshen},
		{"notes are of one Meta", testSeen},
		{"removed while a reference is open", testRemoveOpen},
		{"length must match", testLength},
		{"a colliding hash is a miss", testCollision},
		{"sizes", testSizes},
		{"unknown length", testUnknownLength},
		{"too large", testTooLarge},
		{"ranges", testRanges},
		{"meta comes back whole", testMeta},
		{"callers may reuse their buffers", testBuffers},
		{"what was committed is there after a restart", testReopen},
		{"many goroutines", testConcurrent},
		{"random operations against a model", testModel},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			c.test(t, &s)
		})
	}
}

// key returns the key of a text.
func (s *Subject) key(text string) store.Key { return s.Hasher.Key(text) }

// meta returns a Meta that is different for each tag.
func (s *Subject) meta(tag string, length int64) store.Meta {
	now := time.Now().UnixNano()
	return store.Meta{
		Header: []byte("header of " + tag), Length: length,
		Stored: now, FreshUntil: now + int64(time.Minute), KeepUntil: now + int64(time.Hour),
		Order: uint64(len(tag)), URL: s.Hasher.Sum(tag), Host: s.Hasher.Sum("host"),
		Groups: []uint64{s.Hasher.Sum("group"), s.Hasher.Sum("group of " + tag)},
	}
}

// Body returns n bytes that differ at each place and for each tag, so that
// bytes of another object or another place are found out.
func Body(tag string, n int) []byte {
	body := make([]byte, n)
	seed := uint64(14695981039346656037)
	for i := range len(tag) {
		seed = (seed ^ uint64(tag[i])) * 1099511628211
	}
	for i := range body {
		if i%8 == 0 {
			seed = (seed ^ uint64(i)) * 1099511628211
		}
		body[i] = byte(seed >> (i % 8 * 8))
	}
	return body
}

// fill writes body under key in odd pieces and returns the reference.
func (s *Subject) fill(t *testing.T, text string, meta store.Meta, body []byte) *store.Stored {
	t.Helper()
	w := s.write(t, text, meta, body)
	defer w.Abort()
	meta.Length = int64(len(body))
	st, err := w.Commit(meta)
	if err != nil {
		t.Fatalf("Commit %s: %v", text, err)
	}
	return st
}

func (s *Subject) write(t *testing.T, text string, meta store.Meta, body []byte) store.Writer {
	t.Helper()
	w, err := s.Store.Create(s.key(text), meta)
	if err != nil {
		t.Fatalf("Create %s: %v", text, err)
	}
	for piece := 1; len(body) > 0; piece = piece*3 + 1 {
		n, err := w.Write(body[:min(piece, len(body))])
		if err != nil {
			t.Fatalf("Write %s: %v", text, err)
		}
		body = body[n:]
	}
	return w
}

// put stores body under text.
func (s *Subject) put(t *testing.T, text, tag string, n int) store.Meta {
	t.Helper()
	meta := s.meta(tag, int64(n))
	s.fill(t, text, meta, Body(tag, n)).Close()
	return meta
}

// want checks that text holds this body and meta.
func (s *Subject) want(t *testing.T, text, tag string, n int, meta store.Meta) {
	t.Helper()
	st, err := s.Store.Open(s.key(text))
	if err != nil {
		t.Fatalf("Open %s: %v", text, err)
	}
	defer st.Close()
	if err := check(st, Body(tag, n)); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if diff := cmp.Diff(meta, *st.Meta(), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s: meta differs (-want +got):\n%s", text, diff)
	}
}

// wantNone checks that there is nothing under text.
func (s *Subject) wantNone(t *testing.T, text string) {
	t.Helper()
	st, err := s.Store.Open(s.key(text))
	if err == nil {
		st.Close()
	}
	if !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Open %s: %v, want ErrNotFound", text, err)
	}
}

// check reads the whole body by every way there is.
func check(st *store.Stored, want []byte) error {
	if st.Meta().Length != int64(len(want)) {
		return fmt.Errorf("length %d, want %d", st.Meta().Length, len(want))
	}
	got, err := io.ReadAll(io.NewSectionReader(st, 0, int64(len(want))+1))
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("body differs at %d of %d", differs(got, want), len(want))
	}
	switch whole := st.Bytes(); {
	case st.Tier() == "memory" && whole == nil:
		return errors.New("no bytes though the body is in memory")
	case whole != nil && !bytes.Equal(whole, want):
		return fmt.Errorf("the bytes differ at %d of %d", differs(whole, want), len(want))
	}
	return nil
}

func differs(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func testLife(t *testing.T, s *Subject) {
	meta, body := s.meta("a", 5000), Body("a", 5000)
	s.wantNone(t, "a")
	w := s.write(t, "a", meta, body)
	s.wantNone(t, "a")
	st, err := w.Commit(meta)
	if err != nil {
		t.Fatal(err)
	}
	if err := check(st, body); err != nil {
		t.Fatal(err)
	}
	st.Close()
	s.want(t, "a", "a", 5000, meta)
	s.wantNone(t, "b")
	if err := s.Store.Remove(s.key("a")); err != nil {
		t.Fatal(err)
	}
	s.wantNone(t, "a")
	if err := s.Store.Remove(s.key("a")); err != nil {
		t.Fatalf("removing what is not there: %v", err)
	}
}

func testAbort(t *testing.T, s *Subject) {
	meta := s.put(t, "a", "old", 100)
	w := s.write(t, "a", s.meta("new", 200), Body("new", 200))
	w.Abort()
	w.Abort()
	s.want(t, "a", "old", 100, meta)
	if _, err := w.Commit(s.meta("new", 200)); err == nil {
		t.Fatal("Commit after Abort succeeded")
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Fatal("Write after Abort succeeded")
	}
	s.want(t, "a", "old", 100, meta)

	meta = s.meta("new", 300)
	w = s.write(t, "a", meta, Body("new", 300))
	st, err := w.Commit(meta)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	w.Abort()
	s.want(t, "a", "new", 300, meta)
}

func testDropped(t *testing.T, s *Subject) {
	meta := s.put(t, "a", "old", 100)
	for range 10 {
		s.write(t, "a", s.meta("new", -1), Body("new", 70_000))
	}
	runtime.GC()
	s.want(t, "a", "old", 100, meta)
}

func testFollow(t *testing.T, s *Subject) {
	const size = 300_000
	meta, body := s.meta("a", -1), Body("a", size)
	w, err := s.Store.Create(s.key("a"), meta)
	if err != nil {
		t.Fatal(err)
	}
	written, done := make(chan int), make(chan error, 1)
	go func() {
		var failed error
		for n := range written {
			got := make([]byte, n)
			if m, err := w.ReadAt(got, 0); m != n || err != nil && err != io.EOF {
				failed = fmt.Errorf("read %d of %d written: %w", m, n, err)
			} else if !bytes.Equal(got, body[:n]) {
				failed = fmt.Errorf("of %d written, byte %d differs", n, differs(got, body))
			}
		}
		done <- failed
	}()
	for at := 0; at < size; {
		n, err := w.Write(body[at:min(size, at+30_011)])
		if err != nil {
			t.Fatal(err)
		}
		at += n
		written <- at
	}
	if n, err := w.ReadAt(make([]byte, 10), size-4); n != 4 || err != io.EOF {
		t.Errorf("ReadAt over the end: %d, %v; want 4, EOF", n, err)
	}
	close(written)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	meta.Length = size
	st, err := w.Commit(meta)
	if err != nil {
		t.Fatal(err)
	}
	st.Close()
	s.want(t, "a", "a", size, meta)
}

func testReplace(t *testing.T, s *Subject) {
	old := s.put(t, "a", "old", 70_000)
	ref, err := s.Store.Open(s.key("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer ref.Close()
	for i := range 20 {
		tag := fmt.Sprint("new", i)
		meta := s.put(t, "a", tag, 70_000+i)
		s.want(t, "a", tag, 70_000+i, meta)
	}
	if err := check(ref, Body("old", 70_000)); err != nil {
		t.Fatalf("the open reference: %v", err)
	}
	if diff := cmp.Diff(old, *ref.Meta()); diff != "" {
		t.Fatalf("the open reference's meta changed:\n%s", diff)
	}
}

func testTwoWriters(t *testing.T, s *Subject) {
	first, second := s.meta("first", 1000), s.meta("second", 2000)
	a := s.write(t, "k", first, Body("first", 1000))
	b := s.write(t, "k", second, Body("second", 2000))
	st, err := b.Commit(second)
	if err != nil {
		t.Fatal(err)
	}
	st.Close()
	s.want(t, "k", "second", 2000, second)
	if st, err = a.Commit(first); err != nil {
		t.Fatal(err)
	}
	st.Close()
	s.want(t, "k", "first", 1000, first)
}

func testFreshen(t *testing.T, s *Subject) {
	if err := s.Store.Freshen(s.key("a"), s.meta("a", 0)); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("freshening what is not there: %v", err)
	}
	old := s.put(t, "a", "a", 70_000)
	ref, err := s.Store.Open(s.key("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer ref.Close()
	for i := range 5 {
		meta := s.meta(fmt.Sprint("header ", i), -1)
		if err := s.Store.Freshen(s.key("a"), meta); err != nil {
			t.Fatal(err)
		}
		meta.Length = 70_000
		s.want(t, "a", "a", 70_000, meta)
	}
	if diff := cmp.Diff(old, *ref.Meta()); diff != "" {
		t.Fatalf("the open reference's meta changed:\n%s", diff)
	}
	if err := s.Store.Remove(s.key("a")); err != nil {
		t.Fatal(err)
	}
	s.wantNone(t, "a")
	if err := s.Store.Freshen(s.key("a"), old); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("freshening what was removed: %v", err)
	}
	s.wantNone(t, "a")
}

// testSeen: what is noted of a Meta stays in memory, and nobody's note, however late, is
// taken for one of the Meta that has come in its place.
func testSeen(t *testing.T, s *Subject) {
	open := func() *store.Stored {
		st, err := s.Store.Open(s.key("a"))
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	var old []*store.Stored
	for i, change := range []func(){
		func() { s.put(t, "a", "first", 1000) },
		func() { _ = s.Store.Freshen(s.key("a"), s.meta("fresh", -1)) },
		func() { _ = s.Store.Freshen(s.key("a"), s.meta("fresh again", -1)) },
		func() { s.put(t, "a", "second", 1000) },
	} {
		change()
		for _, st := range old {
			st.Seen().Add(1)
		}
		st, again := open(), open()
		if n := st.Seen().Load(); n != 0 {
			t.Fatalf("after change %d somebody has noted %d", i, n)
		}
		st.Seen().Store(7)
		if n := again.Seen().Load(); again.InMemory() && n != 7 {
			t.Fatalf("after change %d: %d, 7 has been noted", i, n)
		}
		again.Close()
		old = append(old, st)
	}
	for i, st := range old {
		if n := st.Seen().Load(); n != 7+uint64(len(old)-1-i) {
			t.Errorf("%d: %d", i, n)
		}
		st.Close()
	}
}

func testRemoveOpen(t *testing.T, s *Subject) {
	s.put(t, "a", "a", 200_000)
	ref, err := s.Store.Open(s.key("a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Store.Remove(s.key("a")); err != nil {
		t.Fatal(err)
	}
	s.wantNone(t, "a")
	for i := range 20 {
		s.put(t, fmt.Sprint("other", i), fmt.Sprint("other", i), 200_000)
	}
	if err := check(ref, Body("a", 200_000)); err != nil {
		t.Fatal(err)
	}
	ref.Close()
	ref.Close() // closing twice gives back one reference only
}
