package admin

// Credentials: made, hashed, read from the data directory, compared.

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// TokenFile is the name, under the data directory, of the token that is made
// where none is configured.
const TokenFile = "admin.token"

// tokenFileMax bounds what is read of the token file.
const tokenFileMax = 4 << 10

// NewToken returns a new token of 256 random bits and the hexadecimal SHA-256 to
// configure for it.
func NewToken() (token, hash string) {
	var raw [32]byte
	rand.Read(raw[:]) // never fails: crypto/rand aborts the program instead
	token = base64.RawURLEncoding.EncodeToString(raw[:])
	sum := sha256.Sum256([]byte(token))
	return token, hex.EncodeToString(sum[:])
}

// identify returns the credential that token belongs to, nil for none. It looks
// at all of them whatever it finds, so that time tells nothing of the hashes.
func identify(credentials []*credential, token string) *credential {
	sum := sha256.Sum256([]byte(token))
	found := -1
	for i, c := range credentials {
		equal := subtle.ConstantTimeCompare(sum[:], c.hash[:])
		found = subtle.ConstantTimeSelect(equal, i, found)
	}
	if found < 0 {
		return nil
	}
	return credentials[found]
}

// credentials returns those that cfg names, or, where it names none, the one in
// the data directory, made now if it is not there yet; it may do everything. made
// is its path then.
func credentials(cfg Config, data string) (all []*credential, made string, err error) {
	for _, t := range cfg.Tokens {
		c, err := newCredential(t)
		if err != nil {
			return nil, "", err
		}
		all = append(all, c)
	}
	if len(all) > 0 || cfg.Listen == off {
		return all, "", nil
	}
	path := filepath.Join(data, TokenFile)
	token, err := ReadToken(path)
	if errors.Is(err, fs.ErrNotExist) {
		made = path
		token, _ = NewToken()
		if err = writeWhole(path, []byte(token+"\n")); err != nil {
			err = fmt.Errorf("admin: make token file: %w", err)
		}
	}
	if err != nil {
		return nil, "", err
	}
	return []*credential{{name: TokenFile, hash: sha256.Sum256([]byte(token)), scopes: allScopes, made: true, use: new(use)}}, made, nil
}

// ReadToken reads a token file. It refuses one that others may read, as a secret
// that was open to others is none.
func ReadToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("admin: token file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("admin: token file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("admin: token file %s can be read by others (mode %04o): remove it, and a new token is made at the next start", path, info.Mode().Perm())
	}
	b := make([]byte, tokenFileMax)
	n, _ := f.Read(b) // an empty or unreadable file fails the check below
	token := strings.TrimSpace(string(b[:n]))
	if len(token) < 32 {
		return "", fmt.Errorf("admin: token file %s holds no token of 32 characters or more: remove it, and a new one is made at the next start", path)
	}
	return token, nil
}
