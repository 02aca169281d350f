package purge

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edgecdn/cache"
)

var update = flag.Bool("update", false, "write golden files")

// samples are entries of every kind.
func samples() []Entry {
	var many []cache.Purge
	for i := range 300 {
		many = append(many, cache.Purge{Kind: cache.PurgeURL, Scheme: "https", Host: "www.example.com", Name: fmt.Sprintf("/%d?q=a%%20b", i)})
	}
	many = append(many, cache.Purge{Kind: cache.PurgeURL, Scheme: "http", Host: "[2001:db8::1]:8080", Name: "/"})
	base := Entry{
		ID:    ID{1, 0x9a, 0xbc, 1, 2, 3, 0x70, 1, 0x80, 9, 8, 7, 6, 5, 4, 3},
		Place: Place{Incarnation{0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, 7},
		Order: 3<<40 | 12, Time: time.UnixMilli(1763800000123).UTC(),
	}
	with := func(actor, reason string, purges ...cache.Purge) Entry {
		e := base
		e.Actor, e.Reason, e.Purges = actor, reason, purges
		e.begin()
		return e
	}
	keyed := with("ci", "Über-Reason", cache.Purge{Kind: cache.PurgeGroup, Soft: true, Host: "www.example.com", Name: "product-7"})
	keyed.Key, keyed.Print = [16]byte{1, 2, 3}, [16]byte{4, 5, 6}
	return []Entry{
		with("admin", "", cache.Purge{Kind: cache.PurgeEverything}),
		with("admin", "", cache.Purge{Kind: cache.PurgeHost, Host: "www.example.com"}, cache.Purge{Kind: cache.PurgeHost, Host: "b.example.com"}),
		with("admin", "x", cache.Purge{Kind: cache.PurgePrefix, Soft: true, Host: "www.example.com", Name: "/static"}),
		keyed,
		with("admin", "", many...),
	}
}

func TestEntryRoundTrip(t *testing.T) {
	for _, e := range samples() {
		code := appendEntry(nil, &e)
		got, err := decodeEntry(code)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Error(diff)
		}
		for cut := range code {
			if _, err := decodeEntry(code[:cut]); !errors.Is(err, errDamaged) {
				t.Fatalf("cut at %d of %d: %v", cut, len(code), err)
			}
		}
		// Stamping is the same as encoding.
		blank := e
		blank.ID, blank.Place, blank.Order, blank.Time = ID{}, Place{}, 0, time.UnixMilli(0).UTC()
		stamped := appendEntry(nil, &blank)
		if stamp(stamped, &e); !bytes.Equal(stamped, code) {
			t.Error("stamped and encoded differ")
		}
	}
}

// golden is a small log as each format version has it, file by file, in
// hexadecimal.
const (
	golden   = "testdata/log.v2.txt"
	goldenV1 = "testdata/log.v1.txt"
)

func goldenLog() []byte {
	log := Incarnation{0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	other := Incarnation{0xab, 1}
	h := head{writes: 1, incarnation: log, boot: 3, first: 1, last: 1, number: 1, contact: 1763800000999,
		marks: []mark{{other, 17, 19, 29_396_000}, {log, 0, 0, 0}}}
	frame := func(at int, b []byte) []byte { closeFrame(b, log, int64(at)); return b }
	text := (&header{log, 1, 1}).encode()
	b := append(openFrame(nil, frameEntries), 4)
	for i, e := range samples()[:4] {
		e.Place.Number = uint64(1 + i)
		switch i {
		case 2: // of another node
			e.Place = Place{other, 18}
		case 3: // of this node alone
			e.Place = Place{}
		}
		e.Order += uint64(i)
		e.ID[15] += byte(i)
		code := appendEntry(nil, &e)
		b = append(binary.AppendUvarint(b, uint64(len(code))), code...)
	}
	for i := range 4 {
		b = binary.LittleEndian.AppendUint64(b, uint64(1763800000200+i))
	}
	text = append(text, frame(len(text), b)...)
	text = append(text, frame(len(text), appendNote(openFrame(nil, frameSwept), &note{3<<40 | 13, 3, 1763800001000, []counts{{1, 5, 6, true}, {2, 0, 0, false}}}))...)
	slots := append(make([]byte, headSlot), h.encode()...)
	var out bytes.Buffer
	for _, f := range []struct {
		name string
		at   int
		data []byte
	}{{headName, headSlot, slots[headSlot:]}, {segmentName(1), 0, text}} {
		fmt.Fprintf(&out, "%s from %d\n%s", f.name, f.at, hex.Dump(f.data))
	}
	return out.Bytes()
}

// readGolden puts the files of a golden log into a file system.
func readGolden(t *testing.T, text string) *memFS {
	t.Helper()
	fsys := newMemFS(1)
	var to *memFile
	for line := range strings.Lines(text) {
		var name string
		var at int
		if _, err := fmt.Sscanf(line, "%s from %d", &name, &at); err == nil {
			to = &memFile{data: make([]byte, at)}
			fsys.files[testDir+"/"+name], fsys.names[testDir+"/"+name] = to, to
			continue
		}
		digits, _, _ := strings.Cut(line, "|")
		for i, field := range strings.Fields(digits) {
			if i > 0 {
				b, err := hex.DecodeString(field)
				if err != nil {
					t.Fatal(err)
				}
				to.data = append(to.data, b...)
			}
		}
	}
	return fsys
}

// A log of version 1, all of whose entries are its own, is read.
func TestGoldenLogV1(t *testing.T) {
	text, err := os.ReadFile(goldenV1)
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, smallTuning(readGolden(t, string(text))), &objects{})
	if n.Boot() != 5 || n.Stats().Lost.Load() != 0 || n.Stats().Replayed.Load() != 2 || n.own != 4 {
		t.Errorf("boot %d, %d replayed, %d own\n%s", n.Boot(), n.Stats().Replayed.Load(), n.own, n.said)
	}
}

// A log of version 2 is written as it was, and read.
func TestGoldenLog(t *testing.T) {
	if *update {
		if err := os.WriteFile(golden, goldenLog(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(goldenLog())); diff != "" {
		t.Errorf("the format has changed: give it another version\n%s", diff)
	}
	n := startNode(t, smallTuning(readGolden(t, string(text))), &objects{})
	if n.Boot() != 5 || n.Dropped() != 3 || n.Stats().Lost.Load() != 0 || n.Stats().Replayed.Load() != 2 { // the other slot may have had boot 4
		t.Errorf("boot %d, %d replayed\n%s", n.Boot(), n.Stats().Replayed.Load(), n.said)
	}
	all := n.List(ID{}, 10)
	if len(all) != 4 || all[3].State != Swept || all[3].Count.Memory != 5 || all[0].Entry.Reason != "Über-Reason" || !all[0].Entry.Purges[0].Soft ||
		all[0].Nodes[0].At.UnixMilli() != 1763800000203 {
		t.Errorf("%+v", all)
	}
}

// What a newer edge wrote is refused and left as it is.
func TestNewerVersions(t *testing.T) {
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	log := Incarnation{0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	segment := testDir + "/" + segmentName(1)
	sum := func(b []byte) { // of a head or header
		copy(b[len(b)-4:], appendSum(b[:len(b)-4]))
	}
	for name, change := range map[string]func(fsys *memFS){
		"head":    func(f *memFS) { b := f.files[testDir+"/"+headName].data[headSlot:][:headBytes]; b[8] = 3; sum(b) },
		"segment": func(f *memFS) { b := f.files[segment].data[:segmentHeader]; b[8] = 2; sum(b) },
		"entry": func(f *memFS) {
			b := f.files[segment].data[segmentHeader:]
			payload, _ := frameAt(f.files[segment].data, log, segmentHeader)
			payload[3] = 2 // kind, count, length, version
			closeFrame(b[:frameHeader+len(payload)], log, segmentHeader)
		},
		"frame": func(f *memFS) {
			b := f.files[segment].data[segmentHeader:]
			payload, _ := frameAt(f.files[segment].data, log, segmentHeader)
			payload[0] = 3
			closeFrame(b[:frameHeader+len(payload)], log, segmentHeader)
		},
	} {
		fsys := readGolden(t, string(text))
		change(fsys)
		before := map[string][]byte{}
		for file, f := range fsys.files {
			before[file] = slices.Clone(f.data)
		}
		_, err := tryNode(smallTuning(fsys), &objects{})
		if !errors.Is(err, errNewer) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for file, f := range fsys.files {
			if !bytes.Equal(f.data, before[file]) {
				t.Errorf("%s: %s was changed", name, file)
			}
		}
	}
}

func appendSum(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(nil, crc32.Checksum(b, castagnoli))
}

func TestID(t *testing.T) {
	l := &Log{t: defaultTuning}
	now := time.UnixMilli(1763800000123)
	var before ID
	for i := range 20_000 {
		at := now
		if i > 10_000 {
			at = now.Add(-time.Hour) // the clock went back
		}
		id := l.identify(at)
		text := id.String()
		if bytes.Compare(before[:], id[:]) >= 0 || before.String() >= text {
			t.Fatalf("%v after %v", id, before)
		}
		if back, ok := ParseID(text); !ok || back != id || text[14] != '7' || !strings.ContainsRune("89ab", rune(text[19])) {
			t.Fatalf("%s: %v %v", text, back, ok)
		}
		before = id
	}
	for _, text := range []string{"", "x", strings.ToUpper(before.String()), strings.ReplaceAll(before.String(), "-", ""), before.String() + "0", "{" + before.String()[1:]} {
		if _, ok := ParseID(text); ok {
			t.Errorf("%q is taken", text)
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	for _, e := range samples()[:4] {
		f.Add(appendEntry(nil, &e))
	}
	f.Fuzz(func(t *testing.T, code []byte) {
		e, err := decodeEntry(code)
		if err != nil {
			return
		}
		again, err := decodeEntry(appendEntry(nil, &e))
		if diff := cmp.Diff(e, again); err != nil || diff != "" {
			t.Fatalf("%v %s", err, diff)
		}
	})
}

// FuzzSegment opens a log whose last segment has any bytes behind its first
// frames: it takes what is whole, says that it is lost, or refuses.
func FuzzSegment(f *testing.F) {
	text, err := os.ReadFile(golden)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(frameMagic+"\x01\x00\x00\x00aaaab"), true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, rest []byte, framed bool) {
		fsys := readGolden(t, string(text))
		file := fsys.files[testDir+"/"+segmentName(1)]
		if framed && len(rest) > 0 && len(rest) < frameBytesMax { // with a right checksum
			b := append(openFrame(nil, rest[0]), rest[1:]...)
			closeFrame(b, Incarnation{0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, int64(len(file.data)))
			rest = b
		}
		file.data = append(file.data, rest...)
		n, err := tryNode(smallTuning(fsys), &objects{})
		if err != nil {
			if !errors.Is(err, errNewer) {
				t.Fatal(err)
			}
			return
		}
		if _, err := n.purgeURL(urlOf(1)); err != nil {
			t.Fatal(err)
		}
		n.List(ID{}, 100)
		n.stop()
		n, err = tryNode(smallTuning(fsys.restart(false)), &objects{})
		if err != nil || n.Stats().Lost.Load() != 0 || n.List(ID{}, 1)[0].Entry.Purges[0] != purgeOf(urlOf(1)) {
			t.Fatalf("%v: not read again", err)
		}
		n.stop()
	})
}
