package dnsgeo

// Bytes in, bytes out: what every query goes through whatever it asks.

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/miekg/dns"
)

// transport is what a query came by.
type transport uint8

const (
	udp transport = iota
	tcp
)

func (t transport) String() string {
	if t == tcp {
		return "tcp"
	}
	return "udp"
}

// query is a query that could be read.
type query struct {
	msg   *dns.Msg
	from  netip.Addr // the resolver, IPv4 never in IPv6
	via   transport
	name  string // canonical
	qtype uint16
	edns  edns
	now   time.Time
	bytes int // of the query
}

// edns is what the OPT record says, read raw.
type edns struct {
	present bool
	do, co  bool // DNSSEC OK; compact answers OK (RFC 9824)
	version uint8
	size    int // of UDP that the client takes
	subnet  subnet
	cookie  []byte // the option's data, of the query's bytes; nil for none
	proof   cookieVerdict
}

const headerBytes = 12

// respond answers raw, appending to out; nothing is appended where silence is
// the answer. It may be called at the same time by many.
func (r *Responder) respond(out, raw []byte, from netip.AddrPort, via transport) []byte {
	return r.respondAt(out, raw, from, via, time.Now(), nil)
}

// respondAt is respond at an instant. Where seen is not nil it is told what the
// answer, which is at the end of the bytes, came from.
func (r *Responder) respondAt(out, raw []byte, from netip.AddrPort, via transport, now time.Time,
	seen func(*snapshot, *query, *dns.Msg, *finding, []byte)) (answer []byte) {
	// A message that meets a bug is not answered, and ends nothing else.
	defer func() {
		if bug := recover(); bug != nil {
			r.stats.Panics.Add(1)
			r.log.Error("dns: a query met a bug and is not answered", "panic", bug, "query", hex.EncodeToString(raw), "stack", string(debug.Stack()))
			answer = out
		}
	}()
	if len(raw) < headerBytes || raw[2]&0x80 != 0 { // too short to be answered, or an answer itself
		r.stats.Dropped.Add(1)
		return out
	}
	s := r.snap.Load()
	q, m := s.read(raw, from, via, now)
	var f finding
	if m == nil {
		m, f = s.answer(q)
	}
	switch s.zones.guard.verdict(q, kindOf(m, &f), f.zoneID()) {
	case limitDrop:
		r.countOne(q, m, &f)
		return out
	case limitSlip:
		m.Truncated = true
		m.Answer, m.Ns, m.Extra = nil, nil, onlyOPT(m.Extra)
	}
	out = s.pack(out, raw, q, m, &f)
	if seen != nil {
		seen(s, q, m, &f, out)
	}
	r.countOne(q, m, &f)
	r.note(s, q, m, &f)
	return out
}

// read makes a query of bytes, or, where that fails, the answer that says so.
func (s *snapshot) read(raw []byte, from netip.AddrPort, via transport, now time.Time) (*query, *dns.Msg) {
	q := &query{msg: new(dns.Msg), from: from.Addr().Unmap().WithZone(""), via: via, now: now, bytes: len(raw)}
	bad := func(rcode int) (*query, *dns.Msg) {
		m := &dns.Msg{MsgHdr: dns.MsgHdr{
			Id: binary.BigEndian.Uint16(raw), Response: true, Opcode: int(raw[2]>>3) & 15, RecursionDesired: raw[2]&1 != 0,
		}, Question: q.msg.Question}
		return q, s.withOPT(q, m, rcode, 0)
	}
	switch opcode := int(raw[2]>>3) & 15; opcode {
	case dns.OpcodeQuery:
	case dns.OpcodeNotify, dns.OpcodeUpdate: // we are nobody's secondary, and take no changes this way
		q.msg.Question = firstQuestion(raw)
		return bad(dns.RcodeRefused)
	default:
		return bad(dns.RcodeNotImplemented)
	}
	e, err := readEDNS(raw)
	q.edns = e
	q.edns.proof = s.zones.guard.judge(e.cookie, q.from, now)
	if q.edns.proof == cookieMalformed { // there is nothing to make another of
		q.edns.cookie, err = nil, errCookie
	}
	if binary.BigEndian.Uint16(raw[4:]) == 1 {
		q.msg.Question = firstQuestion(raw)
	}
	if err != nil || len(q.msg.Question) != 1 {
		return bad(dns.RcodeFormatError)
	}
	if e.version != 0 { // RFC 6891 6.1.3: before anything of the query is looked at
		return bad(dns.RcodeBadVers)
	}
	full := new(dns.Msg)
	if err := full.Unpack(raw); err != nil {
		return bad(dns.RcodeFormatError)
	}
	q.msg = full
	q.name, q.qtype = canonical(full.Question[0].Name), full.Question[0].Qtype
	if q.qtype == dns.TypeNXNAME { // RFC 9824 3.5
		return bad(dns.RcodeFormatError)
	}
	if via == udp && s.zones.guard.required && !q.edns.proof.verified() {
		q, m := bad(dns.RcodeBadCookie) // RFC 7873 5.2.3: the new cookie goes with it
		if q.edns.proof == cookieNone {
			m.Rcode, m.Truncated = dns.RcodeSuccess, true
		}
		return q, m
	}
	return q, nil
}

// firstQuestion reads the question by itself.
func firstQuestion(raw []byte) []dns.Question {
	name, at, err := dns.UnpackDomainName(raw, headerBytes)
	if err != nil || at+4 > len(raw) || binary.BigEndian.Uint16(raw[4:]) == 0 {
		return nil
	}
	return []dns.Question{{Name: name, Qtype: binary.BigEndian.Uint16(raw[at:]), Qclass: binary.BigEndian.Uint16(raw[at+2:])}}
}

var (
	errShort  = errors.New("message breaks off")
	errCookie = errors.New("a cookie of a length that there is not")
	errTwice  = errors.New("two OPT records, or two of an option")
)

// readEDNS finds the OPT record and reads what we use of it. It reads no names,
// so that it follows no pointers.
func readEDNS(raw []byte) (edns, error) {
	e := edns{size: udpBytesMin}
	at := headerBytes
	var err error
	for range binary.BigEndian.Uint16(raw[4:]) {
		if at, err = skipName(raw, at); err != nil || at+4 > len(raw) {
			return e, errShort
		}
		at += 4
	}
	others := int(binary.BigEndian.Uint16(raw[6:])) + int(binary.BigEndian.Uint16(raw[8:]))
	for i := range others + int(binary.BigEndian.Uint16(raw[10:])) {
		root := at < len(raw) && raw[at] == 0
		if at, err = skipName(raw, at); err != nil || at+10 > len(raw) {
			return e, errShort
		}
		head := raw[at : at+10]
		end := at + 10 + int(binary.BigEndian.Uint16(head[8:]))
		if end > len(raw) {
			return e, errShort
		}
		if binary.BigEndian.Uint16(head) == dns.TypeOPT && i >= others {
			if e.present || !root {
				return e, errTwice
			}
			e.present = true
			e.size = max(int(binary.BigEndian.Uint16(head[2:])), udpBytesMin)
			e.version = head[5]
			e.do, e.co = head[6]&0x80 != 0, head[6]&0x40 != 0
			if err := e.options(raw[at+10 : end]); err != nil {
				return e, err
			}
		}
		at = end
	}
	return e, nil
}

func (e *edns) options(data []byte) error {
	for len(data) > 0 {
		if len(data) < 4 {
			return errShort
		}
		code, n := binary.BigEndian.Uint16(data), 4+int(binary.BigEndian.Uint16(data[2:]))
		if n > len(data) {
			return errShort
		}
		if code == dns.EDNS0COOKIE && e.cookie == nil { // RFC 7873 5.2: the first counts
			e.cookie = data[4:n:n]
		}
		if code == dns.EDNS0SUBNET {
			if e.subnet.present {
				return errTwice
			}
			s, err := parseSubnet(data[4:n])
			if err != nil {
				return err
			}
			e.subnet = s
		}
		data = data[n:]
	}
	return nil
}

// skipName returns where a name ends.
func skipName(raw []byte, at int) (int, error) {
	for at < len(raw) {
		switch n := int(raw[at]); {
		case n == 0:
			return at + 1, nil
		case n >= 0xc0: // the rest of it is elsewhere
			return at + 2, nil
		case n > 63:
			return 0, errShort
		default:
			at += 1 + n
		}
	}
	return 0, errShort
}

// withOPT completes an answer: its rcode, and an OPT record if the query had one.
func (s *snapshot) withOPT(q *query, m *dns.Msg, rcode int, scope uint8) *dns.Msg {
	m.Rcode = rcode
	if !q.edns.present {
		return m
	}
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opt.SetUDPSize(uint16(s.zones.limits.UDPBytes))
	opt.SetDo(q.edns.do)
	opt.SetCo(q.edns.co)
	if q.edns.subnet.present {
		opt.Option = append(opt.Option, q.edns.subnet.echo(scope))
	}
	if q.edns.cookie != nil && s.zones.guard.jar != nil {
		var cookie [cookieBytes]byte
		s.zones.guard.jar.answer(cookie[:], q.edns.cookie, q.edns.proof, q.from, q.now)
		opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(cookie[:])})
	}
	m.Extra = append(m.Extra, opt)
	return m
}

// sizeMax is the largest answer that may go back. Whose address is not proven gets
// no more than a multiple of what it sent: it may be another's.
func (s *snapshot) sizeMax(q *query) int {
	if q.via == tcp {
		return dns.MaxMsgSize
	}
	return s.sizeMaxUDP(q.bytes, q.edns.size, q.edns.proof)
}

func (s *snapshot) sizeMaxUDP(bytes, takes int, proof cookieVerdict) int {
	size := min(takes, s.zones.limits.UDPBytes)
	if factor := s.zones.guard.amplification; factor > 0 && !proof.verified() {
		size = min(size, factor*bytes)
	}
	return size
}

// pack appends the answer to out, truncated to what the client takes: what is
// additional goes first; where that is glue, or not enough, nothing but the
// question stays and TC says to ask again by TCP. Sets are never cut in the
// middle (RFC 2181 9).
func (s *snapshot) pack(out, raw []byte, q *query, m *dns.Msg, f *finding) []byte {
	m.Compress = true
	if len(m.Question) == 1 {
		// In lower case, so that all names below compress against it. The client's
		// case comes back at the end, in all of them.
		m.Question[0].Name = canonical(m.Question[0].Name)
	}
	size := s.sizeMax(q)
	packed, err := m.Pack()
	if err == nil && len(packed) > size && len(m.Answer) > 0 {
		m.Extra = onlyOPT(m.Extra)
		f.cut = true
		packed, err = m.Pack()
	}
	if err == nil && len(packed) > size {
		m.Truncated = true
		m.Answer, m.Ns, m.Extra = nil, nil, onlyOPT(m.Extra)
		packed, err = m.Pack()
	}
	if err != nil { // a bug of ours, or of the library's: say so rather than nothing
		m.Answer, m.Ns, m.Extra = nil, nil, nil
		m.Rcode = dns.RcodeServerFailure
		if packed, err = m.Pack(); err != nil {
			return out
		}
	}
	if end, err := skipName(raw, headerBytes); err == nil && end <= min(len(raw), len(packed)) && raw[end-1] == 0 {
		if name := raw[headerBytes:end]; sameName(packed[headerBytes:end], name) {
			copy(packed[headerBytes:], name)
		}
	}
	return append(out, packed...)
}

// sameName compares names in wire form; a is in lower case.
func sameName(a, b []byte) bool {
	for i := range a {
		if c := b[i]; a[i] != c && (c < 'A' || c > 'Z' || a[i] != c+'a'-'A') {
			return false
		}
	}
	return len(a) == len(b)
}

func onlyOPT(extra []dns.RR) []dns.RR {
	for _, rr := range extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			return []dns.RR{rr}
		}
	}
	return nil
}
