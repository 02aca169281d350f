package store

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Claiming: what a directory holds may only be served while every purge that could
// concern it is known. So each directory is marked with the purge log that it was
// filled under, and with the last start at which it took part. One that another log
// or none was known to, or that was away while purges left the log, is emptied.

// claim is the mark of a directory, in its format file.
type claim struct {
	set         bool
	incarnation [16]byte // of the purge log
	boot        uint64   // the last start with it
}

func (c claim) encode(b []byte) []byte {
	if !c.set {
		return b
	}
	return fmt.Appendf(b, "purges %x\nboot %d\n", c.incarnation, c.boot)
}

// decodeClaim reads a mark; whatever is not whole is none.
func decodeClaim(text string) (c claim) {
	_, text, _ = strings.Cut(text, "\npurges ")
	var incarnation []byte
	if n, err := fmt.Sscanf(text, "%x\nboot %d\n", &incarnation, &c.boot); err != nil || n != 2 || len(incarnation) != 16 || !strings.HasSuffix(text, "\n") {
		return claim{}
	}
	c.set = true
	copy(c.incarnation[:], incarnation)
	return c
}

// Claim makes the store one that is filled under a purge log of that incarnation, at
// its start number boot, and empties what may have missed purges: directories of
// another incarnation or none, and those that no start since number dropped has had,
// the start to which the last purge belongs that has left the log. After Open and
// before anything else, Run included; emptied says whether something was lost. On an
// error nothing may be served from the store.
func (t *Tiered) Claim(incarnation [16]byte, boot, dropped uint64) (emptied bool, err error) {
	if t.disk == nil {
		return false, nil
	}
	t.disk.claim = claim{true, incarnation, boot}
	for _, v := range t.disk.volumes {
		was := v.format.claim
		if v.away { // it begins empty, if it comes back
			continue
		}
		valid := was.set && was.incarnation == incarnation && was.boot >= dropped
		if !valid {
			had := v.segmentCount() > 0
			if err := v.empty(); err != nil {
				if err := v.keepOut(err); err != nil {
					return emptied, err
				}
				emptied = emptied || had
				continue
			}
			if had {
				v.log.Warn("disk: directory emptied: it was filled under another purge log, or was away while purges were forgotten",
					"marked", was.set, "same_log", was.incarnation == incarnation, "boot", was.boot, "dropped", dropped)
			}
			emptied = emptied || had
		}
		err := v.mark(t.disk.claim)
		if err != nil && valid && isDeviceError(err) {
			// What it holds may be served; a later start will think that it missed this one.
			v.log.Warn("disk: directory cannot be marked", "err", err)
			continue
		}
		if err := v.keepOut(err); err != nil {
			return emptied, err
		}
	}
	return emptied, nil
}

// mark notes durably, or not at all, under which log the directory is filled.
func (v *volume) mark(c claim) error {
	f := v.format
	f.claim = c
	if err := v.tuning.fs.replaceFile(filepath.Join(v.dir, formatName), f.encode()); err != nil {
		return fmt.Errorf("disk: mark %s: %w", v.dir, err)
	}
	v.format = f
	return nil
}

// empty unlinks all segments of a volume that is not in use yet, those included that
// could not be read.
func (v *volume) empty() error {
	v.listMu.RLock()
	segs := slices.Clone(v.order)
	v.listMu.RUnlock()
	v.mu.Lock()
	v.open, v.queue, v.unsynced, v.removals, v.backlog = nil, nil, nil, nil, 0
	v.mu.Unlock()
	v.index = newDiskIndex(v.entries())
	for _, seg := range segs {
		v.drop(seg)
	}
	if err := v.clear(); err != nil {
		return err
	}
	if err := v.tuning.fs.syncDir(v.dir); err != nil {
		return fmt.Errorf("disk: empty %s: %w", v.dir, err)
	}
	return nil
}
