package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLog(t *testing.T) {
	for _, tt := range []struct{ format, want string }{
		{"text", "level=WARN msg=shown"},
		{"json", `"level":"WARN","msg":"shown"`},
		{"", `"level":"WARN","msg":"shown"`}, // not a terminal
	} {
		var b bytes.Buffer
		level := new(slog.LevelVar)
		log := newLog(&b, tt.format, level)
		if err := setLevel(level, "warn"); err != nil {
			t.Fatal(err)
		}
		log.Info("hidden")
		log.Warn("shown")
		if !strings.Contains(b.String(), tt.want) || strings.Contains(b.String(), "hidden") {
			t.Errorf("format %q: %s", tt.format, &b)
		}
	}
	level := new(slog.LevelVar)
	if err := setLevel(level, "loud"); err == nil || !strings.Contains(err.Error(), "log.level") {
		t.Errorf("an unknown level: %v", err)
	}
	if err := setLevel(level, ""); err != nil || level.Level() != slog.LevelInfo {
		t.Errorf("default: %v, %v", level, err)
	}
}
