package script

import (
	"bytes"
	"encoding/binary"
	"image/color"
	"image/png"
	"io"
	"strconv"
	"testing"
	"testing/iotest"
)

func TestCountersAreBounded(t *testing.T) {
	var c counters
	for i := range countersMax + 5 {
		c.add(strconv.Itoa(i))
	}
	byName, overflow, sum := c.snapshot()
	if len(byName) != countersMax || overflow != 5 || sum != countersMax+5 {
		t.Errorf("got %d names, %d over, %d in all", len(byName), overflow, sum)
	}
	if c.add("0") != 2 {
		t.Error("a known name is no longer counted when the table is full")
	}
}

// TestFontHolds checks what browsers check: the directory, every table's
// checksum, and that each glyph lies within the outlines.
func TestFontHolds(t *testing.T) {
	file := font()
	if len(file)%4 != 0 || checksum(file) != 0xb1b0afba {
		t.Errorf("checksum of the file is %#x", checksum(file))
	}
	tables := map[string][]byte{}
	for i := range int(binary.BigEndian.Uint16(file[4:])) {
		entry := file[12+16*i:]
		at, length := binary.BigEndian.Uint32(entry[8:]), binary.BigEndian.Uint32(entry[12:])
		table := bytes.Clone(file[at : at+length])
		name := string(entry[:4])
		if name == "head" {
			clear(table[8:12]) // the adjustment is not part of its own sum
		}
		if sum := binary.BigEndian.Uint32(entry[4:]); sum != checksum(table) {
			t.Errorf("%s: checksum %#x, want %#x", name, checksum(table), sum)
		}
		tables[name] = table
	}
	for name, length := range map[string]int{"head": 54, "hhea": 36, "maxp": 32, "OS/2": 96, "post": 32} {
		if len(tables[name]) != length {
			t.Errorf("%s: %d bytes, want %d", name, len(tables[name]), length)
		}
	}
	n := int(binary.BigEndian.Uint16(tables["maxp"][4:]))
	if n != len(glyphs)+1 || len(tables["loca"]) != 4*(n+1) || len(tables["hmtx"]) != 4*n {
		t.Errorf("%d glyphs, %d bytes of loca, %d of hmtx", n, len(tables["loca"]), len(tables["hmtx"]))
	}
	if end := binary.BigEndian.Uint32(tables["loca"][4*n:]); int(end) != len(tables["glyf"]) {
		t.Errorf("last glyph ends at %d of %d", end, len(tables["glyf"]))
	}
}

func TestPicturesDecode(t *testing.T) {
	if _, err := png.Decode(bytes.NewReader(paint(16, 9, 1, color.NRGBA{}, color.NRGBA{255, 255, 255, 255}))); err != nil {
		t.Error(err)
	}
	ico := icon()
	if _, err := png.Decode(bytes.NewReader(ico[22:])); err != nil || len(ico) != 22+int(binary.LittleEndian.Uint32(ico[14:])) {
		t.Errorf("icon of %d bytes: %v", len(ico), err)
	}
}

func TestPatternIsAReader(t *testing.T) {
	whole := make([]byte, 1000)
	Pattern(whole, 0)
	if err := iotest.TestReader(&pattern{size: 1000}, whole); err != nil {
		t.Error(err)
	}
	if _, err := (&pattern{size: 10}).Seek(-1, io.SeekStart); err == nil {
		t.Error("went before the start")
	}
}
