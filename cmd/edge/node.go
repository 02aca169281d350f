package main

// How commands find and ask a running node.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"edgecdn/admin"
)

// addrFile is where a running node writes the address of its admin listener,
// below its data directory.
const addrFile = "admin.addr"

// Where a node that is installed as a service keeps what it keeps, and where edge
// init wrote its token (docs/install.md).
const (
	installedData  = "/var/lib/edge"
	installedToken = "/etc/edge/admin.token"
)

const (
	answerTimeout  = 30 * time.Second
	answerBytesMax = 4 << 20
)

// nodeFlags say which node is meant.
type nodeFlags struct {
	Admin string `env:"EDGE_ADMIN" placeholder:"HOST:PORT" help:"Admin listener of the node. Default: the one that a node wrote into its data directory."`
	Token string `env:"EDGE_TOKEN" placeholder:"TOKEN" help:"Token for it; other users of this machine see a flag, but not a variable. Default: the one in the data directory."`
	Data  string `env:"EDGE_DATA" default:"./data" placeholder:"DIR" help:"Data directory of a node on this machine; where the default is not there, /var/lib/edge."`
}

// findData returns the data directory that a flag names. Where it names the default
// and that does not exist it is the one of the installed node, if there is one.
func findData(flag string) string {
	if flag != "./data" {
		return flag
	}
	if _, err := os.Stat(flag); err == nil {
		return flag
	}
	if _, err := os.Stat(installedData); err == nil {
		return installedData
	}
	return flag
}

// token returns what lets the command in.
func (f nodeFlags) token() (string, error) {
	if f.Token != "" {
		return f.Token, nil
	}
	dir := findData(f.Data)
	files := []string{filepath.Join(dir, admin.TokenFile)}
	if dir == installedData {
		files = append(files, installedToken)
	}
	for _, file := range files {
		token, err := admin.ReadToken(file)
		if !errors.Is(err, fs.ErrNotExist) {
			return token, err
		}
	}
	return "", fmt.Errorf("no token: give --token or EDGE_TOKEN, or with --data the data directory of the node (none in %s)", strings.Join(files, " nor "))
}

// askOrPrint is ask, or where raw is set prints the answer as it came.
func (f nodeFlags) askOrPrint(method, path string, answer any, raw bool, stdout io.Writer) error {
	if !raw {
		return f.ask(method, path, answer)
	}
	var text json.RawMessage
	if err := f.ask(method, path, &text); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stdout, "%s\n", text)
	return err
}

// ask sends a request to the node's admin listener and decodes its answer into
// answer. All answers but 200 are errors.
func (f nodeFlags) ask(method, path string, answer any) error {
	got, err := f.send(nodeRequest{method: method, path: path, timeout: answerTimeout})
	if err != nil {
		return err
	}
	if got.status != http.StatusOK {
		return got.problem()
	}
	return got.decode(answer)
}

// nodeRequest is what a command asks a node.
type nodeRequest struct {
	method, path string
	body         []byte // JSON; nil for none
	key          string // Idempotency-Key; "" for none
	timeout      time.Duration
}

// nodeAnswer is what the node says, whatever the status.
type nodeAnswer struct {
	at     string // what was asked
	status int
	header http.Header
	body   []byte
}

// send asks the node.
func (f nodeFlags) send(q nodeRequest) (*nodeAnswer, error) {
	base, err := f.base()
	if err != nil {
		return nil, err
	}
	token, err := f.token()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), q.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, q.method, base+q.path, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if q.key != "" {
		req.Header.Set("Idempotency-Key", q.key)
	}
	// No proxy and no redirect: the token goes to the node and to nobody else.
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no node answers at %s: %w", base, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", base, q.path, err)
	}
	return &nodeAnswer{base + q.path, resp.StatusCode, resp.Header, body}, nil
}

func (a *nodeAnswer) decode(answer any) error {
	if err := json.NewDecoder(bytes.NewReader(a.body)).Decode(answer); err != nil {
		return fmt.Errorf("%s does not answer as a node does: %w", a.at, err)
	}
	return nil
}

// problem makes an error of a problem (RFC 9457) or of any other answer.
func (a *nodeAnswer) problem() error {
	var problem struct{ Detail string }
	if json.Unmarshal(a.body, &problem) == nil && problem.Detail != "" {
		return errors.New(problem.Detail)
	}
	return fmt.Errorf("%s answers %d %s", a.at, a.status, http.StatusText(a.status))
}

// base returns the URL of the admin listener.
func (f nodeFlags) base() (string, error) {
	addr := f.Admin
	if addr == "" {
		dir := findData(f.Data)
		b, err := os.ReadFile(filepath.Join(dir, addrFile))
		if errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("no node runs on %s: give its admin listener with --admin or EDGE_ADMIN, or its data directory with --data", dir)
		}
		if err != nil {
			return "", fmt.Errorf("find the node: %w", err)
		}
		addr = strings.TrimSpace(string(b))
	}
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "", fmt.Errorf("--admin %s: write HOST:PORT, such as 127.0.0.1:8081", addr)
	}
	return strings.TrimSuffix(addr, "/"), nil
}
