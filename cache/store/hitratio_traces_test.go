package store

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"sort"
	"testing"
)

// A trace is a list of requests and the sizes of the objects they name.
type trace struct {
	name     string
	requests []uint32 // indexes of objects
	sizes    []int64
}

// footprint is the bytes of all objects that are asked for, and their number.
func (tr *trace) footprint() (total, objects int64) {
	seen := make([]bool, len(tr.sizes))
	for _, id := range tr.requests {
		if !seen[id] {
			seen[id] = true
			total += tr.sizes[id]
			objects++
		}
	}
	return total, objects
}

func openTrace(t testing.TB, name string) io.ReadCloser {
	t.Helper()
	f, err := os.Open("testdata/traces/" + name)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return z
}

// adaptsizeTrace reads real requests. An object keeps the size it was first seen with.
func adaptsizeTrace(t testing.TB) *trace {
	z := openTrace(t, "adaptsize_request.trace.gz")
	tr := &trace{name: "adaptsize"}
	ids := map[uint64]uint32{}
	lines := bufio.NewScanner(z)
	for lines.Scan() {
		var when, id uint64
		var size int64
		if _, err := fmt.Sscan(lines.Text(), &when, &id, &size); err != nil {
			t.Fatalf("adaptsize: %q: %v", lines.Text(), err)
		}
		index, known := ids[id]
		if !known {
			index = uint32(len(tr.sizes))
			ids[id] = index
			tr.sizes = append(tr.sizes, max(size, 1))
		}
		tr.requests = append(tr.requests, index)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return tr
}

// metaTrace draws requests from the popularity and size tables of Meta's CDN:
// a share of its objects, each request independent of the others.
func metaTrace(t testing.TB, share float64) *trace {
	var pop struct{ PopularityBuckets, PopularityWeights []float64 }
	var size struct{ ValSizeRange, ValSizeRangeProbability []float64 }
	for name, into := range map[string]any{"meta_cdn_pop.json.gz": &pop, "meta_cdn_sizes.json.gz": &size} {
		if err := json.NewDecoder(openTrace(t, name)).Decode(into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	tr := &trace{name: "metacdn"}
	var upTo []float64 // cumulated popularity by object
	total := 0.0
	sizeOf := drawer(size.ValSizeRangeProbability)
	for i, objects := range pop.PopularityBuckets {
		for range int(objects) {
			if rng.Float64() >= share {
				continue
			}
			total += pop.PopularityWeights[i] / objects
			upTo = append(upTo, total)
			tr.sizes = append(tr.sizes, max(int64(size.ValSizeRange[sizeOf(rng)]), 1))
		}
	}
	for range int(total) {
		tr.requests = append(tr.requests, uint32(sort.SearchFloat64s(upTo, rng.Float64()*total)))
	}
	return tr
}

// drawer returns a function that draws indexes by weight.
func drawer(weights []float64) func(*rand.Rand) int {
	upTo, total := make([]float64, len(weights)), 0.0
	for i, w := range weights {
		total += w
		upTo[i] = total
	}
	return func(rng *rand.Rand) int {
		return min(sort.SearchFloat64s(upTo, rng.Float64()*total), len(weights)-1)
	}
}

// zipfTrace is synthetic: 300,000 objects by Zipf 0.9, three requests in ten to
// objects asked for once, sizes lognormal with a Pareto tail.
func zipfTrace(requests int) *trace {
	const objects = 300_000
	rng := rand.New(rand.NewPCG(3, 4))
	tr := &trace{name: "zipf09"}
	weights := make([]float64, objects)
	for i := range weights {
		weights[i] = math.Pow(float64(i+1), -0.9)
		tr.sizes = append(tr.sizes, webSize(rng))
	}
	rng.Shuffle(objects, func(i, j int) { weights[i], weights[j] = weights[j], weights[i] })
	draw := drawer(weights)
	for range requests {
		if rng.Float64() < 0.3 {
			tr.requests = append(tr.requests, uint32(len(tr.sizes)))
			tr.sizes = append(tr.sizes, webSize(rng))
		} else {
			tr.requests = append(tr.requests, uint32(draw(rng)))
		}
	}
	return tr
}

func webSize(rng *rand.Rand) int64 {
	size := 12e3 * math.Exp(1.7*rng.NormFloat64())
	if rng.Float64() < 0.015 {
		size = 1e6 * math.Pow(1-rng.Float64(), -1/1.2)
	}
	return int64(min(max(size, 64), 256e6))
}
