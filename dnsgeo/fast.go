package dnsgeo

// fast.go answers what is asked most without taking it apart: a plain question,
// with at most an OPT record that has a client subnet and a cookie. What was
// answered before is kept in the form that is sent (a template), and patched with
// what is the query's own: ID, flags, the case of the name, subnet and cookie.
//
//	question                       -> template, or that it depends on the client
//	question, client's network     -> template and scope
//	question, nodes that are chosen -> template
//
// All else, and everything at its first time, goes the other way (respond.go). As
// templates are made of what came out there both give the same bytes. Each socket
// has tables of its own, of fixed size, and allocates nothing for what is in them.

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"github.com/zeebo/xxh3"
)

const (
	fastSlots        = 1 << 15 // questions with networks; 2 of them share a place
	fastTemplatesMax = 1 << 13
	fastTalliesMax   = 1 << 12
)

// plain is a query that the fast path understands.
type plain struct {
	raw     []byte
	nameEnd int
	qtype   uint16
	flags   uint8 // what of OPT changes an answer
	size    int   // of UDP that the client takes
	subnet  subnet
	option  []byte // subnet as it came
	cookie  []byte
}

const (
	plainEDNS uint8 = 1 << iota
	plainDO
	plainCO
)

// read fills p with a query, if it is a plain one. It refuses what read might
// answer otherwise, and reads what it takes alike.
func (p *plain) read(raw []byte) bool {
	// A query with one question and no other flags than RD, AD and CD.
	if len(raw) < headerBytes+5 || raw[2]&^1 != 0 || raw[3]&^0x30 != 0 ||
		binary.BigEndian.Uint32(raw[4:]) != 1<<16 || binary.BigEndian.Uint16(raw[8:]) != 0 {
		return false
	}
	at := headerBytes
	for raw[at] != 0 {
		if raw[at] > 63 {
			return false
		}
		if at += 1 + int(raw[at]); at+5 > len(raw) {
			return false
		}
	}
	if at++; at-headerBytes > nameBytesMax || at+4 > len(raw) {
		return false
	}
	*p = plain{raw: raw, nameEnd: at, qtype: binary.BigEndian.Uint16(raw[at:]), size: udpBytesMin}
	if binary.BigEndian.Uint16(raw[at+2:]) != dns.ClassINET {
		return false
	}
	at += 4
	switch binary.BigEndian.Uint16(raw[10:]) {
	case 0:
		return at == len(raw)
	case 1:
		return p.readOPT(raw[at:])
	}
	return false
}

func (p *plain) readOPT(rr []byte) bool {
	if len(rr) < 11 || rr[0] != 0 || binary.BigEndian.Uint16(rr[1:]) != dns.TypeOPT ||
		rr[5] != 0 || rr[6] != 0 || rr[7]&^0xc0 != 0 || rr[8] != 0 || int(binary.BigEndian.Uint16(rr[9:])) != len(rr)-11 {
		return false
	}
	p.size = max(int(binary.BigEndian.Uint16(rr[3:])), udpBytesMin)
	p.flags = plainEDNS
	if rr[7]&0x80 != 0 {
		p.flags |= plainDO
	}
	if rr[7]&0x40 != 0 {
		p.flags |= plainCO
	}
	for data := rr[11:]; len(data) > 0; {
		if len(data) < 4 || 4+int(binary.BigEndian.Uint16(data[2:])) > len(data) {
			return false
		}
		n := 4 + int(binary.BigEndian.Uint16(data[2:]))
		switch binary.BigEndian.Uint16(data) {
		case dns.EDNS0SUBNET:
			s, err := parseSubnet(data[4:n])
			if err != nil || p.option != nil {
				return false
			}
			p.subnet, p.option = s, data[:n]
		case dns.EDNS0COOKIE:
			if p.cookie != nil || n == 4 {
				return false
			}
			p.cookie = data[4:n]
		default:
			return false
		}
		data = data[n:]
	}
	return true
}

// network is a client's network as choices see it, in one word: family, length
// and leading bits.
func network(client netip.Prefix) uint64 {
	if a := client.Addr(); a.Is4() {
		b := a.As4()
		n := min(client.Bits(), spreadV4)
		return uint64(n)<<56 | uint64(binary.BigEndian.Uint32(b[:])>>(32-spreadV4)&^(1<<(spreadV4-n)-1))
	}
	b := client.Addr().As16()
	n := min(client.Bits(), spreadV6)
	return 1<<62 | uint64(n)<<56 | binary.BigEndian.Uint64(b[:8])>>(64-spreadV6)&^(1<<(spreadV6-n)-1)
}

// template is an answer without what is a query's own.
type template struct {
	bytes []byte // with ID 0, RD and CD clear, the name in lower case, OPT without options
	flags uint8  // of the question that it answers
	kind  responseKind
	zone  uint32
	until int64 // in nanoseconds: signatures are renewed then; 0 for ever
}

// fastSlot is what was answered to a question, from a network or at all.
type fastSlot struct {
	hash     uint64
	network  uint64 // 0 for all
	made     uint64 // fast.made when it was filled
	template *template
	steers   *dynamic // the answer depends on the client
	bySubnet bool     // on the network that its resolver tells
	scope    uint8
	tally    *tally
}

// fast is the memory of one socket. It belongs to one goroutine.
type fast struct {
	r         *Responder
	snap      *snapshot // that all of it is of
	made      uint64    // how many there were before
	seed      uint64
	slots     []fastSlot
	chosen    []fastSlot // by question and nodes; network is a second hash of them
	templates map[string]*template
	tallies   map[tally]*tally
	once      [1 << 12]uint64 // hashes of names below wildcards that were asked for
	name      [nameBytesMax + 5]byte
	plain     plain
	cookie    [cookieBytes]byte
}

func newFast(r *Responder) *fast {
	f := &fast{r: r, seed: rand.Uint64(), slots: make([]fastSlot, fastSlots), chosen: make([]fastSlot, fastSlots/8)}
	f.forget(nil)
	return f
}

func (f *fast) forget(s *snapshot) {
	f.snap = s
	f.made++
	f.templates, f.tallies = map[string]*template{}, map[tally]*tally{}
}

// respond is Responder.respond for a query over UDP.
func (f *fast) respond(out, raw []byte, from netip.AddrPort, now time.Time) []byte {
	if answer, ok := f.atOnce(out, raw, from, now); ok {
		return answer
	}
	return f.atLength(out, raw, from, now)
}

// atLength answers in the way of respond.go, and learns from it.
func (f *fast) atLength(out, raw []byte, from netip.AddrPort, now time.Time) []byte {
	s, p := f.r.snap.Load(), &f.plain
	if f.snap != s {
		f.forget(s)
	}
	if s.zones.guard.required || !p.read(raw) {
		return f.r.respondAt(out, raw, from, udp, now, nil)
	}
	return f.r.respondAt(out, raw, from, udp, now, f.learn(f.hash(p), len(out)))
}

// atOnce answers what it knows the answer of.
func (f *fast) atOnce(out, raw []byte, from netip.AddrPort, now time.Time) ([]byte, bool) {
	s := f.r.snap.Load()
	if f.snap != s {
		f.forget(s)
	}
	p := &f.plain
	if s.zones.guard.required || !p.read(raw) {
		return out, false
	}
	client, hash := from.Addr(), f.hash(p)
	slot := f.find(f.slots, hash, 0, p)
	var key uint64
	var asked netip.Prefix
	if slot != nil && slot.steers != nil {
		asked = netip.PrefixFrom(client, client.BitLen())
		if told, ok := p.subnet.prefix(); ok && slot.bySubnet {
			asked = told
		}
		key = network(asked)
		steered := slot
		if slot = f.find(f.slots, hash, key, p); slot == nil {
			slot = f.choose(steered, hash, key, asked, p)
		}
	}
	if slot != nil && (slot.template.until == 0 || now.UnixNano() < slot.template.until) {
		return f.answer(out, slot, client, now)
	}
	return out, false
}

// hash is of the question: name in lower case, type, and flags. It leaves the name
// in f.name.
func (f *fast) hash(p *plain) uint64 {
	n := p.nameEnd - headerBytes
	for i, c := range p.raw[headerBytes:p.nameEnd] {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		f.name[i] = c
	}
	f.name[n], f.name[n+1], f.name[n+2] = byte(p.qtype>>8), byte(p.qtype), p.flags
	return xxh3.HashSeed(f.name[:n+3], f.seed)
}

func place(hash, key uint64) uint64 { return mix(hash^0x9e3779b97f4a7c15, key^0xd1b54a32d192ed03) }

// find returns the slot of a question and a network.
func (f *fast) find(slots []fastSlot, hash, key uint64, p *plain) *fastSlot {
	at := place(hash, key) & uint64(len(slots)-1) &^ 1
	for i := range uint64(2) {
		s := &slots[at+i]
		if s.made == f.made && s.hash == hash && s.network == key && s.template.answers(f.name[:p.nameEnd-headerBytes], p) {
			return s
		}
	}
	return nil
}

// put returns the slot to fill for a question and a network.
func (f *fast) put(slots []fastSlot, hash, key uint64) *fastSlot {
	at := place(hash, key) & uint64(len(slots)-1) &^ 1
	s := &slots[at]
	if s.made == f.made && !(s.hash == hash && s.network == key) {
		s = &slots[at+1]
		if s.made == f.made && !(s.hash == hash && s.network == key) {
			slots[at], slots[at+1] = slots[at+1], slots[at] // the older goes
		}
	}
	*s = fastSlot{hash: hash, network: key, made: f.made}
	return s
}

// answers tells whether the template is of this question: hashes may collide.
func (t *template) answers(name []byte, p *plain) bool {
	n := headerBytes + len(name)
	return t.flags == p.flags && len(t.bytes) >= n+4 && string(t.bytes[headerBytes:n]) == string(name) &&
		binary.BigEndian.Uint16(t.bytes[n:]) == p.qtype
}

// choose picks nodes for a network that is new, and finds the template with them.
func (f *fast) choose(steered *fastSlot, hash, key uint64, asked netip.Prefix, p *plain) *fastSlot {
	where, of := f.snap.zones.places.locate(asked.Addr())
	c := pick(&where, asked, f.snap.fleet, steered.steers, nil)
	slot := f.find(f.chosen, hash, f.nodes(&c), p)
	if slot == nil {
		return nil
	}
	filled := *slot
	filled.scope = max(uint8(of.Bits()), c.spread)
	filled.network = key
	filled.tally = f.tally(slot.tally.at(&where))
	if !wide(asked, uint8(of.Bits())) {
		*slot = filled // for this time
		slot.network = f.nodes(&c)
		return slot
	}
	kept := f.put(f.slots, hash, key)
	*kept = filled
	return kept
}

// nodes is a key for what was chosen.
func (f *fast) nodes(c *choice) uint64 {
	h := uint64(1 + len(c.nodes))
	if c.fallback != nil {
		h = 1 << 40
	}
	for _, n := range c.nodes {
		h = mix(h^f.seed, uint64(n)+0x9e3779b97f4a7c15)
	}
	return h | 1<<63
}

// wide tells whether all clients that share a key with asked are at one place,
// which was said for so many leading bits.
func wide(asked netip.Prefix, bits uint8) bool {
	most := spreadV6
	if asked.Addr().Is4() {
		most = spreadV4
	}
	return asked.Bits() <= most || int(bits) <= most
}

// answer writes a template's answer to a query; false where that is not for the
// fast path.
func (f *fast) answer(out []byte, slot *fastSlot, from netip.Addr, now time.Time) ([]byte, bool) {
	p, t, g := &f.plain, slot.template, f.snap.zones.guard
	proof := g.judge(p.cookie, from, now)
	if proof == cookieMalformed || f.r.due(f.snap) {
		return out, false
	}
	base, options := len(out), 0
	if p.option != nil {
		options += len(p.option)
	}
	if p.cookie != nil && g.jar != nil {
		options += 4 + cookieBytes
	}
	if len(t.bytes)+options > f.snap.sizeMaxUDP(len(p.raw), p.size, proof) {
		return out, false
	}
	verdict := limitSend
	if !proof.verified() {
		verdict = g.limiter.judge(from, t.kind, t.zone, now)
	}
	switch verdict {
	case limitDrop:
		f.r.count(slot.tally, false, p.option != nil)
		return out, true
	case limitSlip:
		out = t.slip(out, p.nameEnd+4)
	default:
		out = append(out, t.bytes...)
	}
	f.r.count(slot.tally, verdict == limitSlip, p.option != nil)
	m := out[base:]
	m[0], m[1] = p.raw[0], p.raw[1]
	m[2] |= p.raw[2] & 1    // RD
	m[3] |= p.raw[3] & 0x10 // CD
	copy(m[headerBytes:], p.raw[headerBytes:p.nameEnd])
	if options == 0 {
		return out, true
	}
	binary.BigEndian.PutUint16(m[len(m)-2:], uint16(options))
	if p.option != nil {
		scope := slot.scope
		if _, told := p.subnet.prefix(); !told || !slot.bySubnet {
			scope = 0
		}
		out = append(out, p.option...)
		out[len(out)-len(p.option)+7] = p.subnet.shown(scope)
	}
	if p.cookie != nil && g.jar != nil {
		g.jar.answer(f.cookie[:], p.cookie, proof, from, now)
		out = append(out, 0, dns.EDNS0COOKIE, 0, cookieBytes)
		out = append(out, f.cookie[:]...)
	}
	return out, true
}

// slip writes the template's header, question and OPT record, with TC.
func (t *template) slip(out []byte, questionEnd int) []byte {
	base := len(out)
	out = append(out, t.bytes[:questionEnd]...)
	m := out[base:]
	m[2] |= 2
	clear(m[6:12])
	if t.flags&plainEDNS != 0 {
		m[11] = 1
		out = append(out, t.bytes[len(t.bytes)-11:]...)
	}
	return out
}

// learn returns what makes a template of the answer that respondAt comes to.
func (f *fast) learn(hash uint64, base int) func(*snapshot, *query, *dns.Msg, *finding, []byte) {
	return func(s *snapshot, q *query, m *dns.Msg, found *finding, out []byte) {
		if s != f.snap || m.Truncated || found.cut || found.zone == nil || m.Rcode != dns.RcodeSuccess ||
			found.kind == kindRefused || found.kind == kindNXDomain || found.wildcard && !f.again(hash) {
			return
		}
		t := f.template(q, m, found, out[base:])
		if t == nil {
			return
		}
		counted := f.tally(tallyOf(q, m, found))
		if !found.steered {
			slot := f.put(f.slots, hash, 0)
			slot.template, slot.tally = t, counted
			return
		}
		// What it says of the client is in the slots with networks. Without one the
		// template is there for its question only.
		slot := f.put(f.slots, hash, 0)
		slot.template, slot.steers, slot.bySubnet, slot.tally = t, found.owner.dynamic, found.zone.subnet, counted
		slot = f.put(f.chosen, hash, f.nodes(&found.choice))
		slot.template, slot.bySubnet, slot.tally = t, found.zone.subnet, counted
		asked, _ := q.client(found.zone)
		if !wide(asked, found.network) {
			return
		}
		slot = f.put(f.slots, hash, network(asked))
		slot.template, slot.bySubnet, slot.tally = t, found.zone.subnet, counted
		slot.scope = max(found.network, found.choice.spread)
	}
}

// again tells whether a name below a wildcard was asked for not long ago. Names that
// somebody makes up are asked for once, and are not to push out others.
func (f *fast) again(hash uint64) bool {
	at := hash % uint64(len(f.once))
	was := f.once[at]
	f.once[at] = hash
	return was == hash
}

// template makes one of an answer, or finds it among those that there are.
func (f *fast) template(q *query, m *dns.Msg, found *finding, answer []byte) *template {
	p, options := &f.plain, 0
	bytes := append([]byte(nil), answer...)
	if p.flags&plainEDNS != 0 {
		if p.option != nil {
			options += len(p.option)
		}
		if p.cookie != nil && f.snap.zones.guard.jar != nil {
			options += 4 + cookieBytes
		}
		// OPT is the last record.
		opt := len(bytes) - options - 11
		if opt < p.nameEnd+4 || bytes[opt] != 0 || binary.BigEndian.Uint16(bytes[opt+1:]) != dns.TypeOPT ||
			int(binary.BigEndian.Uint16(bytes[opt+9:])) != options {
			return nil
		}
		bytes = bytes[:opt+11]
		bytes[opt+9], bytes[opt+10] = 0, 0
	}
	bytes[0], bytes[1] = 0, 0
	bytes[2] &^= 1
	bytes[3] &^= 0x10
	copy(bytes[headerBytes:], f.name[:p.nameEnd-headerBytes])
	// Of a question with the same flags and bytes there is one.
	if t := f.templates[string(bytes)]; t != nil && t.flags == p.flags && (t.until == 0 || q.now.UnixNano() < t.until) {
		return t
	}
	t := &template{bytes: bytes, flags: p.flags, kind: kindOf(m, found), zone: found.zoneID()}
	for _, section := range [][]dns.RR{m.Answer, m.Ns} {
		for _, rr := range section {
			if sig, ok := rr.(*dns.RRSIG); ok && found.zone.signer != nil {
				if at := renewal(sig).UnixNano(); t.until == 0 || at < t.until {
					t.until = at
				}
			}
		}
	}
	if len(f.templates) >= fastTemplatesMax {
		f.forget(f.snap)
	}
	f.templates[string(bytes)] = t
	return t
}

// tally finds a tally among those that there are.
func (f *fast) tally(t tally) *tally {
	if have := f.tallies[t]; have != nil {
		return have
	}
	if len(f.tallies) >= fastTalliesMax {
		clear(f.tallies)
	}
	kept := &t
	f.tallies[t] = kept
	return kept
}
