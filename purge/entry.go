package purge

// entry.go encodes one purge, for the log and for peers.

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"edgecdn/cache"
)

// ID names a purge: a UUID of version 7 (RFC 9562 5.7). Those of one log sort by
// the time they were made.
type ID [16]byte

// String returns the usual form, 36 characters; it sorts as the ID does.
func (id ID) String() string {
	var b [36]byte
	at := 0
	for i, c := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			b[at] = '-'
			at++
		}
		hex.Encode(b[at:], []byte{c})
		at += 2
	}
	return string(b[:])
}

// ParseID reads what String writes, and nothing else.
func ParseID(text string) (ID, bool) {
	var id ID
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return id, false
	}
	plain := text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	if _, err := hex.Decode(id[:], []byte(plain)); err != nil || id.String() != text {
		return ID{}, false
	}
	return id, true
}

// Incarnation names a log. A log that was lost, and begins anew, has another.
type Incarnation [16]byte

// String returns it in hexadecimal.
func (i Incarnation) String() string { return hex.EncodeToString(i[:]) }

// Place says where an entry stands: its number in the log that took it first.
// Numbers begin with 1 and leave nothing out.
type Place struct {
	Log    Incarnation
	Number uint64
}

// Entry is a purge as the log has it.
type Entry struct {
	ID    ID
	Place Place
	// Order is the local order at which this node applied it.
	Order  uint64
	Time   time.Time // to the millisecond
	Actor  string
	Reason string
	// Purges is what was named; all are of one mode, and of one time.
	Purges []cache.Purge
	// Key is a hash of actor and idempotency key, Print one of what they asked
	// for. Zero: no key was given.
	Key, Print [16]byte
}

// Bounds of an entry.
const (
	entryVersion = 1

	// EntryBytesMax bounds an encoded entry.
	EntryBytesMax = 4 << 20
	actorBytesMax = 256
	// ReasonBytesMax bounds Request.Reason.
	ReasonBytesMax = 1 << 10
	nameBytesMax   = 16 << 10
	hostBytesMax   = 260
	purgesMax      = 10_000
)

// Errors of decoding.
var (
	errNewer   = errors.New("was written by a newer edge: start that one again, or remove the directory, upon which all that is stored is purged")
	errDamaged = errors.New("is damaged")
)

// appendEntry appends the encoding of e to b:
//
//	version u8, id 16, log 16, number u64, order u64, time u64 (ms since 1970),
//	key 16, print 16, actor, reason, count of runs,
//	runs: kind u8, soft u8, scheme, host, count, names
//
// A run is purges that differ only by name. Numbers without a size are uvarints,
// texts have their length before them, all is little-endian.
func appendEntry(b []byte, e *Entry) []byte {
	b = append(b, entryVersion)
	b = append(b, e.ID[:]...)
	b = append(b, e.Place.Log[:]...)
	b = binary.LittleEndian.AppendUint64(b, e.Place.Number)
	b = binary.LittleEndian.AppendUint64(b, e.Order)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Time.UnixMilli()))
	b = append(append(b, e.Key[:]...), e.Print[:]...)
	b = appendText(appendText(b, e.Actor), e.Reason)
	b = binary.AppendUvarint(b, uint64(countRuns(e.Purges)))
	for rest := e.Purges; len(rest) > 0; {
		n := run(rest)
		soft := byte(0)
		if rest[0].Soft {
			soft = 1
		}
		b = append(b, byte(rest[0].Kind), soft)
		b = appendText(appendText(b, rest[0].Scheme), rest[0].Host)
		b = binary.AppendUvarint(b, uint64(n))
		for i := range n {
			b = appendText(b, rest[i].Name)
		}
		rest = rest[n:]
	}
	return b
}

// begin says of soft purges when they were made.
func (e *Entry) begin() {
	for i := range e.Purges {
		if e.Purges[i].Soft {
			e.Purges[i].At = e.Time
		}
	}
}

// stamp writes what is known last, when an entry gets its place, into its code.
func stamp(code []byte, e *Entry) {
	copy(code[1:], e.ID[:])
	copy(code[17:], e.Place.Log[:])
	binary.LittleEndian.PutUint64(code[33:], e.Place.Number)
	binary.LittleEndian.PutUint64(code[41:], e.Order)
	binary.LittleEndian.PutUint64(code[49:], uint64(e.Time.UnixMilli()))
}

// run returns how many of all, from the first, differ only by name.
func run(all []cache.Purge) int {
	first := all[0]
	for n := 1; n < len(all); n++ {
		next := all[n]
		next.Name = first.Name
		if next != first {
			return n
		}
	}
	return len(all)
}

func countRuns(all []cache.Purge) (n int) {
	for ; len(all) > 0; n++ {
		all = all[run(all):]
	}
	return n
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// decodeEntry reads what appendEntry wrote, all of b. It returns errNewer or
// errDamaged, wrapped, and never more than b can hold.
func decodeEntry(b []byte) (Entry, error) {
	var e Entry
	d := decoder{rest: b}
	if version := d.byte(); version != entryVersion && !d.bad {
		return e, fmt.Errorf("purge: entry of version %d %w", version, errNewer)
	}
	d.copy(e.ID[:])
	d.copy(e.Place.Log[:])
	e.Place.Number, e.Order = d.uint64(), d.uint64()
	e.Time = time.UnixMilli(int64(d.uint64())).UTC()
	d.copy(e.Key[:])
	d.copy(e.Print[:])
	e.Actor, e.Reason = d.text(actorBytesMax), d.text(ReasonBytesMax)
	for runs := d.uvarint(purgesMax); runs > 0 && !d.bad; runs-- {
		d.run(&e)
	}
	if d.bad || len(d.rest) > 0 || len(e.Purges) == 0 {
		return Entry{}, fmt.Errorf("purge: entry %w", errDamaged)
	}
	e.begin()
	return e, nil
}

// run reads one run of purges into e.
func (d *decoder) run(e *Entry) {
	kind, soft := cache.PurgeKind(d.byte()), d.byte()
	d.bad = d.bad || kind < cache.PurgeURL || kind > cache.PurgeEverything || soft > 1
	p := cache.Purge{Kind: kind, Soft: soft == 1, Scheme: d.text(8), Host: d.text(hostBytesMax)}
	n := d.uvarint(purgesMax)
	d.bad = d.bad || n == 0 || uint64(len(e.Purges))+n > purgesMax
	for ; n > 0 && !d.bad; n-- {
		p.Name = d.text(nameBytesMax)
		e.Purges = append(e.Purges, p)
	}
}

// decoder reads bounded fields; bad is set where there is less than promised or
// more than allowed, and all that follows is zero.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.rest)) {
		d.bad = true
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) copy(to []byte) { copy(to, d.take(uint64(len(to)))) }

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(d.rest)
	// One number has one form: no zero bytes at its end.
	if d.bad || n <= 0 || v > most || n > 1 && d.rest[n-1] == 0 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) text(most uint64) string { return string(d.take(d.uvarint(most))) }
