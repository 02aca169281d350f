package store

import (
	"fmt"
	"path/filepath"
	"slices"

	"edgecdn/internal/unit"
)

// How budgets change while the tier runs. Which directories there are does not.

// Check says whether Apply would take the configuration.
func (d *Disk) Check(configs []DiskConfig) error {
	for _, v := range d.volumes {
		if d.configOf(v, configs) == nil {
			return fmt.Errorf("disk: directory %s is removed, which takes a restart: put it back, or restart the node", v.dir)
		}
	}
	for _, c := range configs {
		if !slices.ContainsFunc(d.volumes, func(v *volume) bool { return v.dir == filepath.Clean(c.Path) }) {
			return fmt.Errorf("disk: directory %s is new, which takes a restart: take it out, or restart the node", c.Path)
		}
		if c.Bytes != 0 && c.Bytes < diskBytesMin && d.tuning.segmentBytes == 0 {
			return fmt.Errorf("disk: directory %s of %s: give at least %s", c.Path, c.Bytes, unit.Bytes(diskBytesMin))
		}
	}
	return nil
}

func (d *Disk) configOf(v *volume, configs []DiskConfig) *DiskConfig {
	for i := range configs {
		if filepath.Clean(configs[i].Path) == v.dir {
			return &configs[i]
		}
	}
	return nil
}

// Apply changes budgets and write rates. What a smaller budget has no room for
// is reclaimed by Run, oldest first.
func (d *Disk) Apply(configs []DiskConfig) error {
	if err := d.Check(configs); err != nil {
		return err
	}
	before := d.keys()
	for _, v := range d.volumes {
		v.apply(*d.configOf(v, configs))
	}
	if keys := d.keys(); keys != before {
		// What was seen is forgotten: some objects are asked for once more.
		d.seen.Store(newSeenFilter(keys))
	}
	return nil
}

func (v *volume) apply(c DiskConfig) {
	if c.Bytes == 0 {
		c.Bytes = diskBytesDefault
	}
	v.bucket.rate.Store(int64(c.WriteRate))
	v.mu.Lock()
	defer v.mu.Unlock()
	if int64(c.Bytes) == v.bytes.Load() {
		return
	}
	v.log.Info("disk: budget of directory changes", "from", unit.Bytes(v.bytes.Load()).String(), "to", c.Bytes.String())
	v.resize(int64(c.Bytes))
	v.index.limit(v.entries())
	if v.open != nil && v.open.charge > v.capacity.Load() {
		// The keeper takes sealed segments only.
		v.backlog += v.open.seal()
		v.open = nil
	}
	signal(v.flushNow)
	signal(v.keepNow)
}
