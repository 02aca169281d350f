package main

import (
	"slices"
	"testing"
)

func TestBenchmarkRows(t *testing.T) {
	rows := benchmarkRows([]byte(`goos: linux
BenchmarkDiskIndexGet-2         	 100	     150.0 ns/op	        23.50 index-B/object	       0 B/op	       0 allocs/op
BenchmarkMemoryLookup/zipf/goroutines=2-2 	 100	   1300 ns/op	 400.0 cpu-ns/op	       0 B/op	       0 allocs/op
BenchmarkDiskIndexGet-2         	 100	     190.0 ns/op	        23.50 index-B/object	       0 B/op	       0 allocs/op
BenchmarkDiskIndexGet-2         	 100	     160.0 ns/op	        23.50 index-B/object	       0 B/op	       0 allocs/op
PASS
`))
	want := [][]string{
		{"MemoryLookup/zipf/goroutines=2", "1.3 µs", "400 ns", "0", "0", ""},
		{"DiskIndexGet", "160 ns", "", "0", "0", "23.5 index-B/object"},
	}
	if !slices.EqualFunc(rows, want, slices.Equal) {
		t.Errorf("%q\nwant %q", rows, want)
	}
}
