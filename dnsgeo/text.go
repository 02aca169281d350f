package dnsgeo

// text.go lays TXT records over the zones that come and go while the responder
// runs: the challenges by which an authority proves that a name is ours (RFC 8555
// 8.4). They are below names that begin with an underscore, so that they take
// nothing from what clients ask for.

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Text is the TXT records of a name.
type Text struct {
	Name    string
	Values  []string
	Expires time.Time
}

const (
	textsMax      = 1000
	textValuesMax = 16
	textBytesMax  = 255 // of a value: one string of the record
	textTTL       = 30
	textLifeMax   = 30 * 24 * time.Hour
)

// ErrTextsFull says that there are as many as there may be.
var ErrTextsFull = fmt.Errorf("dns: there are %d names with TXT records already: delete some", textsMax)

// PutText replaces the TXT records of a name until they expire.
func (r *Responder) PutText(t Text) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.snap.Load()
	if err := s.zones.checkText(&t, time.Now()); err != nil {
		return err
	}
	if _, have := r.texts[t.Name]; !have && len(r.texts) >= textsMax {
		return ErrTextsFull
	}
	next := maps.Clone(r.texts)
	if next == nil {
		next = map[string]Text{}
	}
	next[t.Name] = t
	r.setTexts(next)
	return nil
}

// DeleteText takes the TXT records of a name away, and tells whether there were any.
func (r *Responder) DeleteText(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	name = canonical(name)
	if _, have := r.texts[name]; !have {
		return false
	}
	next := maps.Clone(r.texts)
	delete(next, name)
	r.setTexts(next)
	return true
}

// Texts lists them by name.
func (r *Responder) Texts() []Text {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := []Text{}
	for _, name := range slices.Sorted(maps.Keys(r.texts)) {
		all = append(all, r.texts[name])
	}
	return all
}

// expireTexts takes away those whose time is over.
func (r *Responder) expireTexts(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := maps.Clone(r.texts)
	maps.DeleteFunc(next, func(_ string, t Text) bool { return !now.Before(t.Expires) })
	if len(next) != len(r.texts) {
		r.setTexts(next)
	}
}

// setTexts makes a snapshot with other texts. r.mu is held.
func (r *Responder) setTexts(next map[string]Text) {
	r.texts = next
	s := *r.snap.Load()
	s.texts = overlay(next)
	r.snap.Store(&s)
}

// checkText says what is wrong with a text, and brings its name into the form that
// is compared.
func (z *zones) checkText(t *Text, now time.Time) error {
	if !isDomain(t.Name) || !strings.HasPrefix(t.Name, "_") {
		return fmt.Errorf("%q is no name for TXT records of a while: it is to begin with an underscore, such as _acme-challenge.www.example.com", t.Name)
	}
	t.Name = canonical(t.Name)
	zone := z.find(t.Name)
	if zone == nil {
		return fmt.Errorf("%s is in none of the zones that are answered for", t.Name)
	}
	if o, wildcard := zone.lookup(t.Name, dns.TypeTXT); o != nil && (o.cut || !wildcard && len(o.sets[dns.TypeCNAME]) > 0) {
		return fmt.Errorf("%s is an alias or delegated: make the TXT records where it leads to", t.Name)
	}
	if len(t.Values) == 0 || len(t.Values) > textValuesMax {
		return fmt.Errorf("%d values are not between 1 and %d", len(t.Values), textValuesMax)
	}
	for _, v := range t.Values {
		if v == "" || len(v) > textBytesMax || strings.ContainsFunc(v, func(c rune) bool { return c < ' ' || c > '~' }) {
			return fmt.Errorf("%q is no value: 1 to %d printable ASCII characters", v, textBytesMax)
		}
	}
	if life := t.Expires.Sub(now); life <= 0 || life > textLifeMax {
		return errors.New("dns: TXT records of a while last from a moment to 30 days")
	}
	return nil
}

// overlay returns owners for texts, and for the names above them, which exist then
// (RFC 8020) even if nothing else is there.
func overlay(texts map[string]Text) map[string]*owner {
	all := map[string]*owner{}
	for name, t := range texts {
		set := make([]dns.RR, len(t.Values))
		for i, v := range t.Values {
			set[i] = &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: textTTL}, Txt: []string{escapeText(v)}}
		}
		all[name] = &owner{name: name, sets: map[uint16][]dns.RR{dns.TypeTXT: set}}
	}
	for name := range texts {
		for up := parent(name); up != "."; up = parent(up) {
			if all[up] == nil {
				all[up] = &owner{name: up}
			}
		}
	}
	return all
}

// escapeText writes a value as the library keeps it.
func escapeText(v string) string { return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) }

// over returns what answers for a name where a text is laid over what a zone has
// for it: its own records of other types stay.
func (s *snapshot) over(name string, o *owner, wildcard bool) (*owner, bool) {
	t := s.texts[name]
	switch {
	case t == nil || o != nil && o.cut:
		return o, wildcard
	case len(t.sets) == 0: // above a text: what is there by itself, or by a wildcard, stays
		if o == nil {
			return t, false
		}
		return o, wildcard
	case o == nil || wildcard:
		return t, false
	}
	merged := *o
	merged.sets = maps.Clone(o.sets)
	if merged.sets == nil {
		merged.sets = map[uint16][]dns.RR{}
	}
	both := slices.Concat(o.sets[dns.TypeTXT], t.sets[dns.TypeTXT])
	for i, rr := range both { // one set, one TTL
		both[i] = dns.Copy(rr)
		both[i].Header().Ttl = textTTL
	}
	merged.sets[dns.TypeTXT] = both
	return &merged, false
}
