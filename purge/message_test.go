package purge

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sampleMessages are messages of every kind.
func sampleMessages() map[string][]byte {
	log, other := Incarnation{0xfe, 1, 2}, Incarnation{0xab, 1}
	position := positionMessage{own: log, full: true, fenced: true, time: 1763800001000, logs: []logPosition{{other, 300, 17, 301, 1500}, {log, 5, 0, 0, 0}}}
	moved := positionMessage{own: log, time: 1763800001050, logs: []logPosition{{log, 6, 0, 0, 3}}}
	var codes [][]byte
	for _, e := range samples()[:4] {
		codes = append(codes, appendEntry(nil, &e))
	}
	return map[string][]byte{
		"position": position.encode(), "moved": moved.encode(), "entries": encodeEntries(codes, messageBytesMax)[0],
		"want": encodeWant(Place{other, 299}, 0), "want-part": encodeWant(Place{other, 299}, 1<<20),
		"part": encodePart(Place{other, 300}, 1<<21, 1<<20, []byte("some bytes")),
		"ask":  encodeAsk(Place{other, 7}), "count": encodeCount(Place{other, 7}, counts{memory: 3, disk: 1000, counted: true}),
	}
}

const goldenMessages = "testdata/messages.v1.txt"

// Messages of version 1 are written as they were, and read.
func TestGoldenMessages(t *testing.T) {
	var out bytes.Buffer
	all := sampleMessages()
	for _, name := range []string{"position", "moved", "entries", "want", "want-part", "part", "ask", "count"} {
		fmt.Fprintf(&out, "%s\n%s", name, hex.Dump(all[name]))
		if _, err := decodeMessage(all[name]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if *update {
		if err := os.WriteFile(goldenMessages, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		for name, msg := range all {
			dir := "testdata/fuzz/FuzzDecodeMessage"
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte("go test fuzz v1\n[]byte("+strconv.Quote(string(msg))+")\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	text, err := os.ReadFile(goldenMessages)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), out.String()); diff != "" {
		t.Errorf("the format has changed: give it another version\n%s", diff)
	}
}

func TestMessages(t *testing.T) {
	for name, msg := range sampleMessages() {
		for cut := range msg {
			m, err := decodeMessage(msg[:cut])
			if err == nil && m.kind != sayPart || err != nil && !errors.Is(err, errDamaged) {
				t.Fatalf("%s cut at %d of %d: %v", name, cut, len(msg), err)
			}
		}
		newer := append([]byte{messageVersion + 1}, msg[1:]...)
		if _, err := decodeMessage(newer); !errors.Is(err, errNewer) {
			t.Errorf("%s of a newer version: %v", name, err)
		}
	}
	// Many entries make several messages, none too long, nothing left out.
	e := samples()[3]
	var codes [][]byte
	for range 5000 {
		codes = append(codes, appendEntry(nil, &e))
	}
	n := 0
	for _, msg := range encodeEntries(codes, GossipBytes) {
		m, err := decodeMessage(msg)
		if err != nil || len(msg) > GossipBytes {
			t.Fatalf("%d bytes: %v", len(msg), err)
		}
		n += len(m.entries)
	}
	if n != len(codes) {
		t.Errorf("%d of %d", n, len(codes))
	}
}

func FuzzDecodeMessage(f *testing.F) {
	f.Fuzz(func(t *testing.T, msg []byte) {
		m, err := decodeMessage(msg)
		if err != nil {
			return
		}
		var again []byte
		switch m.kind {
		case sayPosition:
			again = m.position.encode()
		case sayEntries:
			if len(m.codes) == 0 {
				return
			}
			again = encodeEntries(m.codes, len(msg)+1<<20)[0]
		case sayWant:
			again = encodeWant(m.place, m.offset)
		case sayPart:
			again = encodePart(m.place, m.total, m.offset, m.part)
		case sayAsk:
			again = encodeAsk(m.place)
		case sayCount:
			return
		}
		if !bytes.Equal(again, msg) {
			t.Fatalf("%x is read as %x", msg, again)
		}
	})
}
