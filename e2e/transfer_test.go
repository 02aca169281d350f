package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecdn/cmd/origin/script"
)

// Uploads and downloads in which client, origin or both rest for a while arrive
// byte for byte, over each protocol, whether their length is announced or not,
// stored or passed through.
func TestStalls(t *testing.T) {
	transferWithStalls(t, 6_000_000, 2, 150*time.Millisecond)
}

func TestSoakStalls(t *testing.T) {
	soak(t)
	transferWithStalls(t, 1<<30, 5, 2*time.Second)
}

// everyProtocol adds TLS to what a node speaks in the clear.
var everyProtocol = append([]string{"h1s"}, protocols...)

func transferWithStalls(t *testing.T, size int64, stalls int, rest time.Duration) {
	config := strings.Replace(earlyConfig(startOrigin(t), false), "early_data: false", "limits: {body_bytes: 2GiB}", 1)
	n, _ := startConfigured(t, config)
	sum := patternSum(size)
	var wg sync.WaitGroup
	for _, protocol := range everyProtocol {
		c := newClient(t, n, protocol)
		c.Timeout = 0 // how long it takes is not judged
		wg.Go(func() {
			for _, announced := range []bool{true, false} {
				if err := uploadWithStalls(t, c, size, stalls, rest, announced, sum); err != nil {
					t.Errorf("%s: upload, length announced %t: %v", c.name, announced, err)
				}
			}
			for _, fields := range []string{"no-store", "max-age=600"} {
				if err := downloadWithStalls(t, c, size, stalls, rest, fields, sum); err != nil {
					t.Errorf("%s: download, %s: %v", c.name, fields, err)
				}
			}
		})
	}
	wg.Wait()
	if got := count(t, n, "edge_messages_stalled_total"); got != 0 {
		t.Errorf("%v messages were cut for being slow", got)
	}
}

// patternSum returns the SHA-256 of a generated body, in hexadecimal.
func patternSum(size int64) string {
	hash := sha256.New()
	_, _ = io.Copy(hash, &stallingPattern{size: size}) // cannot fail
	return hex.EncodeToString(hash.Sum(nil))
}

func uploadWithStalls(t *testing.T, c *client, size int64, stalls int, rest time.Duration, announced bool, sum string) error {
	body := &stallingPattern{size: size, every: size / int64(stalls+1), rest: rest}
	// The origin begins to read late, so that what the client sends has to wait.
	req := c.request(t, "POST", "/_origin/upload?delay="+rest.String(), io.NopCloser(body))
	if req.ContentLength = -1; announced {
		req.ContentLength = size
	}
	a, err := c.try(req)
	if err != nil {
		return err
	}
	var got script.Upload
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.StatusCode != 200 {
		return fmt.Errorf("%s, %q: %w", a.Status, a.body, err)
	}
	if got.Length != size || got.SHA256 != sum {
		return fmt.Errorf("the origin got %d bytes of %d, the right ones: %t", got.Length, size, got.SHA256 == sum)
	}
	return nil
}

func downloadWithStalls(t *testing.T, c *client, size int64, stalls int, rest time.Duration, control, sum string) error {
	target := respond("size", fmt.Sprint(size), "chunks", "4", "chunk_delay", rest.String(), "for", c.name, "header", "Cache-Control:"+control)
	resp, err := c.Do(c.request(t, "GET", target, nil))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	hash := sha256.New()
	got, err := io.Copy(hash, &stallingReader{r: resp.Body, every: size / int64(stalls+1), rest: rest})
	if err != nil || resp.StatusCode != 200 {
		return fmt.Errorf("%s, after %d bytes: %w", resp.Status, got, err)
	}
	if got != size || hex.EncodeToString(hash.Sum(nil)) != sum {
		return fmt.Errorf("got %d bytes of %d, and not the origin's", got, size)
	}
	return nil
}

// stallingPattern is a generated body that rests after each `every` bytes.
type stallingPattern struct {
	off, size, every int64
	rest             time.Duration
}

func (p *stallingPattern) Read(b []byte) (int, error) {
	if p.off == p.size {
		return 0, io.EOF
	}
	n := min(int64(len(b)), p.size-p.off)
	if p.every > 0 {
		if p.off > 0 && p.off%p.every == 0 {
			<-time.After(p.rest)
		}
		n = min(n, p.every-p.off%p.every)
	}
	script.Pattern(b[:n], p.off)
	p.off += n
	return int(n), nil
}

// stallingReader rests after each `every` bytes.
type stallingReader struct {
	r                io.Reader
	every, sinceRest int64
	rest             time.Duration
}

func (s *stallingReader) Read(b []byte) (int, error) {
	if s.sinceRest >= s.every {
		s.sinceRest = 0
		<-time.After(s.rest)
	}
	n, err := s.r.Read(b)
	s.sinceRest += int64(n)
	return n, err
}

// Many at once on one connection, of which some are given up: those that stay
// are whole.
func TestAbandonedNeighbours(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	const size = 300_000
	sum := patternSum(size)
	for _, protocol := range protocols {
		c := newClient(t, n, protocol)
		var wg sync.WaitGroup
		for i := range 24 {
			wg.Go(func() {
				target := respond("size", fmt.Sprint(size), "for", fmt.Sprint(protocol, i%4), "header", "Cache-Control:max-age=600")
				resp, err := c.Do(c.request(t, "GET", target, nil))
				if err != nil {
					t.Errorf("%s: %v", protocol, err)
					return
				}
				defer resp.Body.Close()
				if i%3 == 0 {
					_, err := io.CopyN(io.Discard, resp.Body, 1000)
					if err != nil {
						t.Errorf("%s: %v", protocol, err)
					}
					return
				}
				hash := sha256.New()
				if n, err := io.Copy(hash, resp.Body); err != nil || hex.EncodeToString(hash.Sum(nil)) != sum {
					t.Errorf("%s: %d bytes, not the origin's: %v", protocol, n, err)
				}
			})
		}
		wg.Wait()
	}
}

// An answer that comes before the upload has ended reaches the client, and the
// node stays usable.
func TestAnswerBeforeUploadEnds(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	for _, protocol := range protocols {
		c := newClient(t, n, protocol)
		unblock := make(chan struct{})
		body := io.MultiReader(bytes.NewReader(make([]byte, 100_000)), readerFunc(func([]byte) (int, error) {
			<-unblock
			return 0, errors.New("given up")
		}))
		req := c.request(t, "POST", respond("status", "403", "body", "no"), io.NopCloser(body))
		req.ContentLength = 5_000_000
		resp, err := c.Do(req)
		if err != nil {
			t.Errorf("%s: no answer: %v", protocol, err)
		} else {
			text, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 403 || string(text) != "no" {
				t.Errorf("%s: %s %q, %v", protocol, resp.Status, text, err)
			}
		}
		close(unblock) // the clients' Close waits for it
		if resp != nil {
			resp.Body.Close()
		}
		if a := c.get(t, respond("body", "still here")); a.body != "still here" {
			t.Errorf("%s: afterwards: %s", protocol, a.Status)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Trailers go both ways, through a miss, a hit and what is passed through.
func TestTrailers(t *testing.T) {
	n := startEdge(t, startOrigin(t))
	for _, protocol := range everyProtocol {
		c := newClient(t, n, protocol)
		req := c.request(t, "POST", "/_origin/upload", io.NopCloser(bytes.NewReader(make([]byte, 5000))))
		req.ContentLength = -1
		req.Trailer = http.Header{"X-Checksum": {"abc"}}
		a := c.do(t, req)
		var got script.Upload
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || !slices.Equal(got.Trailer["X-Checksum"], []string{"abc"}) {
			t.Errorf("%s: the origin saw the trailers %v, %v", protocol, got.Trailer, err)
		}
		for _, control := range []string{"no-store", "max-age=600", "max-age=600"} {
			a := c.get(t, respond("size", "5000", "trailer", "X-Sum:one", "trailer", "X-Other:two", "for", protocol, "header", "Cache-Control:"+control))
			if want := (http.Header{"X-Sum": {"one"}, "X-Other": {"two"}}); !cmp.Equal(a.Trailer, want) || len(a.body) != 5000 {
				t.Errorf("%s: %s: %d bytes, trailers %v", protocol, a.Header.Get("Cache-Status"), len(a.body), a.Trailer)
			}
		}
	}
}
