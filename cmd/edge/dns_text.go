package main

// TXT records of a while: facts of the cluster, so that each of its responders
// answers them, or this node's own where there is no cluster.

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"edgecdn/admin"
	"edgecdn/cluster"
	"edgecdn/dnsgeo"
)

const (
	textsWait     = 30 * time.Second // for all responders to have a record
	textsUnknown  = 10 * time.Second // for who the others are, after a start
	textsLook     = 100 * time.Millisecond
	challengeLife = time.Hour
)

// texts keeps them. A record is a fact of its own: nodes that prove the same name
// at the same time do not overwrite each other's.
type texts struct {
	n        *node
	changing sync.Mutex // from looking for room to making records
	telling  sync.Mutex // before mu

	mu  sync.Mutex
	own map[string]dnsgeo.Text // without a cluster, by key
}

// openTexts makes them, and has the responder follow those of the cluster.
func (n *node) openTexts() {
	n.texts.n, n.texts.own = n, map[string]dnsgeo.Text{}
	if n.cluster != nil {
		n.cluster.Facts().Watch(cluster.KindTXT, func([]cluster.Fact) { n.texts.tell() })
	}
}

// operatorTexts is admin.Sources.Texts.
func (n *node) operatorTexts() admin.Texts {
	if n.state.now() == starting || n.dns == nil && n.cluster == nil {
		return nil
	}
	return &n.texts
}

// textKey is the key of a record's fact.
func textKey(t *dnsgeo.Text) string {
	sum := sha256.Sum256([]byte(t.Value))
	return t.Name + " " + hex.EncodeToString(sum[:8])
}

// list returns them by name and value.
func (t *texts) list() []dnsgeo.Text {
	var all []dnsgeo.Text
	if t.n.cluster != nil {
		for _, f := range t.n.cluster.Facts().All(cluster.KindTXT) {
			if name, _, ok := strings.Cut(f.Key, " "); ok {
				all = append(all, dnsgeo.Text{Name: name, Value: string(f.Value), Expires: f.Expires})
			}
		}
		return all
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.own, func(_ string, one dnsgeo.Text) bool { return !time.Now().Before(one.Expires) })
	for _, key := range slices.Sorted(maps.Keys(t.own)) {
		all = append(all, t.own[key])
	}
	return all
}

// tell has the responder of this node answer what there is.
func (t *texts) tell() {
	t.telling.Lock() // so that the last word is the newest
	defer t.telling.Unlock()
	if t.n.dns != nil {
		t.n.dns.SetTexts(t.list())
	}
}

// check says what is wrong with a record. Where another node answers for its zone,
// only that node knows the zone.
func (t *texts) check(one *dnsgeo.Text) error {
	if t.n.dns != nil {
		return t.n.dns.CheckText(one, time.Now())
	}
	return dnsgeo.CheckText(one, time.Now())
}

// change makes records that have been checked, and then takes others away.
func (t *texts) change(set, drop []dnsgeo.Text) error {
	defer t.tell()
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range set {
		key := textKey(&set[i])
		if t.n.cluster == nil {
			t.own[key] = set[i]
		} else if err := t.n.cluster.Facts().Set(cluster.KindTXT, key, []byte(set[i].Value), set[i].Expires); err != nil {
			return err
		}
	}
	for i := range drop {
		key := textKey(&drop[i])
		if t.n.cluster == nil {
			delete(t.own, key)
		} else if err := t.n.cluster.Facts().Delete(cluster.KindTXT, key); err != nil {
			return err
		}
	}
	return nil
}

// room says whether there is some for records of a name, beside others of that
// name where they stay.
func (t *texts) room(name string, records int, beside bool) error {
	all, ofName := 0, 0
	for _, one := range t.list() {
		if one.Name == name {
			ofName++
		} else {
			all++
		}
	}
	if beside {
		records += ofName
	}
	if records > dnsgeo.TextValuesMax {
		return fmt.Errorf("%d TXT records of one name are too many: at most %d", records, dnsgeo.TextValuesMax)
	}
	if all+records > dnsgeo.TextsMax {
		return fmt.Errorf("there would be more than %d TXT records of a while: delete some", dnsgeo.TextsMax)
	}
	return nil
}

// of returns the records of a name.
func (t *texts) of(name string) []dnsgeo.Text {
	name = strings.ToLower(strings.TrimSuffix(name, ".")) + "."
	return slices.DeleteFunc(t.list(), func(one dnsgeo.Text) bool { return one.Name != name })
}

// Put replaces the records of a name.
func (t *texts) Put(r admin.TextRecord) error {
	if len(r.Values) == 0 {
		return errors.New("no values: give one at least")
	}
	var set []dnsgeo.Text
	for _, v := range r.Values {
		one := dnsgeo.Text{Name: r.Name, Value: v, Expires: r.Expires}
		if err := t.check(&one); err != nil {
			return err
		}
		set = append(set, one)
	}
	t.changing.Lock()
	defer t.changing.Unlock()
	if err := t.room(set[0].Name, len(set), false); err != nil {
		return err
	}
	drop := slices.DeleteFunc(t.of(r.Name), func(old dnsgeo.Text) bool { return slices.Contains(r.Values, old.Value) })
	return t.change(set, drop)
}

// Delete takes the records of a name away.
func (t *texts) Delete(name string) (bool, error) {
	drop := t.of(name)
	return len(drop) > 0, t.change(nil, drop)
}

// All lists the records by name.
func (t *texts) All() []admin.TextRecord {
	var all []admin.TextRecord
	for _, one := range t.list() {
		if n := len(all); n > 0 && all[n-1].Name == one.Name {
			all[n-1].Values = append(all[n-1].Values, one.Value)
			if one.Expires.After(all[n-1].Expires) {
				all[n-1].Expires = one.Expires
			}
			continue
		}
		all = append(all, admin.TextRecord{Name: one.Name, Values: []string{one.Value}, Expires: one.Expires.UTC()})
	}
	return all
}

// Present makes a record for an authority that wants a proof, and returns when all
// responders that can be reached have it.
func (t *texts) Present(ctx context.Context, name, value string) error {
	one := dnsgeo.Text{Name: name, Value: value, Expires: time.Now().Add(challengeLife)}
	if err := t.check(&one); err != nil {
		return err
	}
	made := time.Now()
	if err := t.add(one); err != nil {
		return err
	}
	return t.spreadOut(ctx, made)
}

// add makes a record beside others of its name.
func (t *texts) add(one dnsgeo.Text) error {
	t.changing.Lock()
	defer t.changing.Unlock()
	if err := t.room(one.Name, 1, true); err != nil {
		return err
	}
	return t.change([]dnsgeo.Text{one}, nil)
}

// spreadOut waits until the others have what was said before an instant: a node
// that has just started knows only now who they are.
func (t *texts) spreadOut(ctx context.Context, made time.Time) error {
	if t.n.cluster == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, textsWait)
	defer cancel()
	tick := time.NewTicker(textsLook)
	defer tick.Stop()
	for {
		without := t.without(made)
		if len(without) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v these nodes do not have the TXT record: %s", time.Since(made).Round(time.Second), strings.Join(without, ", "))
		case <-tick.C:
		}
	}
}

// without lists the nodes that live and may not know yet what was said before an
// instant.
func (t *texts) without(made time.Time) []string {
	if phase := t.n.cluster.Self().Phase; (phase == cluster.Joining || phase == cluster.Fenced) && time.Since(made) < textsUnknown {
		return []string{"the others, whom this node does not know yet"}
	}
	return lacking(t.n.cluster.Members(), made)
}

// lacking lists those that live and have not agreed with us on facts since an instant.
func lacking(members []cluster.Member, made time.Time) (names []string) {
	for _, m := range members {
		if !m.Self && m.Status == cluster.Alive && !m.Gone && !m.Agreed.After(made) {
			names = append(names, m.Name)
		}
	}
	return names
}

// CleanUp takes a record away again.
func (t *texts) CleanUp(name, value string) error {
	drop := slices.DeleteFunc(t.of(name), func(one dnsgeo.Text) bool { return one.Value != value })
	return t.change(nil, drop)
}

// Resolvers are this node's own responder; none where it has none.
func (t *texts) Resolvers() []string {
	if t.n.dns == nil {
		return nil
	}
	var all []string
	for _, address := range t.n.dns.Addresses() {
		all = append(all, reachable(address))
	}
	return all
}
