package purge

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docs/purge.md names tests that are there, and the bounds as they are.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../docs/purge.md")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "../cmd/edge/*_test.go", "../e2e/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(source)
		}
	}
	names := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllSubmatch(text, -1)
	if len(names) < 20 {
		t.Errorf("%d tests are named", len(names))
	}
	for _, name := range names {
		if !strings.Contains(code.String(), "\nfunc "+string(name[1])+"(") {
			t.Errorf("there is no %s", name[1])
		}
	}
	d := defaultTuning
	for _, want := range []string{
		fmt.Sprintf("| purges not swept | %s |", grouped(d.unswept)),
		fmt.Sprintf("| purges on their way to the log | %s, %d MiB |", grouped(d.pending), d.pendingBytes>>20),
		fmt.Sprintf("| one purge, encoded | %d MiB |", EntryBytesMax>>20),
		fmt.Sprintf("| the log | %d MiB |", d.logBytes>>20),
		fmt.Sprintf("| %s, or all of the last %d days, whichever is less; by whole files of %d MiB |", grouped(d.receipts), int(d.receiptAge.Hours()/24), d.segmentBytes>>20),
		fmt.Sprintf("| idempotency keys | %s, %d hours;", grouped(d.keys), int(d.keyAge.Hours())),
		fmt.Sprintf("| watchers | %d, each up to %d events behind; told of %d ", d.watchers, d.events, d.events/2),
		fmt.Sprintf("up to %s absolute URLs", grouped(URLsMax)),
		fmt.Sprintf("up to %d of host and path", PrefixesMax),
		fmt.Sprintf("| hosts | up to %d |", HostsMax),
		fmt.Sprintf("up to %d names of one host", GroupsMax),
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("docs/purge.md does not say %q", want)
		}
	}
}

// grouped writes a number with commas.
func grouped(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
