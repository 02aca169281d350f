package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// restart lists the keys that are read once, at the start. A reload that changes
// one is refused, so that file and node never differ unseen.
var restart = []string{
	"node", "data", "log.format", "admin.listen", "admin.public",
	"cluster.listen", "cluster.advertise", "cluster.label", "cluster.preset",
	"server.http", "server.https", "server.http3", "server.alt_svc_port", "server.access_log",
	"server.limits.header_bytes", "server.limits.header_timeout", "server.limits.idle_timeout", "server.limits.streams",
	"dns.listen", "dns.limits.sockets",
}

// Reloader puts changed configurations in force: whole or not at all, one at a
// time. All methods may be called from many goroutines at once.
type Reloader struct {
	path         string
	check, apply func(next *Config) error
	current      atomic.Pointer[Config]
	status       atomic.Pointer[Status]
	busy         sync.Mutex // held by the one Reload at work
}

// Status says what is in force and how reloads went.
type Status struct {
	// File that was loaded; "" when the node runs on flags alone.
	File string
	// Hash of what is in force.
	Hash string
	// Loaded is when it was put in force.
	Loaded time.Time
	// Reloads and Failures count reloads since the start, good and refused.
	Reloads, Failures uint64
	// LastError of the last reload, "" when it went well. LastErrorAt is when.
	LastError   string
	LastErrorAt time.Time
}

// NewReloader returns a Reloader for the file at path, "" being none, of which
// current is in force. check asks every room whether it would take a
// configuration and changes nothing; apply makes every room take it and is
// called only after all have agreed.
func NewReloader(path string, current *Config, check, apply func(next *Config) error) *Reloader {
	r := &Reloader{path: path, check: check, apply: apply}
	r.current.Store(current)
	r.status.Store(&Status{File: path, Hash: current.hash, Loaded: time.Now()})
	return r
}

// Current returns the configuration in force.
func (r *Reloader) Current() *Config { return r.current.Load() }

// Status returns how things are now.
func (r *Reloader) Status() Status { return *r.status.Load() }

// Reload reads the file again and puts it in force, also where it has not
// changed: what it names, such as certificates, may have. After an error the
// configuration before it is in force.
func (r *Reloader) Reload() error {
	r.busy.Lock()
	defer r.busy.Unlock()
	status := r.Status()
	next, err := r.take()
	if err != nil {
		status.Failures++
		status.LastError, status.LastErrorAt = err.Error(), time.Now()
		r.status.Store(&status)
		return err
	}
	r.current.Store(next)
	status.Reloads++
	status.Hash, status.Loaded = next.hash, time.Now()
	status.LastError, status.LastErrorAt = "", time.Time{}
	r.status.Store(&status)
	return nil
}

func (r *Reloader) take() (*Config, error) {
	if r.path == "" {
		return nil, errors.New("config: the node runs on flags alone: there is no file to read again; start it with --config")
	}
	current := r.Current()
	load := Load
	if current.dnsAlone {
		load = LoadDNS
	}
	next, err := load(r.path)
	if err != nil {
		return nil, err
	}
	if err := current.unchangeable(next); err != nil {
		return nil, err
	}
	if err := r.check(next); err != nil {
		return nil, fmt.Errorf("config: %s is refused: %w", r.path, err)
	}
	if err := r.apply(next); err != nil {
		// Some rooms may have taken it: all go back.
		return nil, errors.Join(fmt.Errorf("config: apply %s: %w", r.path, err), r.apply(current))
	}
	return next, nil
}

// Run reloads when the file changes, until ctx ends, and logs how that went. An
// error means that the file cannot be watched; Reload works all the same.
func (r *Reloader) Run(ctx context.Context, log *slog.Logger) error {
	if r.path == "" {
		<-ctx.Done()
		return nil
	}
	return watch(ctx, r.path, r.Current().hash, func() {
		if err := r.Reload(); err != nil {
			log.Error("configuration refused: the one before stays in force", "file", r.path, "err", err)
			return
		}
		log.Info("configuration reloaded", "file", r.path, "hash", r.Current().hash)
	})
}

// unchangeable reports the keys that differ in next but need a restart.
func (c *Config) unchangeable(next *Config) error {
	var problems []Problem
	for _, path := range restart {
		before, after := c.value(path), next.value(path)
		if !reflect.DeepEqual(before.Interface(), after.Interface()) {
			problems = append(problems, Problem{next.name, next.lines[path], path,
				"changes only with a restart: put the old value back, or restart the node"})
		}
	}
	if problems == nil {
		return nil
	}
	return newError(problems, 0)
}

// value returns the field at a path of keys.
func (c *Config) value(path string) reflect.Value {
	v := reflect.ValueOf(c).Elem()
	for key := range strings.SplitSeq(path, ".") {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() { // as if nothing were in the section
				v = reflect.New(v.Type().Elem())
			}
			v = v.Elem()
		}
		v = fieldsOf(v)[key]
	}
	return v
}
