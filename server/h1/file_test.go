package h1

import (
	"fmt"
	"net/http"
	"testing"

	"edgecdn/cache/store"
	"edgecdn/internal/unit"
)

// Hits whose bodies stay on disk are answered inline, out of the file, in the clear.
func TestHitsFromFiles(t *testing.T) {
	const objects, size = 180, 100_000 // more than memory holds
	kept := store.Config{
		Memory: store.MemoryConfig{Bytes: 16 * unit.MiB},
		Disk:   []store.DiskConfig{{Path: t.TempDir(), Bytes: 256 * unit.MiB}},
	}
	content := pattern(size)
	e := startCached(t, setup{}, kept, func(*http.Request) (*http.Response, error) {
		return made(200, content, "Cache-Control", "max-age=600", "Etag", fmt.Sprintf("%q", fmt.Sprint("v", size))), nil
	})
	path := func(i int) string { return fmt.Sprintf("/%d?%d", size, i%objects) }
	eventually(t, "all is on disk", func() bool {
		for i := range objects {
			c := e.dial()
			c.get(path(i))
		}
		st := e.kept.Stats()
		return st.Disk.Directories[0].Objects >= objects && st.HeadHits > 0
	})
	body := string(content)
	asked, inline, before := e.asked.Load(), e.inline.Load(), e.kept.Stats()
	for i := range objects {
		c := e.dial()
		for _, test := range []struct {
			method, field string
			status        int
			body          string
		}{
			{"GET", "", 200, body},
			{"GET", "Range: bytes=70000-70999\r\n", 206, body[70000:71000]},
			{"HEAD", "", 200, ""},
			{"GET", fmt.Sprintf("If-None-Match: \"v%d\"\r\n", size), 304, ""},
		} {
			c.send(test.method + " " + path(i) + " HTTP/1.1\r\nHost: a.test\r\n" + test.field + "\r\n")
			a := c.read(test.method)
			if a.err != nil || a.StatusCode != test.status || a.body != test.body {
				t.Fatalf("%s %s %s: %s, %d bytes, %v", test.method, path(i), test.field, a.Status, len(a.body), a.err)
			}
		}
	}
	after := e.kept.Stats()
	if e.asked.Load() != asked {
		t.Error("the origin was asked again")
	}
	if n := e.inline.Load() - inline; n < 3*objects {
		t.Errorf("%d of %d hits were answered inline", n, 4*objects)
	}
	sent := after.Disk.Directories[0].BytesSent - before.Disk.Directories[0].BytesSent
	if after.HeadHits-before.HeadHits < 10 || sent < 5*size {
		t.Errorf("%d hits on disk found their head in memory, %d bytes were sent by the kernel", after.HeadHits-before.HeadHits, sent)
	}
}
