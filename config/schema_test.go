package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
	"golang.org/x/tools/txtar"

	"edgecdn/internal/unit"
)

const schemaFile = "edge.schema.json"

// rooms whose Config is part of ours, by directory.
var roomDirs = []string{".", "../server", "../server/gate", "../admin", "../cluster", "../cache/store", "../origin", "../route", "../dnsgeo", "../pool"}

// reflector reads the doc comments of all rooms.
func reflector(t *testing.T) *jsonschema.Reflector {
	t.Helper()
	r := &jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		ExpandedStruct:             true,
		Anonymous:                  true,
		Mapper:                     scalarSchema,
		Namer: func(typ reflect.Type) string {
			if typ.Name() == "" || typ.Kind() != reflect.Struct {
				return ""
			}
			return path.Base(typ.PkgPath()) + "." + typ.Name()
		},
	}
	for _, dir := range roomDirs {
		if err := r.AddGoComments("edgecdn/config", dir, jsonschema.WithFullComment()); err != nil {
			t.Fatal(err)
		}
	}
	for key, comment := range r.CommentMap {
		r.CommentMap[key] = strings.Join(strings.Fields(comment), " ")
	}
	return r
}

const variablePattern = `\$\{` // any scalar may come from the environment

// scalarSchema describes what the decoder takes for a type.
func scalarSchema(typ reflect.Type) *jsonschema.Schema {
	text := func(pattern string) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern + "|" + variablePattern}
	}
	either := func(a, b *jsonschema.Schema) *jsonschema.Schema {
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{a, b}}
	}
	switch {
	case typ == reflect.TypeFor[time.Duration]():
		return either(text(`^([0-9]*\.?[0-9]+(ns|[uµμ]s|ms|s|m|h))+$|^0$`), &jsonschema.Schema{Const: 0})
	case typ == reflect.TypeFor[unit.Bytes]():
		return either(text(`^ *[0-9]+(\.[0-9]+)? *([kKmMgGtT][iI]?)?[bB]? *$`), &jsonschema.Schema{Type: "integer", Minimum: "0"})
	case typ.Kind() == reflect.String:
		return &jsonschema.Schema{Extras: map[string]any{"type": []string{"string", "number", "boolean"}}}
	case typ.Kind() == reflect.Bool:
		return either(&jsonschema.Schema{Type: "boolean"}, text("^(true|false)$"))
	case typ.Kind() == reflect.Float64:
		return either(&jsonschema.Schema{Type: "number"}, text(`^-?[0-9]*\.?[0-9]+$`))
	case typ.Kind() == reflect.Int:
		return either(&jsonschema.Schema{Type: "integer"}, text("^-?[0-9]+$"))
	}
	return nil
}

// required lists the keys without which a block cannot be used.
var required = map[string][]string{
	"":                   {"server", "hosts"},
	"server.Certificate": {"cert", "key"},
	"admin.Token":        {"name", "sha256", "scopes"},
	"store.DiskConfig":   {"path"},
	"route.Host":         {"names"},
	"route.Path":         {"path"},
	"route.Redirect":     {"to"},
	"dnsgeo.Zone":        {"name"},
	"dnsgeo.Dynamic":     {"name"},
	"dnsgeo.StaticNode":  {"name", "site", "addresses"},
}

func generateSchema(t *testing.T) []byte {
	t.Helper()
	s := reflector(t).ReflectFromType(reflect.TypeFor[Config]())
	s.Title = "edge.yaml"
	s.Description = "Configuration of an edge node."
	s.Required = required[""]
	for name, keys := range required {
		if name == "" {
			continue
		}
		if s.Definitions[name] == nil {
			t.Fatalf("no definition of %s", name)
		}
		s.Definitions[name].Required = keys
	}
	plain, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, plain, "", "  "); err != nil {
		t.Fatal(err)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// fresh compares a generated file with what is committed, or rewrites it.
func fresh(t *testing.T, file string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), string(want)); diff != "" {
		t.Errorf("%s is stale: run go test ./config -update\n%s", file, diff)
	}
}

func TestSchemaIsFresh(t *testing.T) { fresh(t, schemaFile, generateSchema(t)) }

func compileSchema(t *testing.T) *validator.Schema {
	t.Helper()
	doc, err := validator.UnmarshalJSON(bytes.NewReader(generateSchema(t)))
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	if err := c.AddResource(schemaFile, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance reads YAML as the schema's validator wants it.
func instance(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := yaml.Load(text, &v); err != nil {
		t.Fatal(err)
	}
	plain, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := validator.UnmarshalJSON(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSchemaAcceptsWhatParseAccepts(t *testing.T) {
	s := compileSchema(t)
	good := map[string][]byte{}
	for _, file := range []string{"testdata/every-key.yaml", exampleFile} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		good[file] = text
	}
	good["least"] = section(t, "testdata/effective/least.txt", "edge.yaml")
	good["defaults"] = section(t, "testdata/effective/least.txt", "want")
	good["effective"] = section(t, "testdata/effective/full.txt", "want")
	good["environment"] = []byte(`{server: {http: ["${A}"], http3: "${A}", limits: {streams: "${A}", idle_timeout: "${A:-1m}", header_bytes: "${A}"}}, hosts: []}`)
	for name, text := range good {
		if err := s.Validate(instance(t, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func section(t *testing.T, file, name string) []byte {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range archive.Files {
		if part.Name == name {
			return part.Data
		}
	}
	t.Fatalf("%s has no %s", file, name)
	return nil
}

// Whatever is wrong with the shape of a file, both the schema and Parse refuse.
func TestSchemaRefusesWhatParseRefuses(t *testing.T) {
	s := compileSchema(t)
	whole, err := os.ReadFile("testdata/every-key.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, edit := range [][2]string{
		{"node: edge-fra-1", "nod: edge-fra-1"},
		{"node: edge-fra-1", "node: [edge]"},
		{`http: [":80"]`, `http: ":80"`},
		{`https: [":443"]`, `https: {a: b}`},
		{"http3: false", "http3: 1"},
		{"streams: 100", "streams: 1.5"},
		{"streams: 100", "streams: many"},
		{"streams: 100", "steams: 100"},
		{"header_bytes: 16KiB", "header_bytes: 16 parsec"},
		{"header_bytes: 16KiB", "header_bytes: -1"},
		{"header_timeout: 5s", "header_timeout: 5"},
		{"header_timeout: 5s", "header_timeout: 5 seconds"},
		{"      sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n", ""},
		{"      scopes: [purge]\n", ""},
		{"      scopes: [purge]", "      scopes: purge"},
		{"  - names: [www.example.com, \"*.static.example.com\"]\n    origin: web", "  - origin: web"},
		{"names: [www.example.com, \"*.static.example.com\"]", "names: {a: b}"},
		{"sort: true", "sort: sometimes"},
		{"set: {X-Edge: fra}", "set: [X-Edge]"},
		{"        to: https://{host}/new/{rest}?{query}\n", ""},
		{"      - path: /api/*\n        origin: web", "      - origin: web"},
		{"rewrite: {}", "rewrite: {strip: /}"},
	} {
		if !bytes.Contains(whole, []byte(edit[0])) {
			t.Errorf("every-key.yaml has no %q", edit[0])
			continue
		}
		text := bytes.Replace(whole, []byte(edit[0]), []byte(edit[1]), 1)
		if s.Validate(instance(t, text)) == nil {
			t.Errorf("the schema accepts %q", edit[1])
		}
		if _, err := Parse(filepath.Base(schemaFile), text, environment("")); err == nil {
			t.Errorf("Parse accepts %q", edit[1])
		}
	}
	if s.Validate(instance(t, []byte("{}"))) == nil {
		t.Error("the schema accepts nothing at all")
	}
}
