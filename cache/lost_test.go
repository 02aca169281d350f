package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/cache/store"
	"edgecdn/internal/unit"
	"edgecdn/route"
)

// Damage on disk breaks at most the answer in which it is found; the next one is
// fetched again, and never a wrong byte is sent.
func TestLostPartIsFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, true)
		body := pattern(20<<20, 3)
		answer := func() answerFunc {
			return answering(200, bytes.NewReader(body), int64(len(body)), "Cache-Control", "max-age=600", "Etag", `W/"1"`)
		}
		b.origin.answers[""] = answer()
		b.do(context.Background(), b.request("GET", "/a"))
		time.Sleep(5 * time.Second) // it is written out behind the answer
		synctest.Wait()
		damaged := 0
		files, _ := filepath.Glob(filepath.Join(b.dir, "*.seg"))
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if at := bytes.Index(data, body[3<<20:3<<20+64]); at >= 0 {
				f, err := os.OpenFile(file, os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt([]byte("damage"), int64(at+10)); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
				damaged++
			}
		}
		if damaged == 0 {
			t.Fatal("the body was not found on disk")
		}
		b.origin.answers[""] = answer()
		w := b.do(context.Background(), b.request("GET", "/a"))
		if !w.aborted || !bytes.HasPrefix(body, w.body.Bytes()) {
			t.Error("aborted", w.aborted, "after", w.body.Len())
		}
		// What is whole is still there ...
		w = b.do(context.Background(), b.request("GET", "/a", Field{"range", "bytes=100-199"}))
		if w.sent.Get("Cache-Status") != "edge; hit; ttl=595" || !bytes.Equal(w.body.Bytes(), body[100:200]) {
			t.Error(w.sent)
		}
		// ... and what is not is fetched before anything is sent.
		w = b.do(context.Background(), b.request("GET", "/a"))
		if w.aborted || !bytes.Equal(w.body.Bytes(), body) || w.sent.Get("Cache-Status") != "edge; fwd=uri-miss; ttl=600; stored" {
			t.Error(w.sent, w.aborted, w.body.Len())
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		delete(b.origin.answers, "")
		w = b.do(context.Background(), b.request("GET", "/a"))
		if w.aborted || !bytes.Equal(w.body.Bytes(), body) || w.sent.Get("Cache-Status") != "edge; hit; ttl=595" {
			t.Error("after it was fetched again:", w.sent, w.aborted, w.body.Len())
		}
	})
}

// Of a body in slices only those are fetched again that the disk has lost, also
// when that shows in the middle of an answer: it is right to its end.
func TestLostSliceIsFetchedAlone(t *testing.T) {
	const parts = 24
	for name, damage := range map[string]func(t *testing.T, path string, at int64){
		"a bit flipped": func(t *testing.T, path string, at int64) { overwrite(t, path, at+500_000) },
		"its header":    func(t *testing.T, path string, at int64) { overwrite(t, path, at) },
		"cut off": func(t *testing.T, path string, at int64) {
			if err := os.Truncate(path, at); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, o := newRangingBed(t, parts<<20, true)
				b.getRange("bytes=0-0") // makes the manifest
				whole := func() *recorder {
					w := b.do(context.Background(), b.request("GET", "/video"))
					synctest.Wait()
					if w.aborted || !bytes.Equal(w.body.Bytes(), o.bytes(0, parts<<20)) {
						t.Fatal(w.sent, w.aborted, w.body.Len())
					}
					return w
				}
				whole()
				time.Sleep(5 * time.Second) // it is written out behind the answer
				synctest.Wait()
				// Most of it leaves memory, which then has room again: what is fetched stays.
				for _, bytes := range []unit.Bytes{8 << 20, 64 << 20} {
					memory := store.Config{Memory: store.MemoryConfig{Bytes: bytes}, Disk: []store.DiskConfig{{Path: b.dir, Bytes: 64 << 20}}}
					if err := b.cache.store.(*store.Tiered).Apply(memory); err != nil {
						t.Fatal(err)
					}
				}
				bad, path, at := findSlice(t, b, parts)
				damage(t, path, at)
				before := len(o.ranges)
				whole()
				asked := o.ranges[before:]
				if !slices.Contains(asked, fmt.Sprintf("bytes=%d-%d", bad<<20, (bad+1)<<20-1)) {
					t.Error("slice", bad, "is lost; asked for", asked)
				}
				if most := map[bool]int{true: 4, false: 1}[name == "cut off"]; len(asked) > most { // four are in the file
					t.Error("slice", bad, "is lost; asked for", asked)
				}
				before = len(o.ranges)
				if whole(); len(o.ranges) != before {
					t.Error("still asked for", o.ranges[before:])
				}
			})
		})
	}
}

// findSlice returns a slice that memory does not have, and where in which segment
// its key is.
func findSlice(t *testing.T, b *bed, parts int) (number int, path string, at int64) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(b.dir, "*.seg"))
	keys := regexp.MustCompile(`https?://[^\n]{1,50}\nslice`)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range keys.FindAllIndex(data, -1) {
			for number := 10; number < parts; number++ { // in two digits
				key := string(data[m[0]:m[1]+len(newSalt())]) + ":" + strconv.Itoa(number)
				if !bytes.HasPrefix(data[m[0]:], []byte(key)) {
					continue
				}
				stored, ok := b.cache.store.Lookup(b.cache.store.Hasher().Key(key))
				if !ok {
					return number, file, int64(m[0])
				}
				stored.Close()
			}
		}
	}
	t.Fatal("memory has all slices, or the disk has none")
	return 0, "", 0
}

// overwrite changes a byte of a file.
func overwrite(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	if err == nil {
		b[0] ^= 1
		_, err = f.WriteAt(b, at)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
