package config

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long the directory must be quiet: editors write, rename and
	// remove several files to save one.
	settle = 100 * time.Millisecond
	// settleMax bounds the wait in a directory that is never quiet.
	settleMax = 2 * time.Second
	// lostRetry is how soon a directory that went away is looked for again.
	lostRetry = time.Second
)

// Watch calls onChange after the content of the file at path has changed, until
// ctx ends. It watches directories and not the file, because editors replace it
// by a rename and container platforms by a symlink. While the file is missing
// nothing is called. An error means that nothing is watched.
func Watch(ctx context.Context, path string, onChange func()) error {
	return watch(ctx, path, digest(path), onChange)
}

// watch does the same for a content that is known to have the hash last.
func watch(ctx context.Context, path, last string, onChange func()) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("config: watch %s: %w", path, err)
	}
	defer watcher.Close()
	if err := follow(watcher, path); err != nil {
		return fmt.Errorf("config: watch %s: %w", path, err)
	}
	timer := time.NewTimer(0) // it may have changed since it was read
	defer timer.Stop()
	var first time.Time // of the events since the last look
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-watcher.Events:
			if !open {
				return errors.New("config: the watch of the file was closed")
			}
			if first.IsZero() {
				first = time.Now()
			}
			if time.Since(first) < settleMax {
				timer.Reset(settle)
			}
		case err, open := <-watcher.Errors:
			if !open || !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("config: watch %s: %w", path, err)
			}
			timer.Reset(settle)
		case <-timer.C:
			first = time.Time{}
			if follow(watcher, path) != nil {
				timer.Reset(lostRetry)
			}
			if now := digest(path); now != "" && now != last {
				last = now
				onChange()
			}
		}
	}
}

// follow watches the directory of path and of the file that it leads to.
func follow(watcher *fsnotify.Watcher, path string) error {
	if err := watcher.Add(filepath.Dir(path)); err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil // it is missing: the directory tells when it comes
	}
	return watcher.Add(filepath.Dir(real))
}

// digest returns the hash of the file's content, "" while it is missing, and
// another text when it cannot be read, so that the reload says why.
func digest(path string) string {
	data, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		return err.Error()
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
