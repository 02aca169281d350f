package server

// devcert.go makes a certificate authority and a certificate for loopback, so
// that HTTPS works before anybody has bought anything. Whoever wants browsers to
// agree trusts the authority's file; it is bound to loopback names, so that its
// key, if it leaks, can forge nothing else.

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	authorityLife   = 365 * 24 * time.Hour
	developmentLife = 30 * 24 * time.Hour
	// renewBefore is how long before their end certificates are made anew.
	renewBefore = 7 * 24 * time.Hour
)

// DevelopmentCA returns the file of the certificate authority that a node whose
// data directory is data makes when no certificate is configured.
func DevelopmentCA(data string) string { return filepath.Join(data, "tls", "development-ca.pem") }

// developmentCertificate returns the certificate kept in dir, making it and its
// authority when they are missing or near their end.
func developmentCertificate(dir string, now time.Time) (pair *tls.Certificate, made bool, err error) {
	caCert, caKey := filepath.Join(dir, "development-ca.pem"), filepath.Join(dir, "development-ca.key")
	cert, key := filepath.Join(dir, "development.pem"), filepath.Join(dir, "development.key")
	ca, err := loadPair(caCert, caKey, now)
	if err != nil {
		return nil, false, err
	}
	if ca == nil {
		if ca, err = makePair(caCert, caKey, authorityTemplate(now), nil); err != nil {
			return nil, false, err
		}
		made = true
	}
	if !made {
		pair, err = loadPair(cert, key, now)
		if err != nil {
			return nil, false, err
		}
		if pair != nil && pair.Leaf.CheckSignatureFrom(ca.Leaf) == nil {
			return pair, false, nil
		}
	}
	pair, err = makePair(cert, key, developmentTemplate(now), ca)
	return pair, true, err
}

// loadPair returns nil without an error where a pair must be made: it is
// missing, broken or near its end.
func loadPair(cert, key string, now time.Time) (*tls.Certificate, error) {
	certPEM, err := os.ReadFile(cert)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil || now.After(pair.Leaf.NotAfter.Add(-renewBefore)) || now.Before(pair.Leaf.NotBefore) {
		return nil, nil
	}
	return &pair, nil
}

func authorityTemplate(now time.Time) *x509.Certificate {
	_, loopback4, _ := net.ParseCIDR("127.0.0.0/8")
	_, loopback6, _ := net.ParseCIDR("::1/128")
	return &x509.Certificate{
		Subject:                     pkix.Name{CommonName: "edge development CA", Organization: []string{"edge"}},
		NotBefore:                   now.Add(-time.Hour),
		NotAfter:                    now.Add(authorityLife),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{"localhost", "edge.test"},
		PermittedIPRanges:           []*net.IPNet{loopback4, loopback6},
	}
}

func developmentTemplate(now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: "localhost", Organization: []string{"edge development"}},
		NotBefore:   now.Add(-time.Hour),
		NotAfter:    now.Add(developmentLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "edge.test", "*.edge.test"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
}

// makePair signs template with ca, or with its own key where ca is nil, and
// keeps both in files. The chain holds the leaf alone: who trusts the authority
// has it.
func makePair(cert, key string, template *x509.Certificate, ca *tls.Certificate) (*tls.Certificate, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	parent, signer := template, any(private)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &private.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if err := writeSecret(key, keyPEM); err != nil {
		return nil, err
	}
	if err := writeFile(cert, certPEM, 0o644); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	return &pair, err
}

// writeSecret writes a file that only its owner can read.
func writeSecret(path string, content []byte) error { return writeFile(path, content, 0o600) }

// writeFile replaces a file whole: who reads meanwhile sees the old or the new.
func writeFile(path string, content []byte, mode fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return os.Chmod(path, mode)
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
