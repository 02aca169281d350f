package huffman

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// TestExamples has the encoded strings of RFC 7541 C.4 and C.6.
func TestExamples(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{"www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"},
		{"no-cache", "a8eb10649cbf"},
		{"custom-key", "25a849e95ba97d7f"},
		{"custom-value", "25a849e95bb8e8b4bf"},
		{"302", "6402"},
		{"private", "aec3771a4b"},
		{"Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"},
		{"https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"},
		{"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1", "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"},
	} {
		got := AppendEncode([]byte("> "), tt.text)
		if string(got[:2]) != "> " || hex.EncodeToString(got[2:]) != tt.want || EncodedLen(tt.text) != len(tt.want)/2 {
			t.Errorf("%q: %x in %d bytes, want %s", tt.text, got, EncodedLen(tt.text), tt.want)
		}
		back, err := AppendDecode([]byte("> "), got[2:])
		if err != nil || string(back) != "> "+tt.text {
			t.Errorf("%q came back as %q, %v", tt.text, back, err)
		}
	}
}

// TestEverySymbol compares each code with that of x/net's hpack.
func TestEverySymbol(t *testing.T) {
	all := make([]byte, 0, 256)
	for c := range 256 {
		all = append(all, byte(c))
		one := string(rune(0)) + string([]byte{byte(c)}) + "a"
		if got, want := AppendEncode(nil, one), hpack.AppendHuffmanString(nil, one); !bytes.Equal(got, want) {
			t.Errorf("byte %#x: %x, want %x", c, got, want)
		}
	}
	got, err := AppendDecode(nil, AppendEncode(nil, string(all)))
	if err != nil || !bytes.Equal(got, all) {
		t.Errorf("%x, %v", got, err)
	}
}

func TestInvalid(t *testing.T) {
	for _, tt := range []struct{ name, in string }{
		{"EOS", "ffffffff"},
		{"EOS after a symbol", "1fffffffff"},
		{"a whole byte of padding", "1fff"},
		{"nothing but padding", "ff"},
		{"8 bits of padding after bits of a symbol", "f8ff"},
		{"zeros as padding", "18"},
		{"a code that is cut", "fffffe"},
	} {
		in, err := hex.DecodeString(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := AppendDecode([]byte("kept"), in); err != ErrInvalid || string(got) != "kept" {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}

func TestAllocatesNothing(t *testing.T) {
	text := strings.Repeat("cache-control: public, max-age=3600\x00", 4)
	encoded, decoded := make([]byte, 0, 1024), make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() {
		encoded = AppendEncode(encoded[:0], text)
		decoded, _ = AppendDecode(decoded[:0], encoded)
	}); n != 0 || string(decoded) != text {
		t.Errorf("%v allocations, %q", n, decoded)
	}
}

// FuzzDecode: what x/net's hpack takes we take and read the same, and the other
// way round; what is valid has one encoding.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"f1e3c2e5f23a6ba0ab90f4ff", "6402", "ffffffff", "1fff", "18", "fffffe", ""} {
		in, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := AppendDecode(nil, in)
		var want bytes.Buffer
		_, wantErr := hpack.HuffmanDecode(&want, in)
		if (err != nil) != (wantErr != nil) || err == nil && !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("%x: %q, %v; want %q, %v", in, got, err, want.Bytes(), wantErr)
		}
		if err == nil && !bytes.Equal(AppendEncode(nil, string(got)), in) {
			t.Errorf("%x decodes to %q, which encodes to %x", in, got, AppendEncode(nil, string(got)))
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	in := AppendEncode(nil, "/assets/js/app.3f9a1c77.js?version=20261122&locale=en")
	out := make([]byte, 0, 256)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		out, _ = AppendDecode(out[:0], in)
	}
}

func BenchmarkDecodePeer(b *testing.B) {
	in := AppendEncode(nil, "/assets/js/app.3f9a1c77.js?version=20261122&locale=en")
	var out bytes.Buffer
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		_, _ = hpack.HuffmanDecode(&out, in)
	}
}

func BenchmarkEncode(b *testing.B) {
	out := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		out = AppendEncode(out[:0], "/assets/js/app.3f9a1c77.js?version=20261122&locale=en")
	}
}
