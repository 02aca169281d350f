package store

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"edgecdn/internal/unit"
)

// Config says how much the tiers may hold and where.
type Config struct {
	// Memory tier.
	Memory MemoryConfig `yaml:"memory"`
	// Disk tier: one entry for each directory, best one a device. Empty: no disk tier.
	Disk []DiskConfig `yaml:"disk"`

	// Prepare makes of a Meta what lookups want ready (the decoded response) and
	// says how many bytes it holds beside Meta; called once for each object that
	// enters memory and for Opens from disk. Set by main, not by a file.
	Prepare func(*Meta) (value any, bytes int64, err error) `yaml:"-"`
	// PrepareOnDisk does that for what is opened on disk and stays there; Prepare
	// where it is nil.
	PrepareOnDisk func(*Meta) (value any, bytes int64, err error) `yaml:"-"`
}

// MemoryConfig bounds the memory tier.
type MemoryConfig struct {
	// Bytes the memory tier may use in all: bodies, headers, keys, index, and
	// fills in flight. Default 256MiB. What a smaller one has no room for leaves
	// at once.
	Bytes unit.Bytes `yaml:"bytes"`
}

// DiskConfig is one directory of the disk tier.
type DiskConfig struct {
	// Path of the directory; made if missing. One process owns it at a time. A
	// directory that cannot be opened because its device fails is left out, with
	// an error in the log, and tried again; it begins empty then.
	Path string `yaml:"path"`
	// Bytes the directory may hold. Default 10GiB. What a smaller one has no room
	// for is evicted, oldest first, within moments.
	Bytes unit.Bytes `yaml:"bytes"`
	// WriteRate bounds the bytes written a second, to spare the device; 0 is
	// without bound. Over it new objects stay out of the disk tier.
	WriteRate unit.Bytes `yaml:"write_rate"`
}

// Bounds of the tiers: under the least a tier could not hold one segment.
const (
	memoryBytesMin = 8 * unit.MiB
	diskBytesMin   = 64 * unit.MiB
	tierBytesMax   = 1024 * unit.TiB
	disksMax       = 64
)

// WithDefaults returns the configuration with what was left out filled in. Which
// directories there are is for the caller to say.
func (c Config) WithDefaults() Config {
	c.Memory.Bytes = cmp.Or(c.Memory.Bytes, 256*unit.MiB)
	c.Disk = slices.Clone(c.Disk)
	for i := range c.Disk {
		c.Disk[i].Bytes = cmp.Or(c.Disk[i].Bytes, 10*unit.GiB)
	}
	return c
}

// Validate reports everything that cannot work, each by its path in this struct.
// It opens no file.
func (c Config) Validate(report func(path, problem string)) {
	within := func(path string, value, least unit.Bytes) {
		if value != 0 && (value < least || value > tierBytesMax) {
			report(path, fmt.Sprintf("%v is out of bounds: choose from %v to %v", value, least, tierBytesMax))
		}
	}
	within("memory.bytes", c.Memory.Bytes, memoryBytesMin)
	if len(c.Disk) > disksMax {
		report("disk", fmt.Sprintf("%d directories are too many: at most %d", len(c.Disk), disksMax))
		return
	}
	for i, disk := range c.Disk {
		at := fmt.Sprintf("disk[%d]", i)
		within(at+".bytes", disk.Bytes, diskBytesMin)
		if disk.Path == "" {
			report(at+".path", "is missing: name a directory, such as ./data/cache")
			continue
		}
		for k, other := range c.Disk[:i] {
			if other.Path != "" && nested(disk.Path, other.Path) {
				report(at+".path", fmt.Sprintf("%q and disk[%d].path %q are one directory or one is inside of the other: give each its own", disk.Path, k, other.Path))
			}
		}
	}
}

// nested reports whether a and b are one directory or one holds the other.
func nested(a, b string) bool {
	a, b = filepath.Clean(a)+"/", filepath.Clean(b)+"/"
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}
