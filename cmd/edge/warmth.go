package main

import (
	"os"
	"path/filepath"
	"sync/atomic"
)

// warmFile is there once the node has had something stored.
const warmFile = "warm"

// warmth knows whether a node started without what it had stored, and so is worth
// less to clients than others. One that is new, or that forgot by a purge, is as
// good as they are: being asked is how it comes by something.
type warmth struct {
	dir  string
	had  bool        // something was stored before this start
	warm atomic.Bool // something has been since
}

func (w *warmth) open(dir string) {
	w.dir = dir
	_, err := os.Stat(filepath.Join(dir, warmFile))
	w.had = err == nil
}

// cold says whether what was stored is lost, where this many objects are there.
func (w *warmth) cold(objects int64) bool {
	if objects > 0 && !w.warm.Swap(true) && !w.had {
		// Where it cannot be written a loss goes unnoticed, no more.
		_ = os.WriteFile(filepath.Join(w.dir, warmFile), nil, 0o644)
	}
	return w.had && !w.warm.Load()
}
