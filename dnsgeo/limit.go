package dnsgeo

// limit.go decides whether a response over UDP may go to an address that is not
// proven (response rate limiting). Addresses can be forged, so that whoever floods
// us may be using us against the one whom the address belongs to: what is limited
// is the responses to a network of one kind, not the queries. Of what is over the
// limit a part goes out truncated and without records ("slip"): no bigger than
// the query, it lets a resolver that really asked come back over TCP.

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"time"
)

// ResponseLimits is response rate limiting over UDP, for clients without a valid cookie.
// Rates are per second to one network (IPv4 /24, IPv6 /56).
type ResponseLimits struct {
	// Off answers everybody at any rate. Default false.
	Off bool `yaml:"off"`
	// Answers is how many answers with records. Default 1000.
	Answers int `yaml:"answers"`
	// Empty is how many answers that a name has no such records, or that it does
	// not exist. All names of a zone that do not exist count as one. Default 100.
	Empty int `yaml:"empty"`
	// Errors is how many refusals and errors. Default 20.
	Errors int `yaml:"errors"`
	// Proofs is how many signatures are made for names that exist by being asked for
	// only, for all networks together: a flood of such names, from however many
	// addresses, costs no more. What is over it is fetched by TCP. Default 2000.
	Proofs int `yaml:"proofs"`
	// Amplification is how many times as large as the query an answer may be; what is
	// larger is fetched by TCP. Default 12.
	Amplification int `yaml:"amplification"`
	// Slip is which of the responses over the limit goes out truncated: 1 each, 2
	// each second one, and so on. Default 2.
	Slip int `yaml:"slip"`
	// Exempt networks are not limited, such as those of monitoring. Default none.
	Exempt []string `yaml:"exempt"`
	// Networks is how many pairs of a network and a kind of response are
	// remembered, 16 bytes each. Default 65536.
	Networks int `yaml:"networks"`
}

const (
	limitRateMax    = 10_000_000
	limitSlipMax    = 100
	limitFactorMax  = 1000
	limitExemptMax  = 1000
	limitSlotsMax   = 1 << 24
	limitWays       = 4
	limitBurst      = 2 * time.Second // what may come at once, at the rate
	limitBits4      = 24
	limitBits6      = 56
	limitSlotsMin   = 1 << 8
	defaultAnswers  = 1000
	defaultEmpty    = 100
	defaultErrors   = 20
	defaultProofs   = 2000
	defaultSlip     = 2
	defaultFactor   = 12
	defaultNetworks = 1 << 16
)

func (l ResponseLimits) validate(report func(path, problem string)) {
	for _, rate := range []struct {
		path string
		n    int
		most int
	}{{"answers", l.Answers, limitRateMax}, {"empty", l.Empty, limitRateMax}, {"errors", l.Errors, limitRateMax}, {"proofs", l.Proofs, limitRateMax},
		{"slip", l.Slip, limitSlipMax}, {"amplification", l.Amplification, limitFactorMax}, {"networks", l.Networks, limitSlotsMax}} {
		if rate.n < 0 || rate.n > rate.most {
			report(rate.path, fmt.Sprintf("%d is not between 1 and %d", rate.n, rate.most))
		}
	}
	if len(l.Exempt) > limitExemptMax {
		report("exempt", fmt.Sprintf("%d networks are too many: at most %d", len(l.Exempt), limitExemptMax))
	}
	for i, p := range l.Exempt {
		if _, err := parseNetwork(p); err != nil {
			report(fmt.Sprintf("exempt[%d]", i), fmt.Sprintf("%q is no network: write one such as 192.0.2.0/24", p))
		}
	}
}

func (l ResponseLimits) withDefaults() ResponseLimits {
	for _, d := range []struct {
		field *int
		value int
	}{{&l.Answers, defaultAnswers}, {&l.Empty, defaultEmpty}, {&l.Errors, defaultErrors}, {&l.Proofs, defaultProofs}, {&l.Slip, defaultSlip}, {&l.Amplification, defaultFactor}, {&l.Networks, defaultNetworks}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return l
}

// responseKind is what is counted together.
type responseKind uint8

const (
	kindAnswer responseKind = iota
	kindEmpty
	kindError
	responseKinds
)

// limitVerdict is what becomes of a response.
type limitVerdict uint8

const (
	limitSend limitVerdict = iota
	limitSlip
	limitDrop
)

// limiter is a table of fixed size of what was sent where. An entry is one instant,
// that at which its network's credit is full again (the generic cell rate
// algorithm), so that there is nothing to sweep: an entry whose instant has passed
// is free. Two goroutines that meet on an entry may lose a count, no more.
type limiter struct {
	slots    []limitSlot // limitWays of them share a place
	mask     uint64
	seed     [2]uint64 // nobody can choose networks that share a place
	interval [responseKinds]int64
	proof    int64 // interval between signatures for names that are made up
	proofs   limitSlot
	slip     uint32
	exempt   []netip.Prefix
	slipped  atomic.Uint32
	stats    *LimitStats
}

type limitSlot struct{ tag, full atomic.Uint64 }

// LimitStats counts what the limit did.
type LimitStats struct {
	Slipped, Dropped atomic.Uint64
	// Unproven answers were sent to TCP for want of a signature.
	Unproven atomic.Uint64
	// Displaced entries made room for others while they still counted.
	Displaced atomic.Uint64
}

// newLimiter returns nil for no limits.
func newLimiter(l ResponseLimits, stats *LimitStats) *limiter {
	if l = l.withDefaults(); l.Off {
		return nil
	}
	slots := limitSlotsMin
	for slots < l.Networks {
		slots *= 2
	}
	r := &limiter{
		slots: make([]limitSlot, slots), mask: uint64(slots/limitWays - 1),
		slip: uint32(l.Slip), stats: stats, proof: int64(time.Second) / int64(l.Proofs),
	}
	for _, text := range l.Exempt {
		if p, err := parseNetwork(text); err == nil { // validated
			r.exempt = append(r.exempt, p)
		}
	}
	for kind, rate := range map[responseKind]int{kindAnswer: l.Answers, kindEmpty: l.Empty, kindError: l.Errors} {
		r.interval[kind] = int64(time.Second) / int64(rate)
	}
	var seed [16]byte
	_, _ = rand.Read(seed[:]) // never fails
	r.seed = [2]uint64{binary.LittleEndian.Uint64(seed[:8]) | 1, binary.LittleEndian.Uint64(seed[8:]) | 1}
	return r
}

// place hashes the network of an address, a kind and a number for the zone.
func (r *limiter) place(to netip.Addr, kind responseKind, zone uint32) uint64 {
	var network uint64
	family := uint64(4)
	if to = to.Unmap(); to.Is4() {
		a := to.As4()
		network = uint64(binary.BigEndian.Uint32(a[:]) >> (32 - limitBits4))
	} else {
		a := to.As16()
		network, family = binary.BigEndian.Uint64(a[:8])>>(64-limitBits6), 6
	}
	if kind != kindEmpty {
		zone = 0
	}
	h := mix(network^r.seed[0], (family<<40|uint64(kind)<<32|uint64(zone))^r.seed[1])
	return mix(h^r.seed[1], r.seed[0])
}

// mix folds a product of 128 bits.
func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}

// judge counts a response of a kind. zone is a number for the zone whose empty
// answers count as one.
func (r *limiter) judge(to netip.Addr, kind responseKind, zone uint32, now time.Time) limitVerdict {
	if r == nil {
		return limitSend
	}
	if len(r.exempt) > 0 {
		to = to.Unmap()
		for _, p := range r.exempt {
			if p.Contains(to) {
				return limitSend
			}
		}
	}
	h := r.place(to, kind, zone)
	if r.spend(h, r.interval[kind], now.UnixNano()) {
		return limitSend
	}
	if r.slipped.Add(1)%r.slip == 0 {
		r.stats.Slipped.Add(1)
		return limitSlip
	}
	r.stats.Dropped.Add(1)
	return limitDrop
}

func (r *limiter) spend(h uint64, interval, now int64) bool {
	ways := r.slots[h&r.mask*limitWays:][:limitWays]
	tag := h | 1 // zero is no tag
	var slot *limitSlot
	for i := range ways {
		if ways[i].tag.Load() == tag {
			slot = &ways[i]
			break
		}
	}
	if slot == nil {
		slot = r.take(ways, tag, now)
	}
	return slot.spend(interval, now)
}

// spend takes one from a slot's credit, if there is any.
func (s *limitSlot) spend(interval, now int64) bool {
	for {
		was := s.full.Load()
		full := max(int64(was), now)
		if full-now > int64(limitBurst)-interval && full > now {
			return false
		}
		if s.full.CompareAndSwap(was, uint64(full+interval)) {
			return true
		}
	}
}

// take gives tag the way whose credit is full soonest: who floods stays remembered. Of
// goroutines that meet here one is first; what it has spent since is not forgotten.
func (r *limiter) take(ways []limitSlot, tag uint64, now int64) *limitSlot {
	least := &ways[0]
	for i := range ways {
		if ways[i].full.Load() < least.full.Load() {
			least = &ways[i]
		}
	}
	full := least.full.Load()
	if least.tag.Swap(tag) == tag || int64(full) <= now {
		return least // full credit is that of an entry that is new
	}
	r.stats.Displaced.Add(1)
	least.full.CompareAndSwap(full, 0)
	return least
}
