package dnsgeo

// text.go lays TXT records over the zones that come and go while the responder
// runs: the challenges by which an authority proves that a name is ours (RFC 8555
// 8.4). They are below names that begin with an underscore, so that they take
// nothing from what clients ask for.

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Text is a TXT record; a name may have several.
type Text struct {
	Name    string
	Value   string
	Expires time.Time
}

// Bounds of texts.
const (
	TextsMax      = 1000
	TextValuesMax = 64 // of a name
	textNameMax   = 230
	textBytesMax  = 255 // of a value: one string of the record
	textTTL       = 30
	textLifeMax   = 30 * 24 * time.Hour
)

// CheckText says what is wrong with a text by itself, and brings its name into the
// form that is compared.
func CheckText(t *Text, now time.Time) error {
	if !isDomain(t.Name) || !strings.HasPrefix(t.Name, "_") {
		return fmt.Errorf("%q is no name for TXT records of a while: it is to begin with an underscore, such as _acme-challenge.www.example.com", t.Name)
	}
	if t.Name = canonical(t.Name); len(t.Name) > textNameMax {
		return fmt.Errorf("%s is longer than the %d characters of a name for TXT records of a while", t.Name, textNameMax)
	}
	if t.Value == "" || len(t.Value) > textBytesMax || strings.ContainsFunc(t.Value, func(c rune) bool { return c < ' ' || c > '~' }) {
		return fmt.Errorf("%q is no value: 1 to %d printable ASCII characters", t.Value, textBytesMax)
	}
	if life := t.Expires.Sub(now); life <= 0 || life > textLifeMax {
		return errors.New("dns: TXT records of a while last from a moment to 30 days")
	}
	return nil
}

// CheckText says what is wrong with a text, for this responder and its zones.
func (r *Responder) CheckText(t *Text, now time.Time) error {
	if err := CheckText(t, now); err != nil {
		return err
	}
	zone := r.snap.Load().zones.find(t.Name)
	if zone == nil {
		return fmt.Errorf("%s is in none of the zones that are answered for", t.Name)
	}
	if o, wildcard := zone.lookup(t.Name, dns.TypeTXT); o != nil && (o.cut || !wildcard && len(o.sets[dns.TypeCNAME]) > 0) {
		return fmt.Errorf("%s is an alias or delegated: make the TXT records where it leads to", t.Name)
	}
	return nil
}

// SetTexts replaces all texts. They may come from other nodes: what is wrong by
// itself or one too many is left out and counted. One that this responder has no
// zone for answers nothing.
func (r *Responder) SetTexts(all []Text) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	next := make([]Text, 0, min(len(all), TextsMax))
	for _, t := range all {
		if len(next) == TextsMax || CheckText(&t, now) != nil {
			r.stats.TextsRefused.Add(1)
			continue
		}
		next = append(next, t)
	}
	// In an order of their own: all responders answer the same bytes.
	slices.SortFunc(next, func(a, b Text) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Value, b.Value))
	})
	next = slices.CompactFunc(next, func(a, b Text) bool { return a.Name == b.Name && a.Value == b.Value })
	values := map[string]int{}
	r.setTexts(slices.DeleteFunc(next, func(t Text) bool {
		if values[t.Name]++; values[t.Name] <= TextValuesMax {
			return false
		}
		r.stats.TextsRefused.Add(1)
		return true
	}))
}

// expireTexts takes away those whose time is over.
func (r *Responder) expireTexts(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(r.texts), func(t Text) bool { return !now.Before(t.Expires) })
	if len(next) != len(r.texts) {
		r.setTexts(next)
	}
}

// setTexts makes a snapshot with other texts. r.mu is held.
func (r *Responder) setTexts(next []Text) {
	r.texts = next
	s := *r.snap.Load()
	s.texts = overlay(next)
	r.snap.Store(&s)
}

// overlay returns owners for texts, and for the names above them, which exist then
// (RFC 8020) even if nothing else is there.
func overlay(texts []Text) map[string]*owner {
	all := map[string]*owner{}
	for _, t := range texts {
		o := all[t.Name]
		if o == nil {
			o = &owner{name: t.Name, sets: map[uint16][]dns.RR{}}
			all[t.Name] = o
		}
		o.sets[dns.TypeTXT] = append(o.sets[dns.TypeTXT], &dns.TXT{
			Hdr: dns.RR_Header{Name: t.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: textTTL}, Txt: []string{escapeText(t.Value)},
		})
	}
	for _, t := range texts {
		for up := parent(t.Name); up != "."; up = parent(up) {
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
	case t == nil || o != nil && (o.cut || !wildcard && len(o.sets[dns.TypeCNAME]) > 0):
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
