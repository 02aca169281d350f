package cache

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/caching.md names each story, and each detail that Cache-Status can have.
func TestCachingIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/caching.md")
	if err != nil {
		t.Fatal(err)
	}
	stories, err := filepath.Glob("testdata/stories/*.txt")
	if err != nil || len(stories) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range stories {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		if !regexp.MustCompile(`(?m)(^|[ (,;|])` + name + `($|[ ),;.|])`).Match(doc) {
			t.Errorf("story %s is not in docs/caching.md", name)
		}
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	detail := regexp.MustCompile(`(?:[.](?:pass|passOn|passSlice|forward)\(.*, |return false, |return "|(?:Detail: |detail|why) *:?=? *(?:false, )?|ok, why = false, )"([a-z]+(?:-[a-z]+)*)"`)
	found := 0
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") || source == "request.go" {
			continue
		}
		code, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range detail.FindAllSubmatch(code, -1) {
			found++
			if !strings.Contains(string(doc), "`"+string(m[1])+"`") {
				t.Errorf("%s: detail %s is not in docs/caching.md", source, m[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d details were found in the code", found)
	}
}
