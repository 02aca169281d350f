package purge

// message.go is what nodes tell each other about purges. A message has a version
// and a kind before it; what is newer is counted and left.

import (
	"encoding/binary"
	"fmt"
)

const (
	messageVersion = 1

	// messageBytesMax bounds a message: what a stream takes.
	messageBytesMax = 256 << 10
	// partBytes of an entry too large for a message go in one; a smaller entry is
	// sent whole.
	partBytes = 128 << 10
	// entriesMax bounds those of one message.
	entriesMax = 4096
)

// Kinds of messages.
const (
	sayPosition uint8 = iota + 1 // how far the sender is
	sayEntries                   // entries, of any logs
	sayWant                      // asks for the entries of a log behind a number
	sayPart                      // a part of one large entry
	sayAsk                       // asks what a purge has met
	sayCount                     // answers that
)

// message is any of them; which fields count depends on kind.
type message struct {
	kind     uint8
	position positionMessage
	entries  []Entry
	codes    [][]byte // of entries, as they came
	place    Place    // of sayWant what the asker has, else an entry
	offset   uint64   // of sayWant and sayPart: where in the entry
	total    uint64   // of sayPart: the entry's length
	part     []byte
	count    counts
}

// positionMessage says how far its sender is.
type positionMessage struct {
	own    Incarnation // the sender's log
	full   bool        // logs that are not there are not known to it
	fenced bool
	time   int64 // the sender's clock, in milliseconds since 1970
	logs   []logPosition
}

// logPosition is how far the sender is with one log: it has applied all up to
// number, its own log can give those behind floor, and while it is fenced it stays so
// until it has applied all up to goal. age is how long it has been at number.
type logPosition struct {
	log                 Incarnation
	number, floor, goal uint64
	age                 uint64 // milliseconds
}

func openMessage(kind uint8) []byte { return []byte{messageVersion, kind} }

const (
	flagFull   = 1
	flagFenced = 2
)

func (p *positionMessage) encode() []byte {
	b := openMessage(sayPosition)
	b = append(b, p.own[:]...)
	var flags byte
	if p.full {
		flags |= flagFull
	}
	if p.fenced {
		flags |= flagFenced
	}
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint64(b, uint64(p.time))
	b = binary.AppendUvarint(b, uint64(len(p.logs)))
	for _, l := range p.logs {
		b = append(b, l.log[:]...)
		for _, v := range [...]uint64{l.number, l.floor, l.goal, l.age} {
			b = binary.AppendUvarint(b, v)
		}
	}
	return b
}

// encodeEntries makes messages of entries, none longer than bytesMax but where one
// entry is.
func encodeEntries(codes [][]byte, bytesMax int) (messages [][]byte) {
	const room = 2 + binary.MaxVarintLen16
	for len(codes) > 0 {
		n, size := 0, room
		for n < len(codes) && n < entriesMax && (n == 0 || size+len(codes[n])+binary.MaxVarintLen32 <= bytesMax) {
			size += len(codes[n]) + binary.MaxVarintLen32
			n++
		}
		b := append(make([]byte, 0, size), openMessage(sayEntries)...)
		b = binary.AppendUvarint(b, uint64(n))
		for _, code := range codes[:n] {
			b = append(binary.AppendUvarint(b, uint64(len(code))), code...)
		}
		messages, codes = append(messages, b), codes[n:]
	}
	return messages
}

// whole tells whether an entry fits into one message.
func whole(code []byte) bool { return len(code) < messageBytesMax-64 }

func appendPlace(b []byte, p Place) []byte {
	return binary.AppendUvarint(append(b, p.Log[:]...), p.Number)
}

func encodeWant(after Place, offset uint64) []byte {
	return binary.AppendUvarint(appendPlace(openMessage(sayWant), after), offset)
}

func encodePart(of Place, total, offset uint64, part []byte) []byte {
	b := appendPlace(openMessage(sayPart), of)
	b = binary.AppendUvarint(binary.AppendUvarint(b, total), offset)
	return append(b, part...)
}

func encodeAsk(of Place) []byte { return appendPlace(openMessage(sayAsk), of) }

func encodeCount(of Place, c counts) []byte {
	b := appendPlace(openMessage(sayCount), of)
	flag := byte(0)
	if c.counted {
		flag = 1
	}
	return binary.AppendUvarint(binary.AppendUvarint(append(b, flag), c.memory), c.disk)
}

// decodeMessage reads any message, all of b. It returns errNewer or errDamaged,
// wrapped. What it returns shares b.
func decodeMessage(b []byte) (message, error) {
	var m message
	d := decoder{rest: b}
	if version := d.byte(); version != messageVersion && !d.bad {
		return m, fmt.Errorf("purge: message of version %d %w", version, errNewer)
	}
	m.kind = d.byte()
	switch m.kind {
	case sayPosition:
		d.position(&m.position)
	case sayEntries:
		if err := d.entries(&m); err != nil {
			return message{}, err
		}
	case sayWant:
		m.place, m.offset = d.place(), d.uvarint(EntryBytesMax)
	case sayPart:
		m.place, m.total, m.offset = d.place(), d.uvarint(EntryBytesMax), d.uvarint(EntryBytesMax)
		m.part, d.rest = d.rest, nil
		d.bad = d.bad || len(m.part) == 0 || m.offset+uint64(len(m.part)) > m.total
	case sayAsk:
		m.place = d.place()
	case sayCount:
		m.place = d.place()
		m.count.counted = d.byte() == 1
		m.count.memory, m.count.disk = d.uvarint(1<<62), d.uvarint(1<<62)
	default:
		d.bad = true
	}
	if d.bad || len(d.rest) > 0 {
		return message{}, fmt.Errorf("purge: message %w", errDamaged)
	}
	return m, nil
}

// numberMax bounds what a peer may claim.
const numberMax = 1 << 62

func (d *decoder) place() (p Place) {
	d.copy(p.Log[:])
	p.Number = d.uvarint(numberMax)
	return p
}

func (d *decoder) position(p *positionMessage) {
	d.copy(p.own[:])
	flags := d.byte()
	d.bad = d.bad || flags > flagFull|flagFenced
	p.full, p.fenced = flags&flagFull != 0, flags&flagFenced != 0
	p.time = int64(d.uint64())
	for n := d.uvarint(logsMax); n > 0 && !d.bad; n-- {
		var l logPosition
		d.copy(l.log[:])
		l.number, l.floor, l.goal, l.age = d.uvarint(numberMax), d.uvarint(numberMax), d.uvarint(numberMax), d.uvarint(numberMax)
		d.bad = d.bad || l.floor > l.number || l.log == Incarnation{}
		p.logs = append(p.logs, l)
	}
}

func (d *decoder) entries(m *message) error {
	for n := d.uvarint(entriesMax); n > 0 && !d.bad; n-- {
		code := d.take(d.uvarint(EntryBytesMax))
		if d.bad {
			break
		}
		e, err := decodeEntry(code)
		if err != nil {
			return err
		}
		if e.Place.Log == (Incarnation{}) || e.Place.Number == 0 || e.Place.Number > numberMax {
			d.bad = true
			break
		}
		m.entries, m.codes = append(m.entries, e), append(m.codes, code)
	}
	return nil
}
