package main

import (
	"strings"
	"testing"
)

func TestVerifyProgress(t *testing.T) {
	const step, total = 64 << 20, 100 * 64 << 20
	var out strings.Builder
	p := verifyProgress{w: &out, dir: "d"}
	for done := int64(0); done <= total; done += step {
		p.tell(done, total)
	}
	p.end()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 9 || lines[0] != "d: 640.0 MiB of 6.2 GiB" || p.done != total {
		t.Errorf("%d bytes done, and said %q", p.done, lines)
	}
	out.Reset()
	p = verifyProgress{w: &out, dir: "d", terminal: true}
	p.tell(0, 10)
	p.tell(10, 10)
	p.end()
	if got := out.String(); got != "\rd: 0 B of 10 B\rd: 10 B of 10 B\n" {
		t.Errorf("on a terminal: %q", got)
	}
}
