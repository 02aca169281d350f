package cache

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"edgecdn/route"
)

// Damage on disk breaks at most the answer in which it is found; the next one is
// fetched again, and never a wrong byte is sent.
func TestLostPartIsFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, route.Host{}, true)
		body := pattern(5<<20, 3)
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
	})
}
