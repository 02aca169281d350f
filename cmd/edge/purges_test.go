package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"edgecdn/admin"
)

// operator asks a node's admin listener with its token.
type operator struct {
	t     *testing.T
	base  string
	token string
}

func newOperator(t *testing.T, n *node, data string) *operator {
	t.Helper()
	token, err := admin.ReadToken(filepath.Join(data, admin.TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	return &operator{t, "http://" + n.admin.Addr(), token}
}

func (o *operator) send(method, path, body, key string) *http.Response {
	o.t.Helper()
	req, err := http.NewRequestWithContext(o.t.Context(), method, o.base+path, strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+o.token)
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	return resp
}

// ask decodes the answer, which must have that status.
func (o *operator) ask(method, path, body, key string, status int, answer any) {
	o.t.Helper()
	resp := o.send(method, path, body, key)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		o.t.Fatalf("%s %s: %d %s %v, want %d", method, path, resp.StatusCode, text, err, status)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		o.t.Fatalf("%s: %v", text, err)
	}
}

// Every kind of purge goes from the API to the cache and comes back as a receipt.
func TestPurgeAPI(t *testing.T) {
	var asked atomic.Int64
	n, data := startNode(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Surrogate-Key", "news")
		fmt.Fprint(w, asked.Add(1))
	})
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	addresses, _ := n.server.Addresses()
	host := addresses[0]
	get := func() string {
		resp, err := http.Get("http://" + host + "/static/x?q=1")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	o := newOperator(t, n, data)
	var ids []string
	for i, tt := range []struct {
		body, kind string
		targets    int
		first      string
	}{
		{`{"urls": ["http://HOST/static/x?q=1", "http://HOST/y"], "reason": "wrong price"}`, "url", 2, "http://HOST/static/x?q=1"},
		{`{"prefixes": ["HOST/static/"]}`, "prefix", 1, "HOST/static"},
		{`{"hosts": ["HOST"]}`, "host", 1, "HOST"},
		{`{"groups": {"host": "HOST", "names": ["sport", "news"]}}`, "group", 2, "sport"},
		{`{"all": true}`, "all", 0, ""},
	} {
		before := get()
		if get() != before {
			t.Fatal("not from the cache")
		}
		body := strings.ReplaceAll(tt.body, "HOST", host)
		var dry admin.Receipt
		o.ask("POST", "/v1/purges", strings.TrimSuffix(body, "}")+`, "dry_run": true}`, "", 200, &dry)
		if !dry.DryRun || dry.ID != "" || dry.Counts.Memory != 1 || get() != before {
			t.Errorf("%s: dry run %+v", tt.kind, dry)
		}
		var r admin.Receipt
		o.ask("POST", "/v1/purges?wait=all&timeout=1m", body, "", 200, &r)
		if !r.Counts.MemoryCounted || r.Counts.Memory != 1 {
			t.Errorf("%s: counts in the answer: %+v", tt.kind, r.Counts)
		}
		if get() == before {
			t.Errorf("%s: still served", tt.kind)
		}
		if r.Kind != admin.PurgeKind(tt.kind) || r.Mode != "hard" || r.TargetsTotal != tt.targets || r.Entry.Number != uint64(i+1) || len(r.Nodes) != 1 ||
			tt.targets > 0 && r.Targets[0] != strings.ReplaceAll(tt.first, "HOST", host) || (r.Host != "") != (tt.kind == "group") {
			t.Errorf("%+v", r)
		}
		var again admin.Receipt
		o.ask("GET", "/v1/purges/"+r.ID, "", "", 200, &again)
		if again.ID != r.ID || again.Reason != r.Reason || again.Actor == "" || !again.Counts.MemoryCounted || again.Counts.Memory != 1 {
			t.Errorf("%+v", again)
		}
		ids = append(ids, r.ID)
	}
	// Pages, from the newest.
	var listed []string
	for path := "/v1/purges?limit=2"; path != ""; {
		var page struct {
			Purges []admin.Receipt
			Next   string
		}
		o.ask("GET", path, "", "", 200, &page)
		for _, r := range page.Purges {
			listed = append([]string{r.ID}, listed...)
		}
		path = page.Next
	}
	if strings.Join(listed, " ") != strings.Join(ids, " ") {
		t.Errorf("listed %q, made %q", listed, ids)
	}
	var problem map[string]any
	o.ask("GET", "/v1/purges/"+strings.ToUpper(ids[0]), "", "", 404, &problem)
	o.ask("GET", "/v1/purges/01a2056a-7900-7027-86ae-e16c881019d7", "", "", 404, &problem)
	// Idempotency keys.
	var first, second struct{ ID string }
	o.ask("POST", "/v1/purges", `{"all": true}`, "k-1", 202, &first)
	o.ask("POST", "/v1/purges", `{"all": true}`, "k-1", 202, &second)
	if first != second || first.ID == "" {
		t.Errorf("%v and %v", first, second)
	}
	o.ask("POST", "/v1/purges", `{"hosts": ["a.example"]}`, "k-1", 422, &problem)
	// What only the cache refuses is told by its field too.
	o.ask("POST", "/v1/purges", `{"prefixes": ["a.example/x", "a.example`+strings.Repeat("/x", 40)+`"]}`, "", 422, &problem)
	if text := fmt.Sprint(problem); !strings.Contains(text, "prefixes[1]") {
		t.Error(text)
	}
}

func TestPurgeEvents(t *testing.T) {
	n, data := startNode(t, func(http.ResponseWriter, *http.Request) {})
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	o := newOperator(t, n, data)
	resp := o.send("GET", "/v1/purges/events", "", "")
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Scan() // the stream is open
	var made struct{ ID string }
	o.ask("POST", "/v1/purges", `{"hosts": ["www.example.com"]}`, "", 202, &made)
	for _, state := range []string{"applied", "swept"} {
		for lines.Scan() {
			if text, ok := strings.CutPrefix(lines.Text(), "data:"); ok {
				var r admin.Receipt
				if err := json.Unmarshal([]byte(text), &r); err != nil || r.ID != made.ID || r.State != state {
					t.Errorf("%s %v, want %s", text, err, state)
				}
				break
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
}
