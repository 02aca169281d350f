package config

import (
	"fmt"
	"slices"
	"strings"
)

// problemsMax bounds what is told at once.
const problemsMax = 100

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	File string
	Line int    // 0 where the file has no line for it
	Path string // of the key, such as hosts[0].routes[2].path; "" for the file
	Text string // what is wrong and how to mend it
}

// String returns `file:line: path: text`.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Path != "" {
		b.WriteString(": " + p.Path)
	}
	b.WriteString(": " + p.Text)
	return b.String()
}

// Error is everything that is wrong with a configuration, in the order of lines.
type Error struct {
	Problems []Problem
	// More counts problems beyond the first 100.
	More int
}

// Error returns a line for each problem.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems)+1)
	for _, p := range e.Problems {
		lines = append(lines, p.String())
	}
	if e.More > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", e.More))
	}
	return strings.Join(lines, "\n")
}

func newError(problems []Problem, more int) *Error {
	slices.SortStableFunc(problems, func(a, b Problem) int { return a.Line - b.Line })
	over := max(len(problems)-problemsMax, 0)
	return &Error{Problems: problems[:len(problems)-over], More: more + over}
}

// join appends a key or an index to a path.
func join(path, key string) string {
	if path == "" || key == "" || key[0] == '[' {
		return path + key
	}
	return path + "." + key
}

// parent cuts the last key or index off a path.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// nearest returns the candidate that word is a slip of, or "".
func nearest(word string, candidates []string) string {
	best, least := "", 1+len(word)/3
	slices.Sort(candidates)
	for _, candidate := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(candidate)); d <= least && d < len(candidate) {
			best, least = candidate, d-1
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours that make a of b; long words are far from everything.
func distance(a, b string) int {
	if len(a) > nameBytesMax || len(b) > nameBytesMax {
		return nameBytesMax
	}
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for k := range row {
		row[k] = k
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for k := range len(b) {
			cost := 1
			if a[i] == b[k] {
				cost = 0
			}
			next[k+1] = min(row[k+1]+1, next[k]+1, row[k]+cost)
			if i > 0 && k > 0 && a[i] == b[k-1] && a[i-1] == b[k] {
				next[k+1] = min(next[k+1], before[k-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
