package cluster

// What is kept over restarts, below Config.Dir: how often this node has started,
// whom it knew, and the facts. All are written whole or not at all.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	bootFile      = "boot"
	peersFile     = "peers.json"
	factsFile     = "facts"
	peersBytesMax = 1 << 20
)

// knownPeer is one in the file.
type knownPeer struct {
	Name    string    `json:"name"`
	Address string    `json:"address"`
	Site    string    `json:"site,omitempty"`
	Left    bool      `json:"left,omitempty"`
	Since   time.Time `json:"since"` // of its status
}

// countBoot returns the number of this start, which is higher than all before. One
// that cannot be read goes on from the clock, which is higher, too.
func countBoot(dir string) (uint64, error) {
	name := filepath.Join(dir, bootFile)
	text, err := os.ReadFile(name)
	var boot uint64
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err == nil:
		if boot, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 63); err != nil {
			boot = uint64(time.Now().Unix())
		}
	default:
		return 0, fmt.Errorf("cluster: %w", err)
	}
	boot++
	if err := writeWhole(name, []byte(strconv.FormatUint(boot, 10)+"\n")); err != nil {
		return 0, fmt.Errorf("cluster: %w", err)
	}
	return boot, nil
}

// readPeers returns those that were known, all of them dead until they are seen. A
// damaged file is no reason not to start: seeds know the others.
func readPeers(dir string) ([]*Member, error) {
	name := filepath.Join(dir, peersFile)
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && info.Size() > peersBytesMax {
		err = fmt.Errorf("%d bytes are too many", info.Size())
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(name)
	}
	var known []knownPeer
	if err == nil {
		err = json.Unmarshal(text, &known)
	}
	if err != nil {
		return nil, fmt.Errorf("cluster: %s: %w", name, err)
	}
	var members []*Member
	for _, k := range known[:min(len(known), MembersMax)] {
		if !isName(k.Name, nameBytesMax) {
			continue
		}
		m := &Member{Name: k.Name, Site: k.Site, Status: Dead, Since: k.Since}
		if k.Left {
			m.Status = Left
		}
		m.Address, _ = netip.ParseAddrPort(k.Address)
		members = append(members, m)
	}
	return members, nil
}

// writePeers keeps whom this node knows.
func (c *Cluster) writePeers() error {
	c.mu.RLock()
	known := make([]knownPeer, 0, len(c.members))
	for _, m := range c.members {
		if m.Address.IsValid() {
			known = append(known, knownPeer{m.Name, m.Address.String(), m.Site, m.Status == Left, m.Since.UTC()})
		}
	}
	c.mu.RUnlock()
	text, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(c.cfg.Dir, peersFile), append(text, '\n'))
}

// writeWhole makes a file whole or not at all.
func writeWhole(path string, content []byte) error {
	dir := filepath.Dir(path)
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
