package cache

import (
	"bytes"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// decoded returns the body that a client makes of a response, or what is wrong
// with it.
func decoded(w *recorder) string {
	var from io.Reader = &w.body
	var err error
	switch coding := w.sent.Get("Content-Encoding"); coding {
	case "":
	case "br":
		from = brotli.NewReader(&w.body)
	case "gzip":
		from, err = gzip.NewReader(&w.body)
	case "zstd":
		from, err = zstd.NewReader(&w.body, zstd.WithDecoderConcurrency(1))
	default:
		return "coded in " + coding
	}
	if err != nil {
		return err.Error()
	}
	body, err := io.ReadAll(from)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// coded returns what a client may send that accepts codings in which the body is.
func inCoding(coding string, body []byte) []byte {
	var out bytes.Buffer
	var made encoders
	for i, name := range [...]string{"br", "gzip", "zstd"} {
		if name != coding {
			continue
		}
		encoder, err := made.encoder(i, &out)
		if err == nil {
			_, err = encoder.Write(body)
		}
		if err == nil {
			err = encoder.Close()
		}
		if err != nil {
			panic(err)
		}
	}
	return out.Bytes()
}
