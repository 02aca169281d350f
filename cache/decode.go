package cache

// decode.go undoes the content coding of stored bodies for clients that do not take
// it, on the fly: the origin sent it without Vary, or to whoever asks. A client that
// sends no Accept-Encoding takes any by the letter (RFC 9110 12.5.3); it gets plain
// bytes, since it was such a one that asked for nothing and will undo nothing.

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/bits"
	"net/http"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"edgecdn/route"
)

const (
	// decodingsMax bounds the bodies that are decoded at once; with more the origin
	// is asked for plain bytes.
	decodingsMax = 64
	// A body may become decodedRatio times as large as what was read of it and
	// decodedSpare more, at most decodedMax in all. What goes beyond was made to, and
	// is cut.
	decodedRatio = 256
	decodedSpare = 1 << 20
	decodedMax   = 512 << 20
	// decodedWindow is what a zstd body may ask its reader to remember (RFC 9659).
	decodedWindow = 8 << 20
)

var errExpands = errors.New("cache: the coded body expands beyond the bounds")

// sendDecoded answers from p, whose body raw is in a coding that the client does not
// take. There are no ranges: nobody knows where they are in the coded bytes.
func (x *exchange) sendDecoded(p *response, raw io.Reader, a *answer, now int64) {
	if a.status != http.StatusOK {
		x.writeAnswer(p, a, now, false)
		return
	}
	plain := *a
	plain.n, plain.size, plain.other = -1, -1, true
	if x.r.Method == http.MethodHead {
		x.writeAnswer(p, &plain, now, false)
		return
	}
	if x.cache.stats.Decodings.Add(1) > decodingsMax {
		x.cache.stats.Decodings.Add(-1)
		x.cache.stats.DecodingsRefused.Add(1)
		x.forward(FwdMiss, "decodings-refused")
		return
	}
	defer x.cache.stats.Decodings.Add(-1)
	in := &decoding{raw: raw}
	coded := bufio.NewReaderSize(readerFunc(in.readRaw), copyBytes)
	coding := route.Codings[bits.TrailingZeros8(uint8(p.coded))]
	if head, _ := coded.Peek(4); !looksCoded(coding, head) { // an error comes again when it is read
		x.writeAnswer(p, a, now, false)
		x.copyFrom(coded)
		return
	}
	err := in.open(coding, coded)
	defer in.close()
	decoded := bufio.NewReaderSize(readerFunc(in.read), copyBytes)
	if err == nil {
		_, err = decoded.Peek(1)
	}
	if err != nil && err != io.EOF {
		x.cache.stats.DecodingsFailed.Add(1)
		x.fail(http.StatusBadGateway, "http_response_content_coding", "the origin's response is not in the content coding that it says")
		return
	}
	x.writeAnswer(p, &plain, now, false)
	x.copyFrom(readerFunc(func(b []byte) (int, error) {
		n, err := decoded.Read(b)
		if err != nil && err != io.EOF {
			x.cache.stats.DecodingsFailed.Add(1)
		}
		return n, err
	}))
}

// looksCoded tells by a body's first bytes what an origin labelled and did not
// encode, which is common: such a body is sent as it is. br has no mark.
func looksCoded(coding string, head []byte) bool {
	switch coding {
	case "gzip":
		return bytes.HasPrefix(head, []byte{0x1f, 0x8b})
	case "zstd":
		return bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd})
	}
	return len(head) > 0
}

// decoding reads the plain form of a body within the bounds.
type decoding struct {
	raw       io.Reader
	in, out   int64
	plain     io.Reader
	closeZstd func()
}

func (d *decoding) open(coding string, coded *bufio.Reader) (err error) {
	switch coding {
	case "br":
		d.plain = brotli.NewReader(coded)
	case "gzip":
		d.plain, err = gzip.NewReader(coded)
	default:
		var decoder *zstd.Decoder
		decoder, err = zstd.NewReader(coded, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(decodedWindow))
		if err == nil {
			d.plain, d.closeZstd = decoder, decoder.Close
		}
	}
	return err
}

func (d *decoding) close() {
	if d.closeZstd != nil {
		d.closeZstd()
	}
}

func (d *decoding) readRaw(p []byte) (int, error) {
	n, err := d.raw.Read(p)
	d.in += int64(n)
	return n, err
}

func (d *decoding) read(p []byte) (int, error) {
	n, err := d.plain.Read(p)
	if d.out += int64(n); d.out > min(decodedMax, decodedSpare+decodedRatio*d.in) {
		return 0, errExpands
	}
	return n, err
}
