package store

import (
	"errors"
	"fmt"
)

// How objects are found, read and freshened in one volume.

// slicePrint is the fingerprint of slice number n of a fill.
func slicePrint(fill uint64, n int) uint64 {
	x := fill + uint64(n)*0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

func printOf(h Hash) uint64 { return h.Hi }

// lookup reads the head of the object under key. The segment is pinned.
func (v *volume) lookup(key Key, touch bool) (*segment, slotWord, *objectHead, error) {
	print := printOf(key.Hash)
	word := v.index.get(print)
	for range 3 {
		if word == 0 || word&slotSlice != 0 {
			return nil, 0, nil, ErrNotFound
		}
		seg := v.segmentAt(word.pos())
		if seg == nil {
			// Reclaimed since: the index names another place by now, or none.
			if was := word; v.index.get(print) == was {
				v.index.removeAt(print, was.pos())
			}
			word = v.index.get(print)
			continue
		}
		h, err := v.readObject(seg, word, key)
		if err != nil {
			seg.release()
			return nil, 0, nil, err
		}
		if touch {
			v.index.touch(print)
		}
		return seg, word, h, nil
	}
	return nil, 0, nil, ErrNotFound
}

func (v *volume) readObject(seg *segment, word slotWord, key Key) (*objectHead, error) {
	p, rest, err := v.readHead(seg, word)
	if err == nil {
		var h *objectHead
		if h, err = decodeObject(p, rest); err == nil {
			if p.hash != key.Hash || h.key != key.Text {
				v.stats.collisions.Add(1)
				return nil, ErrNotFound
			}
			return h, nil
		}
	}
	if errors.Is(err, errNoRecord) || errors.Is(err, errLost) {
		v.damaged(printOf(key.Hash), word)
		return nil, fmt.Errorf("disk: header checksum: %w", ErrNotFound)
	}
	return nil, fmt.Errorf("disk: read header: %w: %w", ErrNotFound, err)
}

// body returns the body of an object whose head was read from seg. It takes
// over the pin on seg.
func (v *volume) body(seg *segment, word slotWord, h *objectHead) (*diskBody, error) {
	b := &diskBody{v: v, length: h.meta.Length, pieceBytes: sliceMax}
	if h.fill != 0 {
		seg.release()
		b.pieceBytes = int64(h.sliceBytes)
		v.findSlices(b, h.fill)
		return b, nil
	}
	off := int64(unitOf(word.pos()))*unitBytes + int64(h.headBytes)
	if h.flags&flagElsewhere != 0 {
		seg.release()
		if seg = v.segmentOfAddress(h.address); seg == nil {
			v.index.removeAt(printOf(h.hash), word.pos())
			return nil, ErrNotFound
		}
		off = int64(h.address & (1<<addressBits - 1))
	}
	b.pieces = []*piece{{seg: seg, off: off, print: printOf(h.hash), word: word, sums: h.sums}}
	return b, nil
}

func (v *volume) segmentOfAddress(address uint64) *segment {
	id := address >> addressBits
	seg := v.segmentAt(positionOf(id, 0))
	if seg != nil && seg.id != id {
		seg.release()
		return nil
	}
	return seg
}

// findSlices pins the slices of a body that are there.
func (v *volume) findSlices(b *diskBody, fill uint64) {
	n := int((b.length + b.pieceBytes - 1) / b.pieceBytes)
	made := make([]piece, n)
	b.pieces = make([]*piece, n)
	for i := range made {
		pc := &made[i]
		pc.fill, pc.number = fill, i
		pc.print = slicePrint(fill, i)
		pc.word = v.index.get(pc.print)
		if pc.word&slotSlice != 0 {
			pc.seg = v.segmentAt(pc.word.pos())
			pc.off = sliceOffset(pc.word.pos(), b.pieceLength(i))
		}
		b.pieces[i] = pc
	}
}

// sliceOffset returns where the body of the slice record at pos begins.
func sliceOffset(pos uint64, length int64) int64 {
	return int64(unitOf(pos))*unitBytes + sliceBytes + 4*int64(blocksOf(length))
}

// freshen writes a new head for the object and lets it name the same body.
func (v *volume) freshen(key Key, meta Meta) error {
	for range 3 {
		seg, word, old, err := v.lookup(key, false)
		if err != nil {
			return err
		}
		err = v.freshenFrom(seg, word, old, meta)
		seg.release()
		if !errors.Is(err, errChanged) {
			return err
		}
	}
	return ErrNotFound
}

func (v *volume) freshenFrom(seg *segment, word slotWord, old *objectHead, meta Meta) error {
	h := &objectHead{
		prefix: prefix{hash: old.hash}, meta: meta, key: old.key,
		fill: old.fill, sliceBytes: old.sliceBytes, sums: old.sums, address: old.address,
	}
	h.meta.Length = old.meta.Length
	if h.fill == 0 && h.meta.Length > 0 {
		h.flags = flagElsewhere
		if old.flags&flagElsewhere == 0 {
			h.address = seg.id<<addressBits | uint64(unitOf(word.pos())*unitBytes+old.headBytes)
		}
		bodySeg := v.segmentOfAddress(h.address)
		if bodySeg == nil {
			return ErrNotFound
		}
		defer bodySeg.release()
	}
	head, err := encodeObject(h)
	if err != nil {
		return err
	}
	kept := word & (slotVerified | hitMask<<hitShift)
	now, _, err := v.put(&write{head: head, prefix: &h.prefix, print: printOf(h.hash), only: word, flags: kept})
	if err != nil {
		return err
	}
	now.release()
	return nil
}
