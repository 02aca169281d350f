package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/cache/store"
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
	const slices, bad = 24, 15
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
				b, o := newRangingBed(t, slices<<20, true)
				b.getRange("bytes=0-0") // makes the manifest
				whole := func() *recorder {
					w := b.do(context.Background(), b.request("GET", "/video"))
					synctest.Wait()
					if w.aborted || !bytes.Equal(w.body.Bytes(), o.bytes(0, slices<<20)) {
						t.Fatal(w.sent, w.aborted, w.body.Len())
					}
					return w
				}
				whole()
				time.Sleep(5 * time.Second) // it is written out behind the answer
				synctest.Wait()
				// Nothing of it stays in memory.
				little := store.Config{Memory: store.MemoryConfig{Bytes: 8 << 20}, Disk: []store.DiskConfig{{Path: b.dir, Bytes: 64 << 20}}}
				if err := b.cache.store.(*store.Tiered).Apply(little); err != nil {
					t.Fatal(err)
				}
				path, at := findSlice(t, b.dir, bad)
				damage(t, path, at)
				before := len(o.ranges)
				whole()
				asked := o.ranges[before:]
				if len(asked) == 0 || asked[0] != fmt.Sprintf("bytes=%d-%d", bad<<20, (bad+1)<<20-1) {
					t.Error("asked for", asked)
				}
				if name != "cut off" && len(asked) > 1 { // what was behind it in the file is lost too
					t.Error("asked for", asked)
				}
				if len(asked) > 4 {
					t.Error("asked for", asked)
				}
				before = len(o.ranges)
				if w := whole(); len(o.ranges) != before || w.sent.Get("Cache-Status") != "edge; hit; ttl=55" {
					t.Error("asked again for", o.ranges[before:], w.sent)
				}
			})
		})
	}
}

// findSlice returns where in which segment the key of a slice is.
func findSlice(t *testing.T, dir string, number int) (path string, at int64) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
	key := regexp.MustCompile(fmt.Sprintf(`\nslice[^:\n]*:%d\b`, number))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if at := key.FindIndex(data); at != nil {
			return file, int64(at[0])
		}
	}
	t.Fatal("the slice was not found on disk")
	return "", 0
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
