package cache

// encode.go makes coded bodies in the background: one goroutine, which is there
// while there is something to do, takes from a bounded queue and streams from the
// store into the store. So encoding takes one processor at most, and a few MiB.

import (
	"errors"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"edgecdn/cache/store"
	"edgecdn/route"
)

const (
	// encodingsMax bounds the queue; what does not fit is asked for again later.
	encodingsMax = 256
	// gainShare of its bytes must be saved for a coded body to be kept.
	gainShare = 10
	// zstdWindow keeps within what clients must be able to undo (RFC 9659) and what
	// one encoder may hold.
	zstdWindow = 1 << 20

	brotliQuality = 5
	gzipLevel     = 6
)

var (
	errNoGain = errors.New("cache: the coded body is hardly smaller")
	errGone   = errors.New("cache: the response has been replaced or forgotten")
)

// encoding is a coded body to be made: of the response with this salt under key.
type encoding struct {
	key, salt string
	coding    int
}

// ask puts a coded body of p, which is stored under key, on the list of those to
// be made, unless that was done of late. It waits for nothing.
func (c *Cache) ask(key string, p *response, coding int, hash uint64, now int64) {
	if !c.asked.first(hash, now) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.background.Err() != nil {
		return
	}
	if len(c.encodings) >= encodingsMax {
		c.stats.EncodingsDropped.Add(1)
		return
	}
	c.encodings = append(c.encodings, encoding{string([]byte(key)), p.salt, coding})
	if !c.isEncoding {
		c.isEncoding = true
		c.work.Add(1)
		go c.encodeAll()
	}
}

// nextEncoding takes from the list; false ends the goroutine that works on it.
func (c *Cache) nextEncoding() (next encoding, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.encodings) == 0 || c.background.Err() != nil {
		c.encodings, c.isEncoding = nil, false
		return next, false
	}
	next, c.encodings = c.encodings[0], c.encodings[1:]
	return next, true
}

func (c *Cache) encodeAll() {
	defer c.work.Done()
	made := c.encoders.Get().(*encoders)
	defer c.encoders.Put(made)
	for {
		next, ok := c.nextEncoding()
		if !ok {
			return
		}
		if err := c.makeCoded(next, made); err != nil && c.background.Err() == nil {
			c.stats.EncodingsFailed.Add(1)
			c.log.Debug("cache: encode", "key", next.key, "coding", route.Codings[next.coding], "err", err)
		}
	}
}

// makeCoded encodes a body and stores the result. Where there is no gain an empty
// body is stored instead, which says so for as long as the response is there.
func (c *Cache) makeCoded(e encoding, made *encoders) error {
	source, _ := c.openLive(e.key)
	if source == nil {
		return nil // gone
	}
	defer source.Close()
	p, length := source.Value().(*response), source.Meta().Length
	if p.salt != e.salt || !p.negotiable || length > encodeBytesMax {
		return nil // replaced
	}
	key := c.store.Hasher().Key(string(appendCoded([]byte(e.key), p, e.coding)))
	if there, err := c.store.Bring(key); err == nil {
		there.Close()
		return nil
	}
	// Order, instants and what a purge can name are the response's own. It has no end
	// of its own, as a response that is freshened lasts longer: what leads to it ends.
	meta := *source.Meta()
	meta.KeepUntil = endless
	meta.Header = (&response{status: p.status, freshUntil: p.freshUntil}).encode()
	n, err := c.storeCoded(e, key, meta, source, made)
	switch {
	case errors.Is(err, errGone):
		return nil
	case errors.Is(err, errNoGain):
		c.stats.EncodingsVain.Add(1)
		return c.storeEmpty(key, meta)
	case err != nil:
		return err
	}
	c.stats.Encoded.Add(1)
	c.stats.EncodedSaved.Add(uint64(length - n))
	return nil
}

// storeCoded streams the body of source through an encoder into the store.
func (c *Cache) storeCoded(e encoding, key store.Key, meta store.Meta, source *store.Stored, made *encoders) (int64, error) {
	length := meta.Length
	meta.Length = -1
	writer, err := c.store.Create(key, meta)
	if err != nil {
		return 0, err
	}
	defer writer.Abort()
	out := &gainWriter{to: writer, max: length - length/gainShare - 1}
	encoder, err := made.encoder(e.coding, out)
	if err != nil {
		return 0, err
	}
	defer encoder.Reset(io.Discard) // it must not hold on to the store's writer
	plain := io.NewSectionReader(source, 0, length)
	buffer := copyBuffers.Get().(*[copyBytes]byte)
	defer copyBuffers.Put(buffer)
	for err == nil {
		var n int
		if n, err = plain.Read(buffer[:]); n > 0 {
			if _, failed := encoder.Write(buffer[:n]); failed != nil {
				return 0, failed
			}
		}
		if err == nil {
			err = c.background.Err()
		}
	}
	if err != io.EOF {
		return 0, err
	}
	if err := encoder.Close(); err != nil {
		return 0, err
	}
	if !c.leadsTo(e) { // nobody would find it
		return 0, errGone
	}
	meta.Length = out.written
	stored, err := writer.Commit(meta)
	if err != nil {
		return 0, err
	}
	stored.Close()
	return out.written, nil
}

// leadsTo says whether the response that a coded body belongs to is still there.
func (c *Cache) leadsTo(e encoding) bool {
	source := c.open(e.key)
	if source == nil {
		return false
	}
	defer source.Close()
	return source.Value().(*response).salt == e.salt
}

// storeEmpty notes that there is nothing to gain.
func (c *Cache) storeEmpty(key store.Key, meta store.Meta) error {
	meta.Length = 0
	writer, err := c.store.Create(key, meta)
	if err != nil {
		return err
	}
	defer writer.Abort()
	stored, err := writer.Commit(meta)
	if err != nil {
		return err
	}
	stored.Close()
	return nil
}

// gainWriter fails as soon as the gain is too small.
type gainWriter struct {
	to           io.Writer
	written, max int64
}

func (w *gainWriter) Write(p []byte) (int, error) {
	if w.written+int64(len(p)) > w.max {
		return 0, errNoGain
	}
	n, err := w.to.Write(p)
	w.written += int64(n)
	return n, err
}

// encoders are kept from one body to the next, until nothing has been encoded for a
// while: the collector empties their pool.
type encoders struct{ of [len(route.Codings)]encoder }

type encoder interface {
	io.WriteCloser
	Reset(io.Writer)
}

func (e *encoders) encoder(coding int, to io.Writer) (encoder, error) {
	if e.of[coding] == nil {
		var err error
		switch route.Codings[coding] {
		case "br":
			e.of[coding] = brotli.NewWriterLevel(nil, brotliQuality)
		case "gzip":
			e.of[coding], err = gzip.NewWriterLevel(nil, gzipLevel)
		default:
			e.of[coding], err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow))
		}
		if err != nil {
			return nil, err
		}
	}
	e.of[coding].Reset(to)
	return e.of[coding], nil
}
