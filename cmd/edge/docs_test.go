package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// Every command of edge that a document shows is one that edge takes.
func TestDocumentsShowRealCommands(t *testing.T) {
	var files []string
	for _, pattern := range []string{"../../README.md", "../../docs/*.md", "../../deploy/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	n := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range commands(string(text)) {
			n++
			parser := kong.Must(&cli{}, kong.Name("edge"), kong.Exit(func(int) {}))
			if _, err := parser.Parse(words(line)); err != nil {
				t.Errorf("%s: edge %s: %v", file, line, err)
			}
		}
	}
	if n < 20 {
		t.Errorf("%d commands were found: the test looks in the wrong place", n)
	}
}

// commands returns what stands after edge in the lines of code of a document that
// call it.
func commands(text string) []string {
	var all []string
	fenced := false
	call := regexp.MustCompile(`^(?:\$ )?(?:\S+ exec (?:-T )?\S+ |bin)?/?edge ([a-z].*)$`)
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
			continue
		case !fenced && !strings.HasPrefix(line, "    "):
			continue
		}
		line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
		if m := call.FindStringSubmatch(line); m != nil {
			all = append(all, m[1])
		}
	}
	return all
}

// words parts a line as a shell does, as far as documents need it; it ends where
// another command begins.
func words(line string) []string {
	all := regexp.MustCompile(`'[^']*'|"[^"]*"|[^\s'"]+`).FindAllString(line, -1)
	if i := slices.IndexFunc(all, func(w string) bool { return strings.ContainsAny(w[:1], "|><&") }); i >= 0 {
		all = all[:i]
	}
	for i, w := range all {
		all[i] = strings.Trim(w, `'"`)
	}
	return all
}
