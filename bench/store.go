package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What the store's own Go benchmarks measure, as a table.

// storeBenchmarks are shown, in this order.
var storeBenchmarks = []string{
	"MemoryLookup", "MemoryFill", "MemoryEvict", "MemoryRemove100k",
	"DiskIndexGet", "SeenFilter", "DiskRead", "DiskSend", "DiskWrite", "DiskRemove", "DiskStart",
}

// measureStore runs the store's benchmarks so many times and takes medians.
func measureStore(ctx context.Context, rounds int) (*result, error) {
	pattern := "^Benchmark(" + strings.Join(storeBenchmarks, "|") + ")$"
	args := []string{"test", "-run", "^$", "-bench", pattern, "-benchmem", "-count", strconv.Itoa(rounds), "-timeout", "30m", "./cache/store"}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go test -bench: %w\n%s", err, out)
	}
	r := storeResult(rounds)
	r.Rows = benchmarkRows(out)
	return r, nil
}

func storeResult(rounds int) *result {
	return &result{
		Topic: "store", Title: "The store, by its Go benchmarks",
		Text: fmt.Sprintf("Median of %d runs. CPU is user and system time of the whole process, which is what counts where others use the machine too; "+
			"time is what passed, with so many goroutines, divided by all operations. Lookups hash the key, find the object, compare the whole key and give it back: "+
			"100,000 objects, as popular as web objects are (zipf) or each as likely as any other (even: most lookups wait for memory); `ristretto` is its Get in the same run. "+
			"`DiskIndexGet` looks into an index of 10 million entries, half of the lookups in vain. B/object is memory for each object or slice on disk: "+
			"16 bytes in tables that are about three quarters to 95 %% full (index-B/object); "+
			"and the admission filters, 2.5 bytes for each 64 KiB of the directories' budget, so that all of it is below 30 bytes where objects are smaller than 160 KiB on average. "+
			"`DiskStart` opens a store of a million objects and reads one; `DiskRead` and `DiskSend` are hits of 100 kB by way of the page cache, verified, the latter by sendfile to a client on the same machine.", rounds),
		Date: time.Now().UTC().Format(time.DateOnly), Command: "make bench-store", Machine: machine() + loadNow(),
		Versions: map[string]string{"ristretto": "ristretto v2.4.2"},
		Columns:  []string{"benchmark", "time", "CPU", "allocated", "allocations", "more"},
	}
}

// loadNow says how busy the machine is.
func loadNow() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	return "; load average " + strings.Join(strings.Fields(string(text))[:3], ", ") + " at the end"
}

// benchmarkRows makes rows of what go test -bench prints.
func benchmarkRows(out []byte) [][]string {
	var names []string
	measured := map[string]map[string][]float64{}
	procs := regexp.MustCompile(`-\d+$`)
	for line := range bytes.Lines(out) {
		fields := strings.Fields(string(line))
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := procs.ReplaceAllString(strings.TrimPrefix(fields[0], "Benchmark"), "")
		if measured[name] == nil {
			names = append(names, name)
			measured[name] = map[string][]float64{}
		}
		for i := 2; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				measured[name][fields[i+1]] = append(measured[name][fields[i+1]], v)
			}
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	var rows [][]string
	for _, name := range names {
		rows = append(rows, benchmarkRow(name, measured[name]))
	}
	return rows
}

func rank(name string) int {
	subject, _, _ := strings.Cut(name, "/")
	return slices.Index(storeBenchmarks, subject)
}

func benchmarkRow(name string, m map[string][]float64) []string {
	middle := func(unit string) (float64, bool) {
		v := slices.Sorted(slices.Values(m[unit]))
		delete(m, unit)
		if len(v) == 0 {
			return 0, false
		}
		return v[len(v)/2], true
	}
	row := []string{name}
	for _, unit := range []string{"ns/op", "cpu-ns/op"} {
		v, ok := middle(unit)
		if !ok {
			row = append(row, "")
			continue
		}
		row = append(row, nanoseconds(v))
	}
	for _, unit := range []string{"B/op", "allocs/op"} {
		v, ok := middle(unit)
		if !ok {
			row = append(row, "")
			continue
		}
		row = append(row, strconv.FormatFloat(v, 'f', 0, 64))
	}
	var more []string
	for unit := range m {
		v, _ := middle(unit)
		more = append(more, strconv.FormatFloat(v, 'f', 1, 64)+" "+unit)
	}
	slices.Sort(more)
	return append(row, strings.Join(more, ", "))
}

// nanoseconds writes a duration with three digits.
func nanoseconds(v float64) string {
	for _, unit := range []string{"ns", "µs", "ms"} {
		if v < 1000 {
			return strconv.FormatFloat(v, 'g', 3, 64) + " " + unit
		}
		v /= 1000
	}
	return strconv.FormatFloat(v, 'g', 3, 64) + " s"
}
