package server

// zap.go has certmagic log into ours. What it says is one level less grave there:
// what operators must know they are told by acme.go.

import (
	"context"
	"log/slog"

	"go.uber.org/zap/zapcore"
)

// zapCore is a zapcore.Core over a slog.Logger.
type zapCore struct{ log *slog.Logger }

func slogLevel(level zapcore.Level) slog.Level {
	switch {
	case level >= zapcore.ErrorLevel:
		return slog.LevelWarn
	case level == zapcore.WarnLevel:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// Enabled implements zapcore.LevelEnabler.
func (c zapCore) Enabled(level zapcore.Level) bool {
	return level > zapcore.DebugLevel && c.log.Enabled(context.Background(), slogLevel(level))
}

// With implements zapcore.Core.
func (c zapCore) With(fields []zapcore.Field) zapcore.Core {
	return zapCore{c.log.With(attributes(fields)...)}
}

// Check implements zapcore.Core.
func (c zapCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c zapCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	c.log.Log(context.Background(), slogLevel(entry.Level), entry.Message, attributes(fields)...)
	return nil
}

// Sync implements zapcore.Core.
func (zapCore) Sync() error { return nil }

func attributes(fields []zapcore.Field) []any {
	values := zapcore.NewMapObjectEncoder()
	var out []any
	for _, f := range fields {
		f.AddTo(values)
	}
	for name, value := range values.Fields {
		out = append(out, slog.Any(name, value))
	}
	return out
}
