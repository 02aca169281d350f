package dnsgeo

// cookie.go decides whether a query's cookie is ours (RFC 7873), and makes new
// ones in the form that all servers of a set understand (RFC 9018). Who returns a
// cookie has received one: its address is not forged, and it is spared the limits
// that are there for forged ones.

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

const (
	cookieClientBytes = 8
	cookieServerBytes = 16 // version 1, 3 reserved, timestamp, hash (RFC 9018 4)
	cookieBytes       = cookieClientBytes + cookieServerBytes
	cookieBytesMax    = 40 // RFC 7873 4: client 8, server 8 to 32

	// RFC 9018 4.3: no older than an hour, no further than five minutes ahead, and
	// a new one when it is older than half an hour.
	cookieAgeMax   = time.Hour
	cookieAheadMax = 5 * time.Minute
	cookieRenewAge = 30 * time.Minute
)

// cookieVerdict is what a query's COOKIE option is worth.
type cookieVerdict uint8

const (
	cookieNone      cookieVerdict = iota // no option
	cookieMalformed                      // of a wrong length: FORMERR (RFC 7873 5.2.2)
	cookieClient                         // the client's part alone
	cookieBad                            // a server's part that is not ours, or too old
	cookieGood                           // ours
	cookieRenew                          // ours, and due for a new one
)

// verified tells whether the client's address is proven.
func (v cookieVerdict) verified() bool { return v >= cookieGood }

// jar makes and knows cookies. The first key makes them, the others are of secrets
// before it, which are known until they are taken out of the configuration.
type jar struct{ keys []sipKey }

// newJar derives its keys by HKDF from secrets that all responders share, so that
// each accepts the others' cookies and none of them reveals the secret.
func newJar(secrets ...[]byte) (*jar, error) {
	j := new(jar)
	for _, secret := range secrets {
		key, err := hkdf.Key(sha256.New, secret, nil, "edge dns cookie 1", 16)
		if err != nil {
			return nil, fmt.Errorf("dns: derive a key for cookies: %w", err)
		}
		j.keys = append(j.keys, sipKeyOf([16]byte(key)))
	}
	return j, nil
}

// hash is RFC 9018 4.4: over client cookie, version, reserved, timestamp, address.
func (j *jar) hash(key sipKey, client, head []byte, from netip.Addr) uint64 {
	var data [cookieClientBytes + 8 + 16]byte
	n := copy(data[:], client[:cookieClientBytes])
	n += copy(data[n:], head[:8])
	if from = from.Unmap(); from.Is4() {
		a := from.As4()
		n += copy(data[n:], a[:])
	} else {
		a := from.As16()
		n += copy(data[n:], a[:])
	}
	return siphash(key, data[:n])
}

// judge says what the content of a COOKIE option is worth.
func (j *jar) judge(option []byte, from netip.Addr, now time.Time) cookieVerdict {
	switch n := len(option); {
	case n == cookieClientBytes:
		return cookieClient
	case n < cookieClientBytes+8 || n > cookieBytesMax:
		return cookieMalformed
	case n != cookieBytes || option[cookieClientBytes] != 1:
		return cookieBad
	}
	server := option[cookieClientBytes:]
	// Serial arithmetic: the field wraps in 2106 (RFC 9018 4.3).
	age := time.Duration(int32(uint32(now.Unix())-binary.BigEndian.Uint32(server[4:8]))) * time.Second
	if age > cookieAgeMax || age < -cookieAheadMax {
		return cookieBad
	}
	// SipHash is little-endian; RFC 9018's examples have its output as it is in memory.
	have := binary.LittleEndian.Uint64(server[8:16])
	for i, key := range j.keys {
		// One comparison of words: there is no early exit to measure.
		if j.hash(key, option, server, from) == have {
			if i > 0 || age > cookieRenewAge {
				return cookieRenew
			}
			return cookieGood
		}
	}
	return cookieBad
}

// bake writes a whole new cookie for a client to dst, which has cookieBytes.
func (j *jar) bake(dst, client []byte, from netip.Addr, now time.Time) {
	copy(dst, client[:cookieClientBytes])
	server := dst[cookieClientBytes:cookieBytes]
	copy(server, []byte{1, 0, 0, 0})
	binary.BigEndian.PutUint32(server[4:8], uint32(now.Unix()))
	binary.LittleEndian.PutUint64(server[8:16], j.hash(j.keys[0], client, server, from))
}
