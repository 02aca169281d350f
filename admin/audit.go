package admin

// The audit log: a line of JSON for each use of a token that changes something,
// or would have.

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// AuditFile is the name, under the data directory, of the audit log. The file
// before it has ".1" at its end.
const AuditFile = "audit.log"

const (
	auditFileBytesMax = 16 << 20
	auditTextBytesMax = 2 << 10 // of what comes from a client
)

// auditLine is a line of the audit log.
type auditLine struct {
	Time   time.Time `json:"time"`
	Token  string    `json:"token"`
	Client string    `json:"client"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	// What was asked for, in words.
	What string `json:"what"`
	// Status that was answered, and what became of it.
	Status int    `json:"status"`
	Result string `json:"result"`
}

// audit appends to the log. The file is opened for each line: lines are few, and
// it may be moved away at any time.
type audit struct {
	mu       sync.Mutex
	path     string
	bytesMax int64
	log      *slog.Logger
	errors   *atomic.Uint64
}

func newAudit(data string, log *slog.Logger, errors *atomic.Uint64) *audit {
	return &audit{path: filepath.Join(data, AuditFile), bytesMax: auditFileBytesMax, log: log, errors: errors}
}

// note writes a line for a request that c was let in with.
func (a *audit) note(c *credential, r *http.Request, what string, status int, result string) {
	line := auditLine{time.Now().UTC(), c.name, clientAddr(r).String(), r.Method, cut(r.RequestURI), cut(what), status, cut(result)}
	a.log.Info("admin: token used", "token", line.Token, "client", line.Client, "method", line.Method, "path", line.Path,
		"what", line.What, "status", line.Status, "result", line.Result)
	if err := a.write(line); err != nil {
		a.errors.Add(1)
		a.log.Error("admin: audit log", "err", err)
	}
}

func (a *audit) write(line auditLine) error {
	b, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if info, err := os.Stat(a.path); err == nil && info.Size()+int64(len(b)) > a.bytesMax {
		if err := os.Rename(a.path, a.path+".1"); err != nil {
			return fmt.Errorf("rotate: %w", err)
		}
	}
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// cut shortens what a client chose.
func cut(text string) string {
	if len(text) > auditTextBytesMax {
		return text[:auditTextBytesMax] + "..."
	}
	return text
}
