package route

// page.go reads the pages that are sent where no origin answers.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// pageBytesMax bounds a page, which is kept in memory.
const pageBytesMax = 1 << 20

// pages reads each file once.
type pages map[string][]byte

// load gives the routes of a host their pages.
func (p pages) load(h *host) error {
	problems := p.into(h.own)
	for _, r := range h.exact {
		problems = errors.Join(problems, p.into(r))
	}
	for _, r := range h.prefix {
		problems = errors.Join(problems, p.into(r))
	}
	return problems
}

func (p pages) into(r *Route) error {
	if r == nil || r.page == "" {
		return nil
	}
	content, known := p[r.page]
	if !known {
		var err error
		if content, err = readPage(r.page); err != nil {
			return fmt.Errorf("route: hosts[%d], %s: fallback.page: %w", r.HostIndex, r.Pattern, err)
		}
		p[r.page] = content
	}
	r.Page, r.PageType = content, "text/plain; charset=utf-8"
	switch strings.ToLower(filepath.Ext(r.page)) {
	case ".html", ".htm":
		r.PageType = "text/html; charset=utf-8"
	case ".json":
		r.PageType = "application/json"
	}
	return nil
}

func readPage(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a file", name))
	}
	content, err := io.ReadAll(io.LimitReader(f, pageBytesMax+1))
	if err == nil && len(content) > pageBytesMax {
		err = fmt.Errorf("%s is longer than 1 MiB: a page is kept in memory", name)
	}
	return append([]byte{}, content...), err // not nil where it is empty
}
