package script

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"unicode/utf16"
)

// The sample site's font is made here: a TrueType file (ISO/IEC 14496-22) whose
// letters are drawn on a grid of 3 by 5 cells, each cell a square outline.

// glyphs holds one letter each: five rows of three bits, the top row first.
var glyphs = map[rune]uint16{
	'A': 0b010_101_111_101_101, 'B': 0b110_101_110_101_110, 'C': 0b011_100_100_100_011,
	'D': 0b110_101_101_101_110, 'E': 0b111_100_110_100_111, 'F': 0b111_100_110_100_100,
	'G': 0b011_100_101_101_011, 'H': 0b101_101_111_101_101, 'I': 0b111_010_010_010_111,
	'J': 0b001_001_001_101_010, 'K': 0b101_101_110_101_101, 'L': 0b100_100_100_100_111,
	'M': 0b101_111_111_101_101, 'N': 0b110_101_101_101_101, 'O': 0b010_101_101_101_010,
	'P': 0b110_101_110_100_100, 'Q': 0b010_101_101_110_011, 'R': 0b110_101_110_101_101,
	'S': 0b011_100_010_001_110, 'T': 0b111_010_010_010_010, 'U': 0b101_101_101_101_111,
	'V': 0b101_101_101_101_010, 'W': 0b101_101_111_111_101, 'X': 0b101_101_010_101_101,
	'Y': 0b101_101_010_010_010, 'Z': 0b111_001_010_100_111,
	'0': 0b111_101_101_101_111, '1': 0b010_110_010_010_111, '2': 0b110_001_010_100_111,
	'3': 0b110_001_010_001_110, '4': 0b101_101_111_001_001, '5': 0b111_100_110_001_110,
	'6': 0b011_100_111_101_111, '7': 0b111_001_010_010_010, '8': 0b111_101_111_101_111,
	'9': 0b111_101_111_001_110, '.': 0b000_000_000_000_010, '-': 0b000_000_111_000_000,
	':': 0b000_010_000_010_000, '/': 0b001_001_010_100_100, '!': 0b010_010_010_000_010,
	' ': 0,
}

// Measures in font units; 1000 to the em.
const (
	fontCell    = 200
	fontAdvance = 4 * fontCell
	fontName    = "Edge Cells"
)

// font returns the TrueType file. Lower case letters look like capitals.
func font() []byte {
	letters := slices.Sorted(maps.Keys(glyphs))
	outlines := [][]byte{outline(0b111_101_101_101_111)} // glyph 0 stands for what is missing
	codes := map[rune]uint16{}
	for _, letter := range letters {
		codes[letter] = uint16(len(outlines))
		outlines = append(outlines, outline(glyphs[letter]))
	}
	for letter := 'A'; letter <= 'Z'; letter++ {
		codes[letter+'a'-'A'] = codes[letter]
	}
	var glyf, hmtx bytes.Buffer
	loca := []uint32{0}
	for _, o := range outlines {
		glyf.Write(o)
		loca = append(loca, uint32(glyf.Len()))
		put(&hmtx, uint16(fontAdvance), int16(0))
	}
	n := uint16(len(outlines))
	return sfnt(map[string][]byte{
		"OS/2": os2(), "cmap": cmap(codes), "glyf": glyf.Bytes(), "head": head(), "hmtx": hmtx.Bytes(),
		"hhea": packed(uint32(0x10000), int16(1000), int16(-200), int16(0), uint16(fontAdvance),
			[3]int16{0, 0, 3 * fontCell}, [3]int16{1, 0, 0}, [4]int16{}, int16(0), n),
		"loca": packed(loca),
		"maxp": packed(uint32(0x10000), n, uint16(60), uint16(15), [2]uint16{}, uint16(2), [8]uint16{}),
		"name": names(),
		"post": packed(uint32(0x30000), uint32(0), int16(-100), int16(50), uint32(1), [4]uint32{}),
	})
}

// outline draws each cell that is set as a square of its own, clockwise.
func outline(rows uint16) []byte {
	var ends []uint16
	var xs, ys []int16 // deltas
	lastX, lastY := int16(0), int16(0)
	for i := range int16(15) {
		if rows>>(14-i)&1 == 0 {
			continue
		}
		x, y := i%3*fontCell, (4-i/3)*fontCell
		for _, point := range [4][2]int16{{x, y}, {x, y + fontCell}, {x + fontCell, y + fontCell}, {x + fontCell, y}} {
			xs, ys = append(xs, point[0]-lastX), append(ys, point[1]-lastY)
			lastX, lastY = point[0], point[1]
		}
		ends = append(ends, uint16(len(xs)-1))
	}
	if len(ends) == 0 {
		return nil
	}
	flags := bytes.Repeat([]byte{1}, len(xs)) // on the curve, coordinates of two bytes
	b := packed(int16(len(ends)), [4]int16{0, 0, 3 * fontCell, 5 * fontCell}, ends, uint16(0), flags, xs, ys)
	return pad(b)
}

func head() []byte {
	return packed(uint32(0x10000), uint32(0x10000), uint32(0), uint32(0x5f0f3cf5), uint16(3), uint16(1000),
		[2]int64{3_870_000_000, 3_870_000_000}, // seconds since 1904: made and changed
		[4]int16{0, 0, 3 * fontCell, 5 * fontCell}, uint16(0), uint16(8), int16(2), int16(1), int16(0))
}

func os2() []byte {
	return packed(uint16(4), int16(fontAdvance), uint16(400), uint16(5), uint16(0),
		[10]int16{650, 600, 0, 75, 650, 600, 0, 350, 50, 300}, int16(0), [10]byte{}, [4]uint32{1}, []byte("EDGE"),
		uint16(0x40), uint16(' '), uint16('z'), int16(1000), int16(-200), int16(0), uint16(1000), uint16(200),
		[2]uint32{1}, int16(5*fontCell), int16(5*fontCell), uint16(0), uint16(' '), uint16(0))
}

// cmap maps characters to glyphs in format 4: a segment for each character.
func cmap(codes map[rune]uint16) []byte {
	var starts, deltas, offsets []uint16
	for _, letter := range slices.Sorted(maps.Keys(codes)) {
		starts = append(starts, uint16(letter))
		deltas = append(deltas, codes[letter]-uint16(letter))
	}
	starts, deltas = append(starts, 0xffff), append(deltas, 1)
	offsets = make([]uint16, len(starts))
	n := uint16(len(starts))
	power, log := uint16(1), uint16(0)
	for power*2 <= n {
		power, log = power*2, log+1
	}
	table := packed(uint16(0), 2*n, 2*power, log, 2*n-2*power, starts, uint16(0), starts, deltas, offsets)
	return append(packed(uint16(0), uint16(1), uint16(3), uint16(1), uint32(12), uint16(4), uint16(len(table)+4)), table...)
}

func names() []byte {
	texts := map[uint16]string{1: fontName, 2: "Regular", 3: fontName + " 1", 4: fontName, 5: "Version 1.0", 6: "EdgeCells"}
	var records, storage bytes.Buffer
	for _, id := range slices.Sorted(maps.Keys(texts)) {
		text := packed(utf16.Encode([]rune(texts[id])))
		put(&records, uint16(3), uint16(1), uint16(0x409), id, uint16(len(text)), uint16(storage.Len()))
		storage.Write(text)
	}
	return append(packed(uint16(0), uint16(len(texts)), uint16(6+records.Len()), records.Bytes()), storage.Bytes()...)
}

// sfnt puts tables behind a directory, with their checksums.
func sfnt(tables map[string][]byte) []byte {
	tags := slices.Sorted(maps.Keys(tables))
	n := uint16(len(tags))
	power, log := uint16(1), uint16(0)
	for power*2 <= n {
		power, log = power*2, log+1
	}
	directory := packed(uint32(0x10000), n, power*16, log, n*16-power*16)
	var data []byte
	base := uint32(12 + 16*len(tags))
	headAt := 0
	for _, tag := range tags {
		table := tables[tag]
		directory = append(directory, packed([]byte(tag), checksum(table), base+uint32(len(data)), uint32(len(table)))...)
		if tag == "head" {
			headAt = int(base) + len(data)
		}
		data = append(data, pad(table)...)
	}
	file := append(directory, data...)
	binary.BigEndian.PutUint32(file[headAt+8:], 0xb1b0afba-checksum(file))
	return file
}

func checksum(b []byte) uint32 {
	var sum uint32
	for b = pad(b); len(b) > 0; b = b[4:] {
		sum += binary.BigEndian.Uint32(b)
	}
	return sum
}

// pad returns b with zeros up to a multiple of four bytes.
func pad(b []byte) []byte {
	return append(slices.Clip(b), make([]byte, -len(b)&3)...)
}

// packed returns values in big endian, one after the other.
func packed(values ...any) []byte {
	var b bytes.Buffer
	put(&b, values...)
	return b.Bytes()
}

func put(b *bytes.Buffer, values ...any) {
	for _, value := range values {
		if err := binary.Write(b, binary.BigEndian, value); err != nil {
			panic("script: font value of no fixed size: " + err.Error())
		}
	}
}
