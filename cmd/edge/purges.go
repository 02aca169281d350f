package main

// How a start comes to terms with purges of before, and how the operators' API
// reaches the log of purges.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"edgecdn/admin"
	"edgecdn/cache"
	"edgecdn/config"
	"edgecdn/purge"
)

// remember empties the parts of the store that may have missed purges, and has the
// cache forget again what the log says. Before anything is served.
func (n *node) remember(cfg *config.Config) (err error) {
	log := n.purges
	if n.keyRules, err = openKeyRules(cfg.Data, log); err != nil {
		return err
	}
	if _, err := n.store.Claim(log.Incarnation(), log.Boot(), log.Dropped()); err != nil {
		return fmt.Errorf("the store cannot be used: %w", err)
	}
	n.cache.BeginOrder(log.Boot())
	if err := n.keyRules.remember(cfg.Hosts, n.cache); err != nil {
		return err
	}
	if n.keyRules.lost { // until the log has it too
		if _, err := n.cache.Purge([]cache.Purge{{Kind: cache.PurgeEverything}}); err != nil {
			return err
		}
	}
	if err := log.Replay(n.cache); err != nil {
		return err
	}
	return n.openSpread(cfg)
}

// operatorPurges is what operators purge by; nil while the node starts.
func (n *node) operatorPurges() admin.Purges {
	if n.state.now() == starting {
		return nil
	}
	return purgeAPI{n.purges, n.cache, n.spread}
}

// purgeAPI is the log in the words of the operators' side.
type purgeAPI struct {
	log    *purge.Log
	cache  *cache.Cache
	spread *purge.Spread
}

// countWait bounds how long an answer waits for the count of what is in memory: a
// walk over ten million responses takes some seconds.
const countWait = 5 * time.Second

// count has a receipt say exactly what its purge met in memory. Where that takes too
// long it says what is known, and that it is not all.
func (a purgeAPI) count(ctx context.Context, r *purge.Receipt) {
	if r.Count.MemoryCounted || r.State == purge.Swept || r.Count.Counted {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, countWait)
	defer cancel()
	if a.cache.CountMemory(ctx, r.Entry.Order) != nil {
		return
	}
	if n, ok := a.cache.PurgeCount(r.Entry.Order); ok {
		r.Count = n
	}
}

func (a purgeAPI) Purge(ctx context.Context, p admin.PurgeRequest) (admin.Receipt, error) {
	r, err := a.log.Purge(ctx, purgeRequest(&p))
	if err != nil {
		return admin.Receipt{}, purgeError(err)
	}
	a.spread.Complete(&r)
	return purgeReceipt(&r), nil
}

func (a purgeAPI) DryRun(ctx context.Context, p admin.PurgeRequest) (admin.Receipt, error) {
	n, err := a.log.DryRun(ctx, purgeRequest(&p))
	if err != nil {
		return admin.Receipt{}, purgeError(err)
	}
	return admin.Receipt{
		Time: time.Now().UTC(), Actor: p.Actor, Reason: p.Reason, Kind: p.Kind, Mode: purgeMode(p.Soft), Host: p.Host,
		Targets: p.Targets[:min(len(p.Targets), admin.PurgeTargetsShown)], TargetsTotal: len(p.Targets),
		DryRun: true, State: admin.PurgePending, Counts: purgeCounts(n), Nodes: []admin.PurgeNode{},
	}, nil
}

func (a purgeAPI) Receipt(id string) (admin.Receipt, bool) {
	parsed, ok := purge.ParseID(id)
	if !ok {
		return admin.Receipt{}, false
	}
	r, ok := a.spread.Receipt(parsed)
	if !ok {
		return admin.Receipt{}, false
	}
	a.count(context.Background(), &r)
	return purgeReceipt(&r), true
}

// Counts asks the other nodes.
func (a purgeAPI) Counts(ctx context.Context, id string) (admin.Receipt, bool) {
	r, ok := a.Receipt(id)
	if !ok {
		return r, false
	}
	parsed, _ := purge.ParseID(id)
	all, err := a.spread.Counts(ctx, parsed)
	if err != nil {
		return r, false
	}
	for _, n := range all {
		for i := range r.Nodes {
			if counts := purgeCounts(n.Count); r.Nodes[i].Node == n.Node {
				r.Nodes[i].Counts = &counts
			}
		}
	}
	return r, true
}

func (a purgeAPI) List(before string, limit int) (page []admin.Receipt, next string) {
	var from purge.ID
	if before != "" {
		var ok bool
		if from, ok = purge.ParseID(before); !ok {
			return nil, ""
		}
	}
	all := a.log.List(from, limit+1)
	for i := range all[:min(limit, len(all))] {
		a.count(context.Background(), &all[i]) // the first counts for all
		a.spread.Complete(&all[i])
		page = append(page, purgeReceipt(&all[i]))
	}
	if len(all) > limit {
		next = page[limit-1].ID
	}
	return page, next
}

// Watch passes receipts on; the log drops whoever is too far behind.
func (a purgeAPI) Watch(ctx context.Context) <-chan admin.Receipt {
	out := make(chan admin.Receipt)
	ctx, cancel := context.WithCancel(ctx)
	in := a.log.Watch(ctx)
	go func() {
		defer close(out)
		defer cancel()
		for r := range in {
			select {
			case out <- a.complete(&r):
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (a purgeAPI) complete(r *purge.Receipt) admin.Receipt {
	a.spread.Complete(r)
	return purgeReceipt(r)
}

// Wait returns when the purge is in force everywhere, or as it is when ctx ends.
func (a purgeAPI) Wait(ctx context.Context, id string) (admin.Receipt, error) {
	parsed, ok := purge.ParseID(id)
	if !ok {
		return admin.Receipt{}, admin.ErrPurgeUnknown
	}
	r, err := a.spread.Wait(ctx, parsed)
	if errors.Is(err, purge.ErrUnheard) {
		return admin.Receipt{}, admin.ErrPurgeUnknown
	}
	a.count(ctx, &r)
	return purgeReceipt(&r), err
}

func purgeRequest(p *admin.PurgeRequest) purge.Request {
	r := purge.Request{Soft: p.Soft, Actor: p.Actor, Reason: p.Reason, Key: p.Key, Print: p.Fingerprint}
	switch p.Kind {
	case admin.PurgeURL:
		r.URLs = p.Targets
	case admin.PurgePrefix:
		r.Prefixes = p.Targets
	case admin.PurgeHost:
		r.Hosts = p.Targets
	case admin.PurgeGroup:
		r.Groups = purge.Groups{Host: p.Host, Names: p.Targets}
	case admin.PurgeAll:
		r.All = true
	}
	return r
}

// purgeKinds names the kinds of purges for operators.
var purgeKinds = map[cache.PurgeKind]admin.PurgeKind{
	cache.PurgeURL: admin.PurgeURL, cache.PurgePrefix: admin.PurgePrefix, cache.PurgeHost: admin.PurgeHost,
	cache.PurgeGroup: admin.PurgeGroup, cache.PurgeEverything: admin.PurgeAll,
}

func purgeReceipt(r *purge.Receipt) admin.Receipt {
	e := &r.Entry
	first := e.Purges[0]
	out := admin.Receipt{
		ID: e.ID.String(), Time: e.Time, Actor: e.Actor, Reason: e.Reason, Kind: purgeKinds[first.Kind], Mode: purgeMode(first.Soft),
		State:  string(r.State),
		Entry:  &admin.PurgeEntry{Log: e.Place.Log.String(), Number: e.Place.Number, Order: e.Order},
		Counts: purgeCounts(r.Count),
	}
	if first.Kind == cache.PurgeGroup {
		out.Host = first.Host
	}
	if first.Kind != cache.PurgeEverything {
		out.TargetsTotal = len(e.Purges)
		for _, p := range e.Purges[:min(len(e.Purges), admin.PurgeTargetsShown)] {
			out.Targets = append(out.Targets, purgeTarget(&p))
		}
	}
	for _, n := range r.Nodes {
		node := admin.PurgeNode{Node: n.Name, State: string(n.State)}
		if !n.At.IsZero() {
			node.At = &n.At
		}
		out.Nodes = append(out.Nodes, node)
	}
	out.Converged, out.Local = r.Converged, r.Local
	if r.Converged {
		out.ConvergedAt = &r.ConvergedAt
	}
	return out
}

// purgeTarget writes what is purged as operators write it.
func purgeTarget(p *cache.Purge) string {
	switch p.Kind {
	case cache.PurgeURL:
		return p.Scheme + "://" + p.Host + p.Name
	case cache.PurgeGroup:
		return p.Name
	}
	return p.Host + p.Name
}

func purgeMode(soft bool) string {
	if soft {
		return "soft"
	}
	return "hard"
}

func purgeCounts(n cache.PurgeCount) admin.PurgeCounts {
	return admin.PurgeCounts{Memory: n.Memory, MemoryCounted: n.MemoryCounted || n.Counted, Disk: n.Disk, Counted: n.Counted}
}

// purgeError gives errors the words of the operators' side.
func purgeError(err error) error {
	if wrong, ok := errors.AsType[purge.FieldErrors](err); ok {
		fields := make(admin.FieldErrors, len(wrong))
		for i, f := range wrong {
			fields[i] = admin.FieldError{Field: f.Field, Detail: f.Detail}
		}
		return fields
	}
	for from, to := range map[error]error{
		purge.ErrKeyReused:  admin.ErrKeyReused,
		purge.ErrBusy:       admin.ErrPurgesFull,
		purge.ErrFull:       admin.ErrPurgesFull,
		purge.ErrNotDurable: admin.ErrNotDurable,
		purge.ErrUnknown:    admin.ErrNotDurable,
		purge.ErrClosed:     admin.ErrNotDurable,
	} {
		if errors.Is(err, from) {
			return fmt.Errorf("%w: %w", to, err)
		}
	}
	return err
}
