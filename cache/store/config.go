package store

import (
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
	// enters memory and for each Open from disk. Set by main, not by a file.
	Prepare func(*Meta) (value any, bytes int64, err error) `yaml:"-"`
}

// MemoryConfig bounds the memory tier.
type MemoryConfig struct {
	// Bytes the memory tier may use in all: bodies, headers, keys, index, and
	// fills in flight. Default 256MiB.
	Bytes unit.Bytes `yaml:"bytes"`
}

// DiskConfig is one directory of the disk tier.
type DiskConfig struct {
	// Path of the directory; made if missing. One process owns it at a time.
	Path string `yaml:"path"`
	// Bytes the directory may hold. Default 10GiB.
	Bytes unit.Bytes `yaml:"bytes"`
	// WriteRate bounds the bytes written a second, to spare the device; 0 is
	// without bound. Over it new objects stay out of the disk tier.
	WriteRate unit.Bytes `yaml:"write_rate"`
}
