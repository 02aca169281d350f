package h2

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"edgecdn/cache"
)

// take decodes a block and returns its regular lines; pseudo-header fields and
// host are told apart by header, which strict_test.go is about.
func take(d *decoder, block []byte) (got []cache.Field, err error) {
	var h header
	h.reset(true, 1<<20, 1<<16)
	_, err = d.decode(block, nil, &h)
	return h.fields, err
}

// TestDecodeExamples has the requests of RFC 7541 C.3 and C.4 with regular names
// where there are pseudo-header fields.
func TestDecodeExamples(t *testing.T) {
	for name, blocks := range map[string][3]string{
		"C.3": {"828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865", "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565"},
		"C.4": {"828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf", "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"},
	} {
		var d decoder
		var h header
		var text []byte
		for i, want := range []string{
			"GET http www.example.com / []",
			"GET http www.example.com / [{cache-control no-cache}]",
			"GET https www.example.com /index.html [{custom-key custom-value}]",
		} {
			block, err := hex.DecodeString(blocks[i])
			if err != nil {
				t.Fatal(err)
			}
			h.reset(false, 1000, 10)
			if text, err = d.decode(block, text, &h); err != nil {
				t.Fatal(err)
			}
			h.judge(true)
			got := h.method + " " + h.scheme + " " + h.authority + " " + h.path + " ["
			for _, f := range h.fields {
				got += "{" + f.Name + " " + f.Value + "}"
			}
			if got += "]"; got != want || h.problem != "" {
				t.Errorf("%s.%d: %s, want %s", name, i+1, got, want)
			}
		}
		if want := map[int]int{3: 164}[d.count]; d.size != want {
			t.Errorf("%s: %d entries of %d bytes", name, d.count, d.size)
		}
	}
}

// TestTable holds the dynamic table to x/net's over thousands of blocks, with
// evictions, entries that are too large, and changes of its size.
func TestTable(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	var d decoder
	for range 5000 {
		block.Reset()
		if r.IntN(50) == 0 {
			enc.SetMaxDynamicTableSize(uint32(r.IntN(tableBytesMax + 1)))
		}
		var want []cache.Field
		for range r.IntN(12) {
			f := hpack.HeaderField{Name: "x-" + strings.Repeat("n", r.IntN(30)), Value: strings.Repeat("v", r.IntN(60)), Sensitive: r.IntN(8) == 0}
			switch r.IntN(40) {
			case 0:
				f.Value = strings.Repeat("L", r.IntN(2*tableBytesMax))
			case 1, 2, 3:
				f.Name, f.Value = "accept", "value"+f.Value
			}
			if err := enc.WriteField(f); err != nil {
				t.Fatal(err)
			}
			want = append(want, cache.Field{Name: f.Name, Value: f.Value})
		}
		got, err := take(&d, block.Bytes())
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d of %d fields, %v", len(got), len(want), err)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("field %d: %q, want %q", i, got[i], want[i])
			}
		}
		if cap(d.arena) > 2*tableBytesMax || len(d.entries) > tableEntries {
			t.Fatalf("the table takes %d bytes and %d entries", cap(d.arena), len(d.entries))
		}
	}
}

// TestEncode: any decoder reads what is encoded, and no table is touched.
func TestEncode(t *testing.T) {
	for _, status := range []int{200, 204, 206, 304, 400, 404, 500, 103, 418, 599} {
		want := []hpack.HeaderField{{Name: ":status", Value: string([]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)})}}
		var fields []cache.Field
		for _, f := range []cache.Field{
			{Name: "content-type", Value: "text/html"}, {Name: "cache-status", Value: "edge; hit"}, {Name: "alt-svc", Value: `h3=":443"`},
			{Name: "x-unknown", Value: ""}, {Name: "x-" + strings.Repeat("long", 100), Value: strings.Repeat("\x00\xff", 1000)}, {Name: "set-cookie", Value: "a=b"},
		} {
			fields = append(fields, f)
			want = append(want, hpack.HeaderField{Name: f.Name, Value: f.Value})
		}
		block := Encode([]byte("kept"), status, fields)
		dec := hpack.NewDecoder(0, nil)
		dec.SetAllowedMaxDynamicTableSize(0)
		got, err := dec.DecodeFull(bytes.TrimPrefix(block, []byte("kept")))
		if err != nil || len(got) != len(want) {
			t.Fatalf("%v, %v", got, err)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%v, want %v", got[i], want[i])
			}
		}
	}
}

// TestDecodeAllocatesNothing once buffers have grown, whatever the client indexes.
func TestDecodeAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	var out bytes.Buffer
	enc := hpack.NewEncoder(&out)
	var blocks [][]byte
	for i := range 2000 {
		out.Reset()
		for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":path", Value: "/" + strings.Repeat("a", i%70)}, {Name: ":scheme", Value: "https"},
			{Name: ":authority", Value: "a.test"}, {Name: "user-agent", Value: "test"}, {Name: "x-" + strings.Repeat("b", i%50), Value: "c"}} {
			_ = enc.WriteField(f) // into memory
		}
		blocks = append(blocks, bytes.Clone(out.Bytes()))
	}
	var d decoder
	var h header
	text := make([]byte, 0, 4096)
	i := 0
	one := func() {
		h.reset(false, 1<<15, 100)
		var err error
		if text, err = d.decode(blocks[i], text, &h); err != nil || h.problem != "" {
			t.Fatal(err, h.problem)
		}
		i++
	}
	for range 900 {
		one()
	}
	if n := testing.AllocsPerRun(1000, one); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzDecode compares with x/net's decoder: blocks are split by length bytes and
// decoded one after the other with one table.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"14828684410f7777772e6578616d706c652e636f6d0e828684be58086e6f2d6361636865",
		"11828684418cf1e3c2e5f23a6ba0ab90f4ff", "023fe11f", "033fe21f82", "0120", "022020", "03202020", "0182", "02be40", "0180",
		"0a4001610162be4001630164be", "0500816f0161", "063fe11f400161", "0c7f0001620f2f017f100161ff",
	} {
		b, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var d decoder
		peer := hpack.NewDecoder(tableBytesMax, nil)
		for len(in) > 0 {
			n := min(int(in[0]), len(in)-1)
			block := in[1 : 1+n]
			in = in[1+n:]
			theirs, theirErr := peer.DecodeFull(block)
			ours, err := take(&d, block)
			if err != nil && theirErr == nil && (errors.Is(err, errUpdate) || bytes.Contains(block, []byte{0x80, 0x80})) {
				return // we are stricter with size updates and with integers in many bytes
			}
			if (err != nil) != (theirErr != nil) {
				t.Fatalf("%x: decoded %v, x/net says %v", block, err, theirErr)
			}
			if err != nil {
				return
			}
			i := 0
			for _, f := range theirs {
				if !soundName(f.Name) || !soundValue(f.Value) || f.IsPseudo() || f.Name == "host" || f.Name == "content-length" {
					continue // judged, not listed
				}
				if i >= len(ours) || ours[i].Name != f.Name || ours[i].Value != f.Value {
					t.Fatalf("%x: field %d of %q is not %v", block, i, ours, f)
				}
				i++
			}
			live := 0
			for j := 1; j <= d.count; j++ {
				e := d.entries[(d.next-j)&(len(d.entries)-1)]
				name := int(e.name)
				if e.static != 0 {
					name = len(staticTable[e.static-1].Name)
				}
				live += name + int(e.value) + entryOverhead
			}
			if live != d.size || d.size > tableBytesMax-d.reduced {
				t.Fatalf("size %d, entries of %d", d.size, live)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	var out bytes.Buffer
	enc := hpack.NewEncoder(&out)
	request := func() {
		out.Reset()
		for _, f := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":path", Value: "/assets/app.js"}, {Name: ":scheme", Value: "https"},
			{Name: ":authority", Value: "www.example.com"}, {Name: "user-agent", Value: "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"},
			{Name: "accept", Value: "*/*"}, {Name: "accept-language", Value: "en-US,en;q=0.5"}, {Name: "accept-encoding", Value: "gzip, deflate, br, zstd"}} {
			_ = enc.WriteField(f) // into memory
		}
	}
	var d decoder
	var h header
	text := make([]byte, 0, 4096)
	request()
	h.reset(false, 1<<15, 100)
	if _, err := d.decode(out.Bytes(), text, &h); err != nil {
		b.Fatal(err)
	}
	request() // all of it indexed now
	b.ReportAllocs()
	for b.Loop() {
		h.reset(false, 1<<15, 100)
		if _, err := d.decode(out.Bytes(), text, &h); err != nil {
			b.Fatal(err)
		}
	}
}
