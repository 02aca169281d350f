package admin

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/goleak"
)

// contract holds every exchange of these tests to the document that is served.
var contract = newContract()

func TestMain(m *testing.M) { goleak.VerifyTestMain(heldToContract{m}) }

// heldToContract fails where an exchange was not as documented, and, when all
// tests ran, where something documented was never seen.
type heldToContract struct{ *testing.M }

func (m heldToContract) Run() int {
	code := m.M.Run()
	contract.mu.Lock()
	defer contract.mu.Unlock()
	problems := slices.Clone(contract.broken)
	if all := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == "" &&
		flag.Lookup("test.list").Value.String() == "" && flag.Lookup("test.fuzz").Value.String() == ""; all {
		for _, at := range contract.documented() {
			if !contract.seen[at] {
				problems = append(problems, "documented, and seen in no test: "+at)
			}
		}
	}
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, "openapi.json:", p)
		code = 1
	}
	return code
}

type apiContract struct {
	mu       sync.Mutex
	document map[string]any
	compiler *jsonschema.Compiler
	seen     map[string]bool // "get /v1/status 200"
	broken   []string
}

const contractURL = "file:///openapi.json"

func newContract() *apiContract {
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(openapiDocument))
	if err != nil {
		panic(err)
	}
	c := &apiContract{document: parsed.(map[string]any), compiler: jsonschema.NewCompiler(), seen: map[string]bool{}}
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(contractURL, parsed); err != nil {
		panic(err)
	}
	return c
}

// at follows keys, and references to components.
func (c *apiContract) at(keys ...string) (value map[string]any, pointer string) {
	value = c.document
	for _, key := range keys {
		next, ok := value[key].(map[string]any)
		if !ok {
			return nil, ""
		}
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
		if ref, ok := next["$ref"].(string); ok {
			pointer = strings.TrimPrefix(ref, "#")
			next, _ = c.at(strings.Split(pointer[1:], "/")...)
		}
		value = next
	}
	return value, pointer
}

func (c *apiContract) documented() (all []string) {
	paths, _ := c.at("paths")
	for path := range paths {
		operations, _ := c.at("paths", path)
		for method := range operations {
			responses, _ := c.at("paths", path, method, "responses")
			for status := range responses {
				all = append(all, method+" "+path+" "+status)
			}
		}
	}
	slices.Sort(all)
	return all
}

// template finds the documented path, exact ones first.
func (c *apiContract) template(path string) string {
	paths, _ := c.at("paths")
	if _, ok := paths[path]; ok {
		return path
	}
	for _, template := range slices.Sorted(maps.Keys(paths)) {
		prefix, _, ok := strings.Cut(template, "{")
		if rest, within := strings.CutPrefix(path, prefix); ok && within && rest != "" && !strings.Contains(rest, "/") {
			return template
		}
	}
	return ""
}

// check notes what in an exchange is not as documented.
func (c *apiContract) check(r *http.Request, body string, w *httptest.ResponseRecorder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.hold(r, body, w); err != nil {
		c.broken = append(c.broken, fmt.Sprintf("%s %s: %d: %v\n%s", r.Method, r.RequestURI, w.Code, err, w.Body))
	}
}

func (c *apiContract) hold(r *http.Request, body string, w *httptest.ResponseRecorder) error {
	problem := w.Header().Get("Content-Type") == "application/problem+json"
	if problem {
		if err := c.validate("/components/schemas/Problem", w.Body.Bytes()); err != nil {
			return err
		}
	}
	if r.Method == methodPurge {
		if !problem {
			return c.validate("/components/schemas/Receipt", w.Body.Bytes())
		}
		return nil
	}
	method, path := strings.ToLower(r.Method), c.template(r.URL.Path)
	if method == "head" {
		method = "get"
	}
	operations, _ := c.at("paths", path)
	if _, ok := operations[method]; !ok || path == "" {
		// Not in the document: nobody finds anything there.
		if want := map[bool][]int{true: {401, 421, 429, 404}, false: {401, 421, 429, 405}}[path == ""]; !slices.Contains(want, w.Code) {
			return fmt.Errorf("an exchange that is not documented")
		}
		return nil
	}
	status := fmt.Sprint(w.Code)
	response, pointer := c.at("paths", path, method, "responses", status)
	if response == nil {
		return fmt.Errorf("a status that is not documented for %s %s", method, path)
	}
	c.seen[method+" "+path+" "+status] = true
	headers, _ := response["headers"].(map[string]any)
	for name := range headers {
		if w.Header().Get(name) == "" {
			return fmt.Errorf("no field %s", name)
		}
	}
	if err := c.holdRequest(method, path, body, w.Code); err != nil {
		return err
	}
	media, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
	content, _ := response["content"].(map[string]any)
	described, ok := content[media].(map[string]any)
	switch {
	case content["*/*"] != nil:
		return nil
	case !ok:
		return fmt.Errorf("Content-Type %q is not documented", media)
	case described["schema"] == nil || !strings.HasSuffix(media, "json") || r.Method == http.MethodHead:
		return nil
	}
	return c.validate(pointer+"/content/"+strings.ReplaceAll(media, "/", "~1")+"/schema", w.Body.Bytes())
}

// holdRequest: what is taken is as documented.
func (c *apiContract) holdRequest(method, path, body string, status int) error {
	schema, pointer := c.at("paths", path, method, "requestBody", "content", "application/json", "schema")
	if schema == nil || status >= 300 {
		return nil
	}
	return c.validate(pointer, []byte(body))
}

func (c *apiContract) validate(pointer string, text []byte) error {
	schema, err := c.compiler.Compile(contractURL + "#" + pointer)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// The document and the table of endpoints name the same, with the same scopes.
func TestDocumentNamesEveryEndpoint(t *testing.T) {
	s, token, _ := newTestServer(t, &node{})
	var inTable []string
	for _, e := range s.endpoints() {
		method := strings.ToLower(e.method)
		inTable = append(inTable, method+" "+e.path)
		operation, _ := contract.at("paths", e.path, method)
		var scopes []Scope
		for _, scope := range toList(operation["x-scopes"]) {
			scopes = append(scopes, Scope(fmt.Sprint(scope)))
		}
		if !slices.Equal(scopes, e.scopes) {
			t.Errorf("%s %s: the document says scopes %v, the table %v", e.method, e.path, scopes, e.scopes)
		}
		if security, open := operation["security"]; open != e.open || open && len(toList(security)) > 0 {
			t.Errorf("%s %s: open %v, the document says %v", e.method, e.path, e.open, security)
		}
	}
	var inDocument []string
	for _, at := range contract.documented() {
		at = at[:strings.LastIndexByte(at, ' ')]
		if at != "get /debug/pprof/{profile}" && !slices.Contains(inDocument, at) { // is within get /debug/pprof/
			inDocument = append(inDocument, at)
		}
	}
	slices.Sort(inTable)
	slices.Sort(inDocument)
	if !slices.Equal(inTable, inDocument) {
		t.Errorf("the table has\n%q, the document\n%q", inTable, inDocument)
	}
	w := s.answer(ask{path: "/v1/openapi.json", authorization: "Bearer " + token})
	if w.Code != 200 || !json.Valid(w.Body.Bytes()) || !bytes.Equal(w.Body.Bytes(), openapiDocument) {
		t.Errorf("served: %d", w.Code)
	}
}

func toList(v any) []any {
	list, _ := v.([]any)
	return list
}

// A document that says anything else than the handlers must not pass.
func TestContractIsHeld(t *testing.T) {
	exchange := func(path string, status int, media, body string) error {
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", media)
		w.WriteHeader(status)
		w.WriteString(body)
		c := newContract()
		return c.hold(httptest.NewRequest("GET", path, nil), "", w)
	}
	for _, tt := range []struct {
		name, path string
		status     int
		media      string
		body       string
		want       string
	}{
		{"as documented", "/healthz", 200, "application/json", `{"alive":true}`, ""},
		{"another status", "/healthz", 201, "application/json", `{"alive":true}`, "status that is not documented"},
		{"a field more", "/healthz", 200, "application/json", `{"alive":true,"x":1}`, "additional"},
		{"a field less", "/healthz", 200, "application/json", `{}`, "missing"},
		{"another value", "/healthz", 200, "application/json", `{"alive":false}`, "must be true"},
		{"another media type", "/healthz", 200, "text/plain", `{"alive":true}`, "Content-Type"},
		{"a path that is not there", "/v2", 200, "application/json", `{}`, "not documented"},
		{"a problem with more", "/healthz", 421, "application/problem+json", `{"title":"x","status":421,"code":7}`, "additional"},
		{"a field of the header less", "/metrics", 401, "application/problem+json", `{"title":"x","status":401}`, "WWW-Authenticate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := exchange(tt.path, tt.status, tt.media, tt.body)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
