package h1

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// decode reads a chunked body with its trailers out of b, in pieces of step bytes.
func decode(b []byte, step int) (body []byte, trailers []fieldLine, used int, err error) {
	var c Chunks
	for used < len(b) && !c.Last() {
		piece := b[used:min(used+step, len(b))]
		n, fault := c.Framing(piece)
		if used += n; fault != 0 {
			return body, nil, used, fault
		}
		if left := c.Left(); left > 0 && n < len(piece) {
			data := piece[n:min(int64(len(piece)), int64(n)+left)]
			body = append(body, data...)
			used += len(data)
			c.Took(len(data))
		}
	}
	if !c.Last() {
		return body, nil, used, io.ErrUnexpectedEOF
	}
	end, _, fault := SectionEnd(b[used:], 0)
	if fault != 0 {
		return body, nil, used, fault
	}
	if end == 0 {
		return body, nil, used, io.ErrUnexpectedEOF
	}
	var facts Facts
	facts.reset(false)
	section := bytes.Clone(b[used : used+end]) // names become lower case in place
	trailers, fault = AppendFields(trailers, section, most, &facts)
	if fault != 0 {
		return body, nil, used, fault
	}
	return body, trailers, used + end, nil
}

func TestChunks(t *testing.T) {
	for _, test := range []struct {
		in, want string
		err      error
	}{
		{"0\r\n\r\n", "", nil},
		{"3\r\nabc\r\n0\r\n\r\n", "abc", nil},
		{"A\r\n0123456789\r\n00\r\nX: y\r\n\r\n", "0123456789", nil},
		{"3;a;b=c;d=\"e\\\"\t\";f = g\r\nabc\r\n0 ;x\r\n\r\n", "abc", nil},
		{"3\r\nab", "ab", io.ErrUnexpectedEOF},
		{"3\r\nabc\r\n0\r\n", "abc", io.ErrUnexpectedEOF},
		{"", "", io.ErrUnexpectedEOF},
		{"\r\n", "", FaultChunk},
		{"3\nabc\r\n0\r\n\r\n", "", FaultBareLF},
		{"3\rabc\r\n0\r\n\r\n", "", FaultBareCR},
		{"3 \r\nabc\r\n0\r\n\r\n", "", FaultChunkExtension},
		{"3;\r\nabc\r\n0\r\n\r\n", "", FaultChunkExtension},
		{"3;a \r\nabc\r\n0\r\n\r\n", "", FaultChunkExtension},
		{"3;a=b;" + strings.Repeat("x", extensionBytesMax) + "\r\nabc\r\n0\r\n\r\n", "", FaultChunkExtension},
		{"3\r\nabcd\r\n0\r\n\r\n", "abc", FaultChunk},
		{"3\r\nabc\n0\r\n\r\n", "abc", FaultChunk},
		{"1000000000000000\r\n", "", FaultChunk},
		{"fffffffffffffff\r\nabc", "abc", io.ErrUnexpectedEOF},
		{"0\r\n\n", "", FaultBareLF},
		{"0\r\nA: b\r\n c\r\n\r\n", "", FaultFold},
	} {
		for step := 1; step <= len(test.in)+1; step++ {
			body, _, _, err := decode([]byte(test.in), step)
			if string(body) != test.want || !errors.Is(err, test.err) {
				t.Errorf("%q by %d: %q, %v, want %q, %v", test.in, step, body, err, test.want, test.err)
				break
			}
		}
	}
}

func TestAppendField(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"content-type", "a/b", "Content-Type: a/b\r\n"},
		{"etag", `"x"`, "Etag: \"x\"\r\n"},
		{"x--y", "", "X--Y: \r\n"},
		{"a", "b\r\nc: d\x00\x7f", "A: b  c: d  \r\n"},
		{"a", "tab\tand \xff", "A: tab\tand \xff\r\n"},
		{"", "x", ""},
		{"a b", "x", ""},
		{"a:", "x", ""},
		{"a\r\nb", "x", ""},
	} {
		if got := string(AppendField(nil, test.name, test.value)); got != test.want {
			t.Errorf("%q, %q: %q, want %q", test.name, test.value, got, test.want)
		}
	}
}
