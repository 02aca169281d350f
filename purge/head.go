package purge

// head.go keeps the few facts that must outlive everything: which log this is,
// how often it was opened, which segment files belong to it. They are written in
// place, into two slots in turn, so that a full disk does not keep a node from
// starting and a torn write leaves the other slot.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
)

const (
	headName    = "head"
	headVersion = 2
	headSlot    = 4096 // the distance of the slots: a torn write meets one
	headBytes   = 80   // of version 1; what version 2 has more follows
	markBytes   = 36
	headMagic   = "EDGEPRGH"
	headSlots   = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// head is what a slot says.
type head struct {
	writes      uint64 // counts the writes; the higher slot is in force
	incarnation Incarnation
	boot        uint64 // counts the openings; the local orders begin with it
	// first and last segment by sequence; none where first > last.
	first, last uint64
	// number of the next entry when this was written: all before it were in the
	// log then.
	number uint64
	// dropped is the last boot in which entries stopped to be applied at starts.
	dropped uint64
	// contact is when another node was last compared with, in milliseconds since
	// 1970; 0: never. Of version 2, as is what follows.
	contact int64
	// marks say how far each log is known. At most logsMax; entries that are in the
	// segments may be more than they say.
	marks []mark
}

// encode: magic 8, version u16, zero u16, writes u64, incarnation 16, boot u64,
// first u64, last u64, number u64, dropped u64, CRC32C of all before it u32; and
// in version 2: contact u64, count of marks u16, each of log 16, number u64, goal
// u64, moved u32; CRC32C of all before it u32.
func (h *head) encode() []byte {
	b := make([]byte, 0, headBytes+10+len(h.marks)*markBytes+4)
	b = append(b, headMagic...)
	b = binary.LittleEndian.AppendUint16(b, headVersion)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, h.writes)
	b = append(b, h.incarnation[:]...)
	for _, v := range [...]uint64{h.boot, h.first, h.last, h.number, h.dropped} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.contact))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(h.marks)))
	for _, m := range h.marks {
		b = append(b, m.log[:]...)
		b = binary.LittleEndian.AppendUint64(b, m.number)
		b = binary.LittleEndian.AppendUint64(b, m.goal)
		b = binary.LittleEndian.AppendUint32(b, m.moved)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeHead reads a slot, or what there is of it.
func decodeHead(b []byte) (h head, err error) {
	if len(b) < headBytes || string(b[:8]) != headMagic {
		return h, errDamaged
	}
	if binary.LittleEndian.Uint32(b[76:]) != crc32.Checksum(b[:76], castagnoli) {
		return h, errDamaged
	}
	version := binary.LittleEndian.Uint16(b[8:])
	if version < 1 || version > headVersion {
		return h, fmt.Errorf("of version %d %w", version, errNewer)
	}
	h.writes = binary.LittleEndian.Uint64(b[12:])
	copy(h.incarnation[:], b[20:])
	h.boot = binary.LittleEndian.Uint64(b[36:])
	h.first = binary.LittleEndian.Uint64(b[44:])
	h.last = binary.LittleEndian.Uint64(b[52:])
	h.number = binary.LittleEndian.Uint64(b[60:])
	h.dropped = binary.LittleEndian.Uint64(b[68:])
	if version == 1 { // all entries are its own
		h.marks = []mark{{log: h.incarnation, number: max(h.number, 1) - 1}}
		return h, nil
	}
	if err := h.decodeMarks(b); err != nil {
		return head{}, err
	}
	return h, nil
}

func (h *head) decodeMarks(b []byte) error {
	if len(b) < headBytes+14 {
		return errDamaged
	}
	n := int(binary.LittleEndian.Uint16(b[headBytes+8:]))
	end := headBytes + 10 + n*markBytes
	if n > logsMax || len(b) < end+4 || binary.LittleEndian.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli) {
		return errDamaged
	}
	h.contact = int64(binary.LittleEndian.Uint64(b[headBytes:]))
	for at := headBytes + 10; at < end; at += markBytes {
		m := mark{
			number: binary.LittleEndian.Uint64(b[at+16:]), goal: binary.LittleEndian.Uint64(b[at+24:]),
			moved: binary.LittleEndian.Uint32(b[at+32:]),
		}
		copy(m.log[:], b[at:])
		h.marks = append(h.marks, m)
	}
	return nil
}

// headFile is the file that the head is in.
type headFile struct {
	file file
	head head
}

// openHead reads the head of the directory. found is false where there is none
// that can be read; the file is then there and empty. The directory's name for
// it is durable before the first write.
func openHead(fsys filesystem, dir string) (h *headFile, found bool, err error) {
	path := filepath.Join(dir, headName)
	f, err := fsys.open(path)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = fsys.create(path)
		if err == nil {
			err = fsys.syncDir(dir)
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("purge: open head: %w", err)
	}
	h = &headFile{file: f}
	lost := 0
	for slot := range int64(headSlots) {
		b := make([]byte, headSlot)
		n, err := f.ReadAt(b, slot*headSlot)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, false, errors.Join(fmt.Errorf("purge: read head: %w", err), f.Close())
		} else if n < headBytes {
			continue
		}
		read, err := decodeHead(b[:n])
		switch {
		case errors.Is(err, errNewer):
			return nil, false, errors.Join(fmt.Errorf("purge: %s %w", path, err), f.Close())
		case err != nil:
			lost++
		case !found || read.writes > h.head.writes:
			h.head, found = read, true
		}
	}
	// A slot that cannot be read was torn, or has rotted and was the newer one:
	// it may have promised one boot more.
	h.head.boot += uint64(lost)
	return h, found, nil
}

// write makes next the head, durably; after an error the one before may be in
// force still.
func (h *headFile) write(next head) error {
	next.writes = h.head.writes + 1
	// A slot is written over only by the write after the next: the one in force
	// stays until this one is synced.
	if _, err := h.file.WriteAt(next.encode(), int64(next.writes%headSlots)*headSlot); err != nil {
		return fmt.Errorf("purge: write head: %w", err)
	}
	if err := h.file.Sync(); err != nil {
		return fmt.Errorf("purge: sync head: %w", err)
	}
	h.head = next
	return nil
}
