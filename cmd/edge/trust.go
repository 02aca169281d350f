package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"edgecdn/server"
)

// trustCmd says how to have a machine trust the development certificate.
type trustCmd struct {
	Data string `default:"./data" placeholder:"DIR" help:"Data directory of the node."`
}

// Help is shown below the flags.
func (c *trustCmd) Help() string {
	return `A node without certificates makes an authority for development on its first start, which signs for loopback, localhost and edge.test alone. This says where it is and how browsers and tools come to trust it. It changes nothing itself.

Examples:

  edge trust
  edge trust --data /var/lib/edge`
}

// Run prints it.
func (c *trustCmd) Run() error { return c.run(os.Stdout, time.Now()) }

func (c *trustCmd) run(stdout io.Writer, now time.Time) error {
	file, err := filepath.Abs(server.DevelopmentCA(findData(c.Data)))
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("trust: there is no development authority at %s: a node makes it on its first start, unless it has certificates or no https listener; name its data directory with --data", file)
	}
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return fmt.Errorf("trust: %s holds no certificate: remove it, and the node makes a new one when it starts", file)
	}
	authority, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("trust: %s: %w: remove it, and the node makes a new one when it starts", file, err)
	}
	state := ""
	if now.After(authority.NotAfter) {
		state = " (past: start the node to have a new one made)"
	}
	_, err = fmt.Fprintf(stdout, "The development authority is %s\n\n  good for  %s\n  until     %s%s\n  SHA-256   %X\n\n%s", file,
		strings.Join(append(authority.PermittedDNSDomains, "loopback addresses"), ", "),
		authority.NotAfter.UTC().Format(time.RFC3339), state, sha256.Sum256(authority.Raw), howToTrust(shellQuoted(file)))
	return err
}

// howToTrust says what to type on each system.
func howToTrust(file string) string {
	const name = "edge-development-ca"
	return strings.NewReplacer("FILE", file, "NAME", name).Replace(`Have it trusted, and no longer:

Debian, Ubuntu, Alpine
  sudo cp FILE /usr/local/share/ca-certificates/NAME.crt && sudo update-ca-certificates
  sudo rm /usr/local/share/ca-certificates/NAME.crt && sudo update-ca-certificates --fresh

Fedora, RHEL, SUSE with p11-kit
  sudo trust anchor --store FILE
  sudo trust anchor --remove FILE

macOS
  sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain FILE
  sudo security remove-trusted-cert -d FILE

Windows, as administrator, with the file copied there
  certutil -addstore -f ROOT development-ca.pem
  certutil -delstore ROOT "edge development CA"

Chromium and Chrome on Linux (certutil is in libnss3-tools or nss-tools)
  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n NAME -i FILE
  certutil -d sql:$HOME/.pki/nssdb -D -n NAME

Firefox
  Settings, Privacy & Security, Certificates, View Certificates, Authorities, Import

Once, without trusting it
  curl --cacert FILE https://localhost:8443/
`)
}

// shellQuoted puts a path into quotes where a shell would take it apart.
func shellQuoted(path string) string {
	if !strings.ContainsFunc(path, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-+@:,", r)
	}) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
