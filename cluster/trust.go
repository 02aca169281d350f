package cluster

// Who is a node of this cluster: whoever has a secret of it. From each secret come,
// by HKDF with labels of their own, the key of gossip and the seed of a certificate
// authority. Each node makes a key when it starts, signs a short certificate for
// its own name with the authority of the first secret, and takes certificates of
// all of them. No private key leaves the process, and none is on a disk.
//
// So the secret is all there is: whoever has it can be any node. docs/cluster.md
// says what to do when it is stolen.

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	gossipKeyPurpose = "edge cluster gossip v1"
	authorityPurpose = "edge cluster authority v1"
	protocol         = "edge-cluster/1" // ALPN: the version of the frames

	certificateScheme  = "edge-cluster"
	certificateRenew   = 24 * time.Hour
	certificateBehind  = 48 * time.Hour // a peer's clock may be that far behind
	certificateForward = 72 * time.Hour
)

// derive makes a key for one purpose from a secret.
func derive(secret, purpose string) ([]byte, error) {
	return hkdf.Key(sha256.New, []byte(secret), nil, purpose, 32)
}

// authority is the certificate authority of one secret. All nodes derive the same.
type authority struct {
	key  ed25519.PrivateKey
	root *x509.Certificate
}

func deriveAuthority(secret string) (*authority, error) {
	seed, err := derive(secret, authorityPurpose)
	if err != nil {
		return nil, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "edge cluster"},
		NotBefore:             time.Unix(0, 0), // no clock is before it
		NotAfter:              time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(der)
	return &authority{key, root}, err
}

// trust is the secrets in force.
type trust struct {
	label, name string
	key         ed25519.PrivateKey // this node's own

	mu          sync.Mutex
	gossipKeys  [][]byte
	authorities []*authority
	own         *tls.Certificate
	signed      time.Time
}

func newTrust(label, name string, secrets []string) (*trust, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &trust{label: label, name: name, key: key}
	return t, t.use(secrets)
}

// use puts other secrets in force.
func (t *trust) use(secrets []string) error {
	var keys [][]byte
	var authorities []*authority
	for _, s := range secrets {
		key, err := derive(s, gossipKeyPurpose)
		if err != nil {
			return err
		}
		a, err := deriveAuthority(s)
		if err != nil {
			return err
		}
		keys, authorities = append(keys, key), append(authorities, a)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gossipKeys, t.authorities, t.own = keys, authorities, nil
	return nil
}

func (t *trust) keys() [][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gossipKeys
}

// certificate returns this node's own, signed anew when it is a day old.
func (t *trust) certificate() (*tls.Certificate, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.own != nil && now.Sub(t.signed) < certificateRenew {
		return t.own, nil
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	a := t.authorities[0]
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: t.name},
		URIs:         []*url.URL{identity(t.label, t.name)},
		NotBefore:    now.Add(-certificateBehind),
		NotAfter:     now.Add(certificateForward),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.root, t.key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("cluster: sign this node's certificate: %w", err)
	}
	t.own, t.signed = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: t.key}, now
	return t.own, nil
}

// identity is what a certificate says of its node.
func identity(label, name string) *url.URL {
	return &url.URL{Scheme: certificateScheme, Host: label, Path: "/" + name}
}

// config is for one connection. The peer's certificate is checked in verify, once
// the handshake is done: its names are of ours, not of DNS.
func (t *trust) config() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protocol},
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // see VerifyConnection
		VerifyConnection:       func(s tls.ConnectionState) error { _, _, err := t.verify(s); return err },
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.certificate() },
		GetClientCertificate:   func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.certificate() },
	}
}

// verify returns the name of the node at the other end, and the authority that says so.
func (t *trust) verify(s tls.ConnectionState) (name string, by *authority, err error) {
	if s.NegotiatedProtocol != protocol {
		return "", nil, fmt.Errorf("cluster: the peer does not speak %s", protocol)
	}
	if len(s.PeerCertificates) == 0 {
		return "", nil, errors.New("cluster: the peer has no certificate")
	}
	leaf := s.PeerCertificates[0]
	t.mu.Lock()
	authorities := t.authorities
	t.mu.Unlock()
	for _, a := range authorities {
		roots := x509.NewCertPool()
		roots.AddCert(a.root)
		if _, err = leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err == nil {
			by = a
			break
		}
	}
	if by == nil {
		return "", nil, fmt.Errorf("cluster: the peer's certificate is of another secret, or out of its time: %w", err)
	}
	if len(leaf.URIs) != 1 {
		return "", nil, errors.New("cluster: the peer's certificate names no node")
	}
	name = strings.TrimPrefix(leaf.URIs[0].Path, "/")
	if !isName(name, nameBytesMax) || leaf.URIs[0].String() != identity(t.label, name).String() {
		return "", nil, fmt.Errorf("cluster: the peer is %s, not of the cluster %s", leaf.URIs[0], t.label)
	}
	return name, by, nil
}

// trusts says whether an authority is still one of ours.
func (t *trust) trusts(a *authority) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range t.authorities {
		if b.key.Equal(a.key) {
			return true
		}
	}
	return false
}
