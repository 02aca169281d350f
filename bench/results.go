package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// result is a results file: a table for people, and what it was made of.
type result struct {
	Topic    string              `json:"topic"`
	Title    string              `json:"title"`
	Text     string              `json:"text"`
	Note     string              `json:"note,omitempty"` // why a bound is missed
	Date     string              `json:"date"`
	Command  string              `json:"command"`
	Machine  string              `json:"machine"`
	Versions map[string]string   `json:"versions"`
	Columns  []string            `json:"columns"`
	Rows     [][]string          `json:"rows"`
	Bars     []bars              `json:"bars,omitempty"` // to be drawn, in the order of Columns
	Samples  map[string][]sample `json:"samples,omitempty"`
}

func (r *result) write(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// markdown returns the section of the page that is about this result.
func (r *result) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s\n\n", r.Title, r.Text)
	if len(r.Bars) > 0 {
		fmt.Fprintf(&b, "![%s](%s)\n\n", r.Title, r.plotFile())
	}
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(r.Columns, " | "), strings.Repeat("---|", len(r.Columns)))
	for _, row := range r.Rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	if r.Note != "" {
		fmt.Fprintf(&b, "\n%s\n", r.Note)
	}
	var versions []string
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		versions = append(versions, r.Versions[name])
	}
	fmt.Fprintf(&b, "\n%s, `%s`, on %s. %s.\n", r.Date, r.Command, r.Machine, strings.Join(versions, "; "))
	return b.String()
}

const pageHead = `# What it costs to serve

Assembled by ` + "`make bench`" + ` from bench/results; do not edit by hand.

Each table compares processes on one machine in one run. The CPU that a server
spends on a request, and its ratio to another's, hold from run to run; rates do
not, because clients and servers share the machine.
`

// loadResults reads all results in a directory, in the order of their file names.
func loadResults(dir string) ([]*result, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var all []*result
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		r := new(result)
		if err := json.Unmarshal(raw, r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// page is what people read of the results.
func page(all []*result) string {
	text := pageHead
	for _, r := range all {
		text += "\n" + r.markdown()
	}
	return text
}

// assemble writes the page and the plots beside it.
func assemble(results, file string) error {
	all, err := loadResults(results)
	if err != nil {
		return err
	}
	for _, r := range all {
		if len(r.Bars) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(file), r.plotFile()), []byte(r.plot()), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(file, []byte(page(all)), 0o644)
}
