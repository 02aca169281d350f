package cache

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/klauspost/compress/zstd"

	"edgecdn/route"
)

// A client that does not take the coding of a response that another is fetching
// reads it decoded, as fast as it comes.
func TestDecodeWhileItComes(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		text := prose(200_000, "x")
		coded := inCoding("gzip", text)
		body, in := io.Pipe()
		b.origin.answers[""] = answering(200, body, int64(len(coded)), "Cache-Control", "max-age=60", "Content-Encoding", "gzip")
		var first, second *recorder
		var wg sync.WaitGroup
		wg.Go(func() { first = b.do(context.Background(), b.request("GET", "/a", Field{acceptEncoding, "gzip"})) })
		wg.Go(func() { second = b.do(context.Background(), b.request("GET", "/a", Field{acceptEncoding, "br"})) })
		_, _ = in.Write(coded[:len(coded)/2])
		synctest.Wait()
		_, _ = in.Write(coded[len(coded)/2:])
		_ = in.Close()
		wg.Wait()
		if first.sent.Get("Content-Encoding") != "gzip" || !bytes.Equal(first.body.Bytes(), coded) {
			t.Error("who takes it:", first.sent)
		}
		if second.sent.Get("Content-Encoding") != "" || !bytes.Equal(second.body.Bytes(), text) || b.origin.requests != 1 {
			t.Error("who does not:", second.sent, second.body.Len(), b.origin.requests, "requests")
		}
		if n := b.cache.stats.Decodings.Load(); n != 0 {
			t.Error(n, "decodings left")
		}
	})
}

func TestDecodeBrokenOff(t *testing.T) {
	for _, coding := range route.Codings {
		inBubble(t, func(t *testing.T, b *bed) {
			coded := inCoding(coding, pattern(300_000, 3)) // several blocks
			b.origin.answers[""] = answering(200, bytes.NewReader(coded[:len(coded)-20_000]), -1, "Cache-Control", "max-age=60", "Content-Encoding", coding)
			for range 2 {
				w := b.do(context.Background(), b.request("GET", "/a"))
				if w.status != 200 || !w.aborted || w.body.Len() == 0 {
					t.Error(coding, w.status, w.aborted, w.body.Len())
				}
			}
			if n := b.cache.stats.DecodingsFailed.Load(); n != 2 {
				t.Error(coding, n, "failures")
			}
		})
	}
}

// A small body that expands to a huge one is cut, in little memory.
func TestDecodeIsBounded(t *testing.T) {
	for _, coding := range route.Codings {
		inBubble(t, func(t *testing.T, b *bed) {
			coded := inCoding(coding, make([]byte, 6<<20))
			b.origin.answers[""] = answering(200, bytes.NewReader(coded), int64(len(coded)), "Cache-Control", "max-age=60", "Content-Encoding", coding)
			var sent int
			w := &recorder{header: http.Header{}}
			w.slow = func() { sent += w.body.Len(); w.body.Reset() }
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			b.serve(context.Background(), w, b.request("GET", "/a"))
			runtime.ReadMemStats(&after)
			if !w.aborted || sent > decodedSpare+decodedRatio*len(coded) {
				t.Error(coding, len(coded), "bytes became", sent, "aborted", w.aborted)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
				t.Error(coding, "took", grown, "bytes")
			}
		})
	}
}

// What no client need be able to undo is not undone here either.
func TestDecodeLargeWindow(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		var coded bytes.Buffer
		encoder, err := zstd.NewWriter(&coded, zstd.WithWindowSize(64<<20), zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = encoder.Write(pattern(100_000, 4))
		if err := encoder.Flush(); err != nil { // so that the frame cannot say how small it is
			t.Fatal(err)
		}
		_ = encoder.Close()
		b.origin.answers[""] = answering(200, bytes.NewReader(coded.Bytes()), int64(coded.Len()), "Cache-Control", "max-age=60", "Content-Encoding", "zstd")
		w := b.do(context.Background(), b.request("GET", "/a"))
		if w.status != http.StatusBadGateway || b.cache.stats.DecodingsFailed.Load() != 1 {
			t.Error(w.status, w.sent)
		}
	})
}

// With too many at it, the origin is asked for what the client takes.
func TestDecodingsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bed) {
		text := prose(5000, "x")
		b.origin.answers[""] = func(r *http.Request) (*http.Response, error) {
			coding := r.Header.Get("Accept-Encoding")
			body := text
			fields := []string{"Cache-Control", "max-age=60"}
			if coding == "gzip" {
				body = inCoding(coding, text)
				fields = append(fields, "Content-Encoding", coding)
			}
			return answering(200, bytes.NewReader(body), int64(len(body)), fields...)(r)
		}
		b.do(context.Background(), b.request("GET", "/a", Field{acceptEncoding, "gzip"}))
		gate := make(chan struct{})
		var wg sync.WaitGroup
		for i := range decodingsMax + 5 {
			wg.Go(func() {
				w := &recorder{header: http.Header{}, slow: func() { <-gate }}
				b.serve(context.Background(), w, b.request("GET", "/a"))
				if w.body.String() != string(text) || w.sent.Get("Content-Encoding") != "" {
					t.Error("client", i, "got", w.body.Len(), "bytes", w.sent)
				}
			})
		}
		synctest.Wait()
		refused, now := b.cache.stats.DecodingsRefused.Load(), b.cache.stats.Decodings.Load()
		close(gate)
		wg.Wait()
		if refused != 5 || now != decodingsMax || b.origin.requests != 6 {
			t.Error(refused, "refused,", now, "at work,", b.origin.requests, "requests")
		}
	})
}

func FuzzDecoding(f *testing.F) {
	for _, coding := range route.Codings {
		f.Add(coding, inCoding(coding, []byte("hello, hello, hello")))
		f.Add(coding, inCoding(coding, make([]byte, 10_000)))
	}
	f.Fuzz(func(t *testing.T, coding string, body []byte) {
		known := false
		for _, name := range route.Codings {
			known = known || name == coding
		}
		if !known {
			return
		}
		in := &decoding{raw: bytes.NewReader(body)}
		defer in.close()
		if err := in.open(coding, bufio.NewReader(readerFunc(in.readRaw))); err != nil {
			return
		}
		n, _ := io.Copy(io.Discard, readerFunc(in.read))
		if n > decodedSpare+decodedRatio*int64(len(body)) {
			t.Error(fmt.Sprint(len(body), " bytes became ", n))
		}
	})
}
