package admin

// Tokens that were revoked while the node ran. They are known by their hash, so
// that a new token may have the name of an old one.

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// RevokedFile is the name, under the data directory, of the list of revoked tokens.
const RevokedFile = "admin.revoked.json"

const (
	revokedMax      = 1024
	revokedBytesMax = 1 << 20
)

// revocation is an entry of the list.
type revocation struct {
	Name   string    `json:"name"`
	SHA256 string    `json:"sha256"`
	Time   time.Time `json:"time"`
	By     string    `json:"by"`
}

// revoked is the list, in memory and on disk.
type revoked struct {
	mu   sync.RWMutex
	path string
	list []revocation
	hash map[[32]byte]time.Time
}

// openRevoked reads the list; one that is not there is empty. A list that cannot
// be read is an error: nobody who was shut out comes back by a damaged file.
func openRevoked(data string) (*revoked, error) {
	r := &revoked{path: filepath.Join(data, RevokedFile), hash: map[[32]byte]time.Time{}}
	info, err := os.Stat(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil && info.Size() > revokedBytesMax {
		err = fmt.Errorf("%d bytes, more than %d", info.Size(), revokedBytesMax)
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(r.path)
	}
	if err == nil {
		err = json.Unmarshal(b, &r.list)
	}
	for i := 0; err == nil && i < len(r.list); i++ {
		var sum [32]byte
		var n int
		if n, err = hex.Decode(sum[:], []byte(r.list[i].SHA256)); err == nil && n != len(sum) {
			err = errors.New("sha256 is not 64 hexadecimal digits")
		}
		r.hash[sum] = r.list[i].Time
	}
	if err != nil {
		return nil, fmt.Errorf("admin: list of revoked tokens %s: %w: mend it, or take the revoked tokens out of the configuration and remove it", r.path, err)
	}
	return r, nil
}

// at returns when the token of that hash was revoked.
func (r *revoked) at(hash [32]byte) (time.Time, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t, ok := r.hash[hash]
	return t, ok
}

// add revokes a token. It is revoked in memory even where it cannot be written.
func (r *revoked) add(hash [32]byte, name, by string, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, twice := r.hash[hash]; twice {
		return nil
	}
	r.hash[hash] = now
	r.list = append(r.list, revocation{Name: name, SHA256: hex.EncodeToString(hash[:]), Time: now.UTC(), By: by})
	if len(r.list) > revokedMax {
		return fmt.Errorf("admin: more than %d tokens are revoked: this one is until the next start; take revoked ones out of the configuration, stop the node and remove their lines from %s", revokedMax, r.path)
	}
	b, err := json.MarshalIndent(r.list, "", "  ")
	if err != nil {
		return fmt.Errorf("admin: list of revoked tokens: %w", err)
	}
	if err := writeWhole(r.path, append(b, '\n')); err != nil {
		return fmt.Errorf("admin: the token is revoked until the next start, but the list could not be written: %w", err)
	}
	return nil
}

// Revoke shuts out a token that was revoked on another node, by its hash in
// hexadecimal. One that is revoked already is no error.
func (s *Server) Revoke(hash, name, node string) error {
	var sum [32]byte
	if n, err := hex.Decode(sum[:], []byte(hash[:min(len(hash), 64)])); err != nil || n != len(sum) || len(hash) != 64 {
		return fmt.Errorf("admin: %.80q is no hash of a token", hash)
	}
	return s.revoked.add(sum, name, "node "+node, time.Now())
}

// writeWhole makes a file of mode 0600 whole or not at all.
func writeWhole(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
