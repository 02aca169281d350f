package main

// What rules for keys were in force before. A purge names a URL as clients ask for it;
// which key that is depends on cache.key.query and cache.key.host. What was stored
// under rules of before is found again when they are back, so purges have to know
// them, restarts in between included.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"edgecdn/cache"
	"edgecdn/purge"
	"edgecdn/route"
)

const (
	// keyRulesFile is where they are, below the data directory.
	keyRulesFile = "keyrules.json"
	// keyRulesMax bounds how many are remembered. Beyond it everything is purged, and
	// only the newest are kept.
	keyRulesMax  = 64
	keyRulesKept = 2
	forgetPause  = time.Minute
)

// keyRules are the rules that something stored may have been stored under.
type keyRules struct {
	path        string
	incarnation string // of the log of purges: with another one the store is empty

	mu      sync.Mutex
	all     []json.RawMessage // newest last
	tables  []func(host, target string) (*route.Route, error)
	changed bool // since they were written
	// lost: some are not known, or no longer. Nothing is written until what they may
	// have left behind is purged.
	lost bool
	wake chan struct{} // there is something to forget
}

// keyRulesOnDisk is the file.
type keyRulesOnDisk struct {
	Version int               `json:"version"`
	Log     string            `json:"log"`
	Rules   []json.RawMessage `json:"rules"`
}

const keyRulesVersion = 1

// openKeyRules reads what is remembered.
func openKeyRules(data string, log *purge.Log) (*keyRules, error) {
	k := &keyRules{path: filepath.Join(data, keyRulesFile), incarnation: log.Incarnation().String(), wake: make(chan struct{}, 1)}
	text, err := os.ReadFile(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		k.lost = log.Boot() > 1
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("rules for keys of before: %w", err)
	}
	var read keyRulesOnDisk
	switch err := json.Unmarshal(text, &read); {
	case err == nil && read.Version > keyRulesVersion:
		return nil, fmt.Errorf("%s is of a newer version of edge: start that one, or move the file away, which purges everything", k.path)
	case err != nil:
		k.lost = true
		return k, nil
	case read.Log != k.incarnation:
		return k, nil // the store has been emptied
	}
	for _, text := range read.Rules {
		if err := k.add(text); err != nil {
			k.lost = true
		}
	}
	return k, nil
}

func (k *keyRules) add(text json.RawMessage) error {
	var rules route.KeyRules
	if err := json.Unmarshal(text, &rules); err != nil {
		return err
	}
	table, err := rules.Table()
	if err != nil {
		return err
	}
	k.all, k.tables = append(k.all, text), append(k.tables[:len(k.tables):len(k.tables)], table.Match)
	return nil
}

// remember has the cache know the rules of hosts, durably, before they are in force.
func (k *keyRules) remember(hosts []route.Host, c *cache.Cache) error {
	text, err := json.Marshal(route.KeyRulesOf(hosts))
	if err != nil {
		return fmt.Errorf("rules for keys: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	at := slices.IndexFunc(k.all, func(have json.RawMessage) bool { return bytes.Equal(have, text) })
	if newest := len(k.all) - 1; at < 0 || at < newest {
		if err := k.add(text); err != nil {
			return fmt.Errorf("rules for keys: %w", err)
		}
		if at >= 0 { // the same, which are the newest again
			k.all = slices.Delete(slices.Clone(k.all), at, at+1)
			k.tables = slices.Delete(slices.Clone(k.tables), at, at+1)
		}
		k.changed = true
	}
	c.RememberRules(k.tables)
	if k.lost || len(k.all) > keyRulesMax {
		k.again()
	}
	if k.lost || !k.changed {
		return nil
	}
	return k.write()
}

// write makes the file anew, whole or not at all; called with mu held.
func (k *keyRules) write() error {
	text, err := json.Marshal(keyRulesOnDisk{keyRulesVersion, k.incarnation, k.all})
	if err == nil {
		err = writeDurably(k.path, text)
	}
	if err != nil {
		return fmt.Errorf("the rules for keys cannot be noted, without which purges might miss something later: %w", err)
	}
	k.changed = false
	return nil
}

func writeDurably(path string, text []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// forgetKeyRules purges everything where rules of before are not known, or too many.
func (n *node) forgetKeyRules(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.keyRules.wake:
		}
		err := n.purges.Forget(ctx, "the rules for keys that something may have been stored under are not all known")
		if err == nil {
			n.log.Warn("purged everything: not all rules for keys (cache.key) of before are known", "file", n.keyRules.path)
			err = n.keyRules.forget(n.cache)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		n.log.Error("cannot forget rules for keys, will be tried again", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(forgetPause):
			n.keyRules.again()
		}
	}
}

func (k *keyRules) again() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// forget keeps the newest rules: nothing is stored under others.
func (k *keyRules) forget(c *cache.Cache) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if old := len(k.all) - keyRulesKept; old > 0 {
		k.all, k.tables = k.all[old:], k.tables[old:]
	}
	c.RememberRules(k.tables)
	k.lost = false
	return k.write()
}
