package dnsgeo

// key.go reads and writes the file with a zone's keys. All responders of a zone
// have the same file: PEM blocks of private keys (PKCS #8), each with the zone and
// with whether it signs. Several keys are published, one signs.

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/miekg/dns"
)

const (
	keysMax         = 8 // of a zone
	keyFileBytesMax = 64 << 10
	keyFlags        = 257 // zone key, secure entry point: one key does both works
	keyBlock        = "PRIVATE KEY"
	headerZone      = "Zone"
	headerSigns     = "Signs"
	headerCreated   = "Created"
)

// Key is one of a zone's keys: ECDSA P-256 with SHA-256 (algorithm 13).
type Key struct {
	Zone    string // with its last dot, in lower case
	Signs   bool   // this one makes the signatures
	Created time.Time
	private *ecdsa.PrivateKey
	public  *dns.DNSKEY
	tag     uint16
}

// NewKey makes a key.
func NewKey(zone string, now time.Time) (*Key, error) {
	if _, ok := dns.IsDomainName(zone); !ok || zone == "" {
		return nil, fmt.Errorf("dns: %q is no name of a zone", zone)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("dns: make a key: %w", err)
	}
	return keyOf(zone, private, now)
}

func keyOf(zone string, private *ecdsa.PrivateKey, created time.Time) (*Key, error) {
	point, err := private.PublicKey.Bytes()
	if err != nil || len(point) != 65 {
		return nil, errors.New("dns: a zone's key must be of ECDSA P-256")
	}
	zone = dns.CanonicalName(zone)
	k := &Key{Zone: zone, Created: created, private: private, public: &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET},
		Flags: keyFlags, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
		PublicKey: base64.StdEncoding.EncodeToString(point[1:]), // RFC 6605 4: without the 4 in front
	}}
	k.tag = k.public.KeyTag()
	return k, nil
}

// Tag is the key's tag (RFC 4034 B), by which people tell keys apart.
func (k *Key) Tag() uint16 { return k.tag }

// DS is the record that the parent zone is given, as a line of a zone file.
func (k *Key) DS() string {
	ds := k.public.ToDS(dns.SHA256)
	ds.Hdr.Ttl = keyTTL
	return ds.String()
}

// DNSKEY is the public key as a line of a zone file, for a trust anchor.
func (k *Key) DNSKEY() string {
	public := *k.public
	public.Hdr.Ttl = keyTTL
	return public.String()
}

// ReadKeys reads a zone's file. Exactly one key of it signs.
func ReadKeys(path, zone string) ([]*Key, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("dns: keys of %s: %w", zone, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("dns: keys of %s: %w", zone, err)
	}
	if !info.Mode().IsRegular() || info.Size() > keyFileBytesMax {
		return nil, fmt.Errorf("dns: keys of %s: %s is no file of keys", zone, path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("dns: keys of %s: others than its owner may read or write %s: chmod 600 it", zone, path)
	}
	text := make([]byte, info.Size())
	if _, err := file.ReadAt(text, 0); err != nil && info.Size() > 0 {
		return nil, fmt.Errorf("dns: keys of %s: %w", zone, err)
	}
	keys, err := parseKeys(text, zone)
	if err != nil {
		return nil, fmt.Errorf("dns: keys of %s: %s: %w", zone, path, err)
	}
	return keys, nil
}

func parseKeys(text []byte, zone string) ([]*Key, error) {
	var keys []*Key
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		key, err := parseKey(block)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", len(keys)+1, err)
		}
		if key.Zone != dns.CanonicalName(zone) {
			return nil, fmt.Errorf("key %d is of the zone %s", len(keys)+1, key.Zone)
		}
		if len(keys) == keysMax {
			return nil, fmt.Errorf("more than %d keys", keysMax)
		}
		if slices.ContainsFunc(keys, func(k *Key) bool { return k.tag == key.tag }) {
			return nil, fmt.Errorf("two keys have the tag %d: take one out", key.tag)
		}
		keys = append(keys, key)
	}
	if len(bytes.TrimSpace(text)) > 0 {
		return nil, errors.New("there is something in it that is no PEM block")
	}
	signing := 0
	for _, k := range keys {
		if k.Signs {
			signing++
		}
	}
	if signing != 1 {
		return nil, fmt.Errorf("%d of %d keys sign: exactly one must say %s: yes", signing, len(keys), headerSigns)
	}
	return keys, nil
}

func parseKey(block *pem.Block) (*Key, error) {
	if block.Type != keyBlock {
		return nil, fmt.Errorf("a block %q is no private key", block.Type)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P256() {
		return nil, errors.New("it is not of ECDSA P-256 (algorithm 13)")
	}
	if _, ok := dns.IsDomainName(block.Headers[headerZone]); !ok || block.Headers[headerZone] == "" {
		return nil, fmt.Errorf("its line %s names no zone", headerZone)
	}
	created, err := time.Parse(time.RFC3339, block.Headers[headerCreated])
	if err != nil {
		return nil, fmt.Errorf("its line %s: %w", headerCreated, err)
	}
	key, err := keyOf(block.Headers[headerZone], private, created)
	if err != nil {
		return nil, err
	}
	switch block.Headers[headerSigns] {
	case "yes":
		key.Signs = true
	case "no":
	default:
		return nil, fmt.Errorf("its line %s says %q: write yes or no", headerSigns, block.Headers[headerSigns])
	}
	return key, nil
}

// WriteKeys replaces a zone's file, in one step, readable by its owner alone.
func WriteKeys(path string, keys []*Key) error {
	var text bytes.Buffer
	for _, k := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(k.private)
		if err != nil {
			return fmt.Errorf("dns: write keys: %w", err)
		}
		signs := "no"
		if k.Signs {
			signs = "yes"
		}
		_ = pem.Encode(&text, &pem.Block{Type: keyBlock, Bytes: der, Headers: map[string]string{ // to memory it has no error
			headerZone: k.Zone, headerSigns: signs, headerCreated: k.Created.UTC().Format(time.RFC3339),
		}})
	}
	if _, err := parseKeys(text.Bytes(), keys[0].Zone); err != nil {
		return fmt.Errorf("dns: write keys: %w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".keys-*") // made with mode 0600
	if err != nil {
		return fmt.Errorf("dns: write keys: %w", err)
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.Write(text.Bytes())
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("dns: write keys: %w", err)
	}
	return nil
}

// AddKey makes a key for a zone and adds it to its file. The first signs, another
// does not yet.
func AddKey(path, zone string, now time.Time) (*Key, error) {
	keys, err := ReadKeys(path, zone)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := NewKey(zone, now)
	for err == nil && slices.ContainsFunc(keys, func(k *Key) bool { return k.tag == key.tag }) {
		key, err = NewKey(zone, now) // tags are 16 bits; two alike cost validators work
	}
	if err != nil {
		return nil, err
	}
	key.Signs = len(keys) == 0
	return key, WriteKeys(path, append(keys, key))
}

// SignWith has the key with a tag make the signatures from now on.
func SignWith(path, zone string, tag uint16) error {
	keys, err := ReadKeys(path, zone)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(keys, func(k *Key) bool { return k.tag == tag }) {
		return fmt.Errorf("dns: %s has no key with the tag %d", path, tag)
	}
	for _, k := range keys {
		k.Signs = k.tag == tag
	}
	return WriteKeys(path, keys)
}

// RemoveKey takes a key that does not sign out of the file.
func RemoveKey(path, zone string, tag uint16) error {
	keys, err := ReadKeys(path, zone)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(keys, func(k *Key) bool { return k.tag == tag })
	if at < 0 {
		return fmt.Errorf("dns: %s has no key with the tag %d", path, tag)
	}
	if keys[at].Signs {
		return fmt.Errorf("dns: the key %d signs: have another sign first", tag)
	}
	return WriteKeys(path, slices.Delete(keys, at, at+1))
}
