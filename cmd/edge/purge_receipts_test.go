package main

import (
	"bytes"
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

// Receipts of the real log are as the document says that the node serves.
func TestReceiptsAreAsDocumented(t *testing.T) {
	origin := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(origin.Close)
	data := t.TempDir()
	cfg, err := config.TryOut(origin.URL, "127.0.0.1:0", "off", "127.0.0.1:0", data)
	if err != nil {
		t.Fatal(err)
	}
	n := startServing(t, cfg, "")
	token, err := admin.ReadToken(filepath.Join(data, admin.TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path, body string) (status int, text []byte) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+n.admin.Addr()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, err = io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, text
	}
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
	if b, err := os.ReadFile(filepath.Join(data, admin.AuditFile)); err != nil || bytes.Count(b, []byte("\n")) != 6 {
		t.Errorf("%v: audit log %s", err, b)
	}
}
