package h3

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"edgecdn/cache"
	"edgecdn/server/gate"
)

// lines decodes a field section into a list.
func lines(b []byte) (got []cache.Field, err error) {
	s := section{rest: b}
	if err := s.prefix(); err != nil {
		return nil, err
	}
	for len(s.rest) > 0 {
		name, value, err := s.next()
		if err != nil {
			return nil, err
		}
		got = append(got, cache.Field{Name: name, Value: value})
	}
	return got, nil
}

func TestEncode(t *testing.T) {
	for _, tt := range []struct {
		status int
		fields []cache.Field
		want   string
	}{
		{200, nil, "0000 d9"},
		{206, nil, "0000 ff02"},
		{418, nil, "0000 5f09 03343138"},
		{304, []cache.Field{{Name: "vary", Value: "accept-encoding"}, {Name: "etag", Value: `"ab"`}}, "0000 da fb 57 04 22616222"},
		{200, []cache.Field{{Name: "cache-status", Value: "edge"}, {Name: "age", Value: "7"}}, ""},
	} {
		got := Encode(nil, tt.status, tt.fields)
		back, err := lines(got)
		want := append([]cache.Field{{Name: ":status", Value: fmt.Sprint(tt.status)}}, tt.fields...)
		if err != nil || !reflect.DeepEqual(back, want) {
			t.Errorf("%d %v came back as %v, %v", tt.status, tt.fields, back, err)
		}
		if wire, err := hex.DecodeString(strings.ReplaceAll(tt.want, " ", "")); err != nil || tt.want != "" && !bytes.Equal(got, wire) {
			t.Errorf("%d %v: %x, want %x", tt.status, tt.fields, got, wire)
		}
	}
}

// TestExample is RFC 9204 B.1.
func TestExample(t *testing.T) {
	b, _ := hex.DecodeString("0000510b2f696e6465782e68746d6c")
	got, err := lines(b)
	if want := []cache.Field{{Name: ":path", Value: "/index.html"}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestIntegers has the examples of RFC 7541 C.1 and the bounds of RFC 9204 4.1.1.
func TestIntegers(t *testing.T) {
	for _, tt := range []struct {
		bits uint
		n    uint64
		want string
	}{
		{5, 10, "0a"}, {5, 1337, "1f9a0a"}, {8, 42, "2a"}, {5, 30, "1e"}, {5, 31, "1f00"}, {7, 127, "7f00"},
		{8, 1<<62 - 1, "ff80feffffffffffff3f"},
	} {
		got := appendInteger(nil, 0, tt.bits, tt.n)
		back, used := readInteger(got, tt.bits)
		if hex.EncodeToString(got) != tt.want || back != tt.n || used != len(got) {
			t.Errorf("%d in %d bits: %x, which is %d in %d bytes; want %s", tt.n, tt.bits, got, back, used, tt.want)
		}
		for i := range got {
			if _, used := readInteger(got[:i], tt.bits); used != 0 {
				t.Errorf("%x: %d bytes were enough", got, i)
			}
		}
	}
	if _, used := readInteger(appendInteger(nil, 0, 8, 1<<62), 8); used != -1 {
		t.Error("63 bits were taken")
	}
}

func TestParsePriority(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want priority
	}{
		{"", priority{3, false}}, {"u=0", priority{0, false}}, {"u=7, i", priority{7, true}}, {"i", priority{3, true}},
		{"i=?1", priority{3, true}}, {"i=?0", priority{3, false}}, {"u=5;x=1 , i;y", priority{5, true}},
		{"u=8", priority{3, false}}, {"u=-1", priority{3, false}}, {"u", priority{3, false}}, {"u=1, u=2", priority{2, false}},
		{"x, u=2", priority{2, false}}, {"i=1", priority{3, false}}, {`",u=1`, priority{1, false}},
	} {
		if got := parsePriority(tt.in); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.in, got, tt.want)
		}
	}
}

// FuzzFieldSection has no bytes crash the decoder, and what it reads come back
// when it is written.
func FuzzFieldSection(f *testing.F) {
	for _, fields := range [][]cache.Field{nil, getFields("/"), getFields("/a?b", cache.Field{Name: "cookie", Value: "x"}, cache.Field{Name: "x-odd", Value: "\x00ü"})} {
		f.Add(appendFields([]byte{0, 0}, fields))
	}
	f.Add([]byte{0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{0, 0x80, 0xd1})
	limits := gate.Limits{}.WithDefaults()
	f.Fuzz(func(t *testing.T, b []byte) {
		fields, err := lines(b)
		if err == nil {
			again, err := lines(appendFields([]byte{0, 0}, fields))
			if err != nil || len(again) != len(fields) || len(fields) > 0 && !reflect.DeepEqual(again, fields) {
				t.Fatalf("%v came back as %v, %v", fields, again, err)
			}
		}
		var h header
		x := &gate.Exchange{}
		if h.read(b, x, &limits) == nil && !h.over {
			for _, field := range x.Request.Fields {
				if !validName(field.Name) || !validValue(field.Value) {
					t.Fatalf("let %q: %q through", field.Name, field.Value)
				}
			}
			if x.Request.Authority == "" || x.Request.Method == "" || x.Request.Target == "" {
				t.Fatalf("let %+v through", x.Request)
			}
		}
		_, _ = readTrailers(b, &limits)
	})
}
