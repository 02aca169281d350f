package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"edgecdn/internal/unit"
)

func TestConfigValidate(t *testing.T) {
	cfg := Config{
		Memory: MemoryConfig{Bytes: unit.KiB},
		Disk: []DiskConfig{
			{Path: "a/b", Bytes: unit.MiB}, {}, {Path: "a/b/"}, {Path: "a"}, {Path: "a/bc", Bytes: 2048 * unit.TiB},
		},
	}
	var got []string
	cfg.Validate(func(path, problem string) { got = append(got, path+": "+problem) })
	want := []string{
		"memory.bytes: 1KiB is out of bounds: choose from 8MiB to 1024TiB",
		"disk[0].bytes: 1MiB is out of bounds: choose from 64MiB to 1024TiB",
		"disk[1].path: is missing: name a directory, such as ./data/cache",
		`disk[2].path: "a/b/" and disk[0].path "a/b" are one directory or one is inside of the other: give each its own`,
		`disk[3].path: "a" and disk[0].path "a/b" are one directory or one is inside of the other: give each its own`,
		`disk[3].path: "a" and disk[2].path "a/b/" are one directory or one is inside of the other: give each its own`,
		"disk[4].bytes: 2048TiB is out of bounds: choose from 64MiB to 1024TiB",
		`disk[4].path: "a/bc" and disk[3].path "a" are one directory or one is inside of the other: give each its own`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	full := Config{Disk: []DiskConfig{{Path: "a"}}}.WithDefaults()
	if full.Memory.Bytes != 256*unit.MiB || full.Disk[0].Bytes != 10*unit.GiB {
		t.Errorf("defaults: %+v", full)
	}
	full.Validate(func(path, problem string) { t.Errorf("defaults: %s: %s", path, problem) })
}
