package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"edgecdn/admin"
	"edgecdn/config"
)

// operated is a node with its own log of purges, asked by its admin listener.
type operated struct {
	t           *testing.T
	data, token string
	node        *node
}

func startOperated(t *testing.T) *operated {
	t.Helper()
	origin := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(origin.Close)
	o := &operated{t: t, data: t.TempDir()}
	cfg, err := config.TryOut(origin.URL, "127.0.0.1:0", "off", "127.0.0.1:0", o.data)
	if err != nil {
		t.Fatal(err)
	}
	o.node = startServing(t, cfg, "")
	if o.token, err = admin.ReadToken(filepath.Join(o.data, admin.TokenFile)); err != nil {
		t.Fatal(err)
	}
	return o
}

// open sends a request; the answer's body is closed at the end of the test.
func (o *operated) open(method, path, body, key string) *http.Response {
	o.t.Helper()
	req, err := http.NewRequest(method, "http://"+o.node.admin.Addr()+path, strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+o.token)
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (o *operated) ask(method, path, body, key string) (status int, text []byte) {
	o.t.Helper()
	resp := o.open(method, path, body, key)
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.StatusCode, text
}

// Keys and events, from the listener through to the log.
func TestKeysAndEventsOfTheRealLog(t *testing.T) {
	o := startOperated(t)
	events := o.open("GET", "/v1/purges/events", "", "")
	scan := bufio.NewScanner(events.Body)
	if !scan.Scan() { // the stream is open
		t.Fatal(scan.Err())
	}
	made := func(body, key string) (status int, id string) {
		t.Helper()
		status, text := o.ask("POST", "/v1/purges", body, key)
		var answer struct{ ID string }
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Fatal(err)
		}
		return status, answer.ID
	}
	_, first := made(`{"hosts":["a.example"]}`, "k")
	if status, again := made(`{"hosts":["A.EXAMPLE."],"mode":"hard"}`, "k"); status != 202 || again != first {
		t.Errorf("the same again: %d %s, at first %s", status, again, first)
	}
	if status, _ := made(`{"hosts":["b.example"]}`, "k"); status != 422 {
		t.Errorf("another with the key: %d", status)
	}
	_, second := made(`{"hosts":["b.example"]}`, "")
	seen := map[string]bool{}
	for !seen[second] && scan.Scan() {
		if id, ok := strings.CutPrefix(scan.Text(), "id: "); ok {
			seen[id] = true
		}
	}
	if !seen[first] || !seen[second] || len(seen) != 2 {
		t.Errorf("events of %v, want %s and %s: %v", seen, first, second, scan.Err())
	}
}

// Receipts of the real log are as the document says that the node serves.
func TestReceiptsAreAsDocumented(t *testing.T) {
	o := startOperated(t)
	ask := func(method, path, body string) (status int, text []byte) { return o.ask(method, path, body, "") }
	_, text := ask("GET", "/v1/openapi.json", "")
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("file:///openapi.json", document); err != nil {
		t.Fatal(err)
	}
	hold := func(pointer string, text []byte) {
		t.Helper()
		schema, err := c.Compile("file:///openapi.json#" + pointer)
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
	}
	for _, body := range []string{
		`{"urls":["https://www.example.com/a%20b?c","http://www.example.com/"],"reason":"x"}`,
		`{"prefixes":["www.example.com/static"],"mode":"soft"}`,
		`{"hosts":["www.example.com","[2001:db8::1]:8080"]}`,
		`{"groups":{"host":"www.example.com","names":["one","two, three"]}}`,
		`{"all":true}`,
		`{"all":true,"dry_run":true}`,
	} {
		status, text := ask("POST", "/v1/purges?wait=all", body)
		if status != 200 {
			t.Errorf("%s: %d %s", body, status, text)
		}
		hold("/components/schemas/Receipt", text)
		for _, part := range []string{`"https://www.example.com/a%20b?c"`, `"www.example.com/static"`, `"[2001:db8::1]:8080"`, `"two, three"`} {
			if strings.Contains(body, part) && !bytes.Contains(text, []byte(part)) {
				t.Errorf("%s is not in %s", part, text)
			}
		}
	}
	_, text = ask("GET", "/v1/purges", "")
	hold("/paths/~1v1~1purges/get/responses/200/content/application~1json/schema", text)
	_, text = ask("GET", "/v1/status", "")
	hold("/components/schemas/Status", text)
	if status, text := ask("POST", "/v1/purges", `{"prefixes":["www.example.com`+strings.Repeat("/a", 100)+`"]}`); status != 422 || !bytes.Contains(text, []byte(`"prefixes[0]"`)) {
		t.Errorf("a prefix that is too deep: %d %s", status, text)
	}
	if b, err := os.ReadFile(filepath.Join(o.data, admin.AuditFile)); err != nil || bytes.Count(b, []byte("\n")) != 6 {
		t.Errorf("%v: audit log %s", err, b)
	}
}
