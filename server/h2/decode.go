package h2

// decode.go reads header blocks (RFC 7541) without allocating: the dynamic table
// lives in one buffer, and the strings of a block in another or in the block itself.

import (
	"errors"
	"unsafe"

	"edgecdn/internal/huffman"
)

const (
	// tableBytesMax is the size of the dynamic table that we offer: the default.
	tableBytesMax = 4096
	// entryOverhead is what an entry costs beside its strings (RFC 7541 4.1).
	entryOverhead = 32
	tableEntries  = tableBytesMax / entryOverhead
	// integerMax is far beyond every size that we take.
	integerMax = 1 << 24
)

// errCompression is said of blocks that leave the table in a state unknown to us:
// no later block can be read.
var (
	errCompression = errors.New("h2: invalid header block")
	errUpdate      = errors.New("h2: table size update that is not at the start of a block, too large, or one too many")
	errExpands     = errors.New("h2: a header block many times as long as the fields that it may hold")
)

// expansionMax is how many times the size of an acceptable header the lines of a
// block may have together. What is over the size is refused, but decoded for the
// table's sake: a byte of the block may stand for 4 KiB of the table.
const expansionMax = 16

// entry is one of the dynamic table. Its strings are in the arena, name first,
// but for names of the static table.
type entry struct {
	at, name, value uint16
	static          uint8 // index of the name in the static table, 0 for none
	sound           bool  // name and value hold nothing that they must not
}

// decoder holds the dynamic table. The zero value is an empty table.
type decoder struct {
	arena   []byte // live bytes are arena[from:]
	from    int
	entries []entry // a ring; the newest is at next - 1
	next    int
	count   int
	size    int // as RFC 7541 4.1 counts
	reduced int // tableBytesMax - the size that the client has chosen
}

// line is one decoded field line. Its strings are valid until the next block is
// decoded or the bytes of the block are overwritten.
type line struct {
	name, value string
	// sound: name and value were looked at before and found valid.
	sound bool
}

// decode reads a whole block and calls add for each of its lines, in order.
// Strings go to text, which is returned for reuse.
func (d *decoder) decode(block, text []byte, h *header) ([]byte, error) {
	text = text[:0]
	for updates := 0; len(block) > 0 && block[0]>>5 == 1; updates++ {
		size, rest, ok := readInteger(block, 5)
		if !ok || size > tableBytesMax || updates == 2 { // RFC 7541 4.2
			return text, errUpdate
		}
		d.reduced = tableBytesMax - size
		d.evict(0)
		block = rest
	}
	for left := expansionMax * h.bytesMax; len(block) > 0; {
		var l line
		var err error
		before := len(text)
		if block, text, l, err = d.line(block, text); err != nil {
			return text, err
		}
		if left -= len(l.name) + len(l.value); left < 0 {
			return text, errExpands
		}
		if !h.add(&l) {
			text = text[:before] // nobody keeps it
		}
	}
	return text, nil
}

// line reads one field line.
func (d *decoder) line(block, text []byte) ([]byte, []byte, line, error) {
	var l line
	first := block[0]
	bits := 4
	switch {
	case first&0x80 != 0:
		bits = 7
	case first&0x40 != 0:
		bits = 6
	case first&0x20 != 0:
		return block, text, l, errUpdate
	}
	index, block, ok := readInteger(block, bits)
	if !ok {
		return block, text, l, errCompression
	}
	if bits == 7 {
		text, ok = d.indexed(index, text, &l)
		if !ok {
			return block, text, l, errCompression
		}
		return block, text, l, nil
	}
	static := uint8(0)
	switch {
	case index == 0:
		block, text, l.name, ok = readString(block, text)
	case index <= len(staticTable):
		static, l.name = uint8(index), staticTable[index-1].Name
	default:
		text, ok = d.indexed(index, text, &l)
	}
	if !ok {
		return block, text, l, errCompression
	}
	if block, text, l.value, ok = readString(block, text); !ok {
		return block, text, l, errCompression
	}
	l.sound = (static != 0 || soundName(l.name)) && soundValue(l.value)
	if bits == 6 {
		d.insert(&l, static)
	}
	return block, text, l, nil
}

// indexed takes a line out of the tables. Strings of the dynamic one are copied:
// what the block inserts may push them out.
func (d *decoder) indexed(index int, text []byte, l *line) ([]byte, bool) {
	if index == 0 {
		return text, false
	}
	if index <= len(staticTable) {
		f := &staticTable[index-1]
		l.name, l.value, l.sound = f.Name, f.Value, true
		return text, true
	}
	index -= len(staticTable)
	if index > d.count {
		return text, false
	}
	e := &d.entries[(d.next-index)&(len(d.entries)-1)]
	at := len(text)
	text = append(text, d.arena[e.at:int(e.at)+int(e.name)+int(e.value)]...)
	l.name, l.value, l.sound = view(text[at:at+int(e.name)]), view(text[at+int(e.name):]), e.sound
	if e.static != 0 {
		l.name = staticTable[e.static-1].Name
	}
	return text, true
}

func (d *decoder) insert(l *line, static uint8) {
	size := len(l.name) + len(l.value) + entryOverhead
	if !d.evict(size) {
		return // RFC 7541 4.4: the table is empty now, and that is no error
	}
	if d.count == len(d.entries) {
		d.growRing()
	}
	name := l.name
	if static != 0 {
		name = ""
	}
	d.makeRoom(len(name) + len(l.value))
	d.entries[d.next&(len(d.entries)-1)] = entry{
		at: uint16(len(d.arena)), name: uint16(len(name)), value: uint16(len(l.value)), static: static, sound: l.sound,
	}
	d.arena = append(append(d.arena, name...), l.value...)
	d.next++
	d.count++
	d.size += size
}

// evict drops the oldest entries until there is room for size; false where there
// cannot be.
func (d *decoder) evict(size int) bool {
	most := tableBytesMax - d.reduced
	for d.count > 0 && d.size+size > most {
		e := &d.entries[(d.next-d.count)&(len(d.entries)-1)]
		name := int(e.name)
		if e.static != 0 {
			name = len(staticTable[e.static-1].Name)
		}
		d.size -= name + int(e.value) + entryOverhead
		d.count--
		d.from = int(e.at) + int(e.name) + int(e.value)
	}
	if d.count == 0 {
		d.arena, d.from = d.arena[:0], 0
	}
	return size <= most
}

// growRing doubles the ring, up to what the smallest entries need.
func (d *decoder) growRing() {
	ring := make([]entry, max(8, min(2*len(d.entries), tableEntries)))
	for i := range d.count {
		ring[i] = d.entries[(d.next-d.count+i)&(len(d.entries)-1)]
	}
	d.entries, d.next = ring, d.count
}

// makeRoom lets n bytes be appended to the arena. What is live fits half of its
// largest size, so that moving it is rare.
func (d *decoder) makeRoom(n int) {
	if len(d.arena)+n <= cap(d.arena) {
		return
	}
	live := d.arena[d.from:]
	to := d.arena[:0]
	if most := 2 * tableBytesMax; 2*(len(live)+n) > cap(d.arena) && cap(d.arena) < most {
		to = make([]byte, 0, min(max(512, 4*(len(live)+n)), most))
	}
	to = append(to, live...)
	for i := range d.count {
		d.entries[(d.next-1-i)&(len(d.entries)-1)].at -= uint16(d.from)
	}
	d.arena, d.from = to, 0
}

// readInteger reads an integer with a prefix of so many bits.
func readInteger(b []byte, bits int) (n int, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, b, false
	}
	most := 1<<bits - 1
	n = int(b[0]) & most
	b = b[1:]
	if n < most {
		return n, b, true
	}
	for shift := 0; shift < 28 && len(b) > 0; shift += 7 {
		c := b[0]
		b = b[1:]
		n += int(c&0x7f) << shift
		if c < 0x80 {
			return n, b, n <= integerMax
		}
	}
	return 0, b, false
}

// readString reads a string: into text where it is in the Huffman code, else it
// stays in b.
func readString(b, text []byte) (rest, grown []byte, s string, ok bool) {
	coded := len(b) > 0 && b[0]&0x80 != 0
	n, b, ok := readInteger(b, 7)
	if !ok || n > len(b) {
		return b, text, "", false
	}
	if !coded {
		return b[n:], text, view(b[:n]), true
	}
	at := len(text)
	text, err := huffman.AppendDecode(text, b[:n])
	if err != nil {
		return b, text, "", false
	}
	return b[n:], text, view(text[at:]), true
}

// view is b as a string, valid as long as nobody writes to b.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
