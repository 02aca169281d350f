package server

// clientauth.go asks clients of some hosts for a certificate (mutual TLS).
// Handshakes ask by the name that a client connects to, and only for those hosts;
// each request is checked again for the host that it names, since HTTP/2 and
// HTTP/3 let a client send requests for one host over a connection to another
// (RFC 9113 9.1.1).

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// clientAuthority is what a host's client certificates must lead to.
type clientAuthority struct {
	pool  *x509.CertPool
	roots []*x509.Certificate
}

func loadClientAuthority(file string) (*clientAuthority, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	a := &clientAuthority{pool: x509.NewCertPool()}
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		a.pool.AddCert(root)
		a.roots = append(a.roots, root)
	}
	if len(a.roots) == 0 {
		return nil, fmt.Errorf("%s: holds no certificate in PEM", file)
	}
	return a, nil
}

func loadClientAuthorities(files []string) (map[string]*clientAuthority, error) {
	var problems []error
	all := make(map[string]*clientAuthority, len(files))
	for _, file := range files {
		if all[file] != nil {
			continue
		}
		var err error
		if all[file], err = loadClientAuthority(file); err != nil {
			problems = append(problems, fmt.Errorf("server: client_ca: %w", err))
		}
	}
	return all, errors.Join(problems...)
}

// signed reports whether a verified chain of the connection ends in a root of a.
func (a *clientAuthority) signed(state *tls.ConnectionState) bool {
	for _, chain := range state.VerifiedChains {
		top := chain[len(chain)-1].Raw
		for _, root := range a.roots {
			if bytes.Equal(root.Raw, top) {
				return true
			}
		}
	}
	return false
}

// clientCA returns the file that the host behind a name in a ClientHello names as
// client_ca, "" for none.
func (s *Server) clientCA(name string) string {
	if s.hostClientCA == nil {
		return ""
	}
	return s.hostClientCA(serverName(name))
}

// proven is gate.Seam.Proven. What it goes by is not what the handshake was
// told then but what it has shown, judged by what is in force now.
func (s *Server) proven(file string, state *tls.ConnectionState) bool {
	authority := s.live.Load().authorities[file]
	return authority != nil && s.clientCA(state.ServerName) == file && authority.signed(state)
}
