package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"edgecdn/internal/unit"
)

const (
	referenceFile = "../docs/configuration.md"
	exampleFile   = "../deploy/edge.yaml"
	beginKeys     = "<!-- keys: written by go test ./config -update -->\n"
	endKeys       = "<!-- end of keys -->\n"
)

// key is one key of the configuration. In its path "[]" stands for any index
// and "NAME" for any key of a map.
type key struct {
	path, comment string
	typ           reflect.Type
	seen          string // the path at which the keys below have been listed before
}

// keys lists all keys in the order of the types.
func keys(t *testing.T) []key {
	comments := reflector(t).CommentMap
	listed := make(map[reflect.Type]string)
	var all []key
	var walk func(at string, typ reflect.Type)
	below := func(at string, typ reflect.Type) (string, reflect.Type) {
		for {
			switch typ.Kind() {
			case reflect.Pointer:
				typ = typ.Elem()
			case reflect.Slice:
				at, typ = at+"[]", typ.Elem()
			case reflect.Map:
				at, typ = at+".NAME", typ.Elem()
			default:
				return at, typ
			}
		}
	}
	walk = func(at string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, inline := yamlKey(f)
			if inline {
				walk(at, f.Type)
			}
			if name == "" {
				continue
			}
			k := key{path: join(at, name), typ: f.Type, comment: comments[typ.PkgPath()+"."+typ.Name()+"."+f.Name]}
			if k.comment == "" {
				t.Errorf("%s has no doc comment", k.path)
			}
			if rest, ok := strings.CutPrefix(k.comment, f.Name); ok && (rest == "" || strings.IndexByte(" ,:", rest[0]) >= 0) {
				k.comment = "`" + name + "`" + rest
			}
			inner, element := below(k.path, f.Type)
			if element.Kind() == reflect.Struct {
				k.seen = listed[element]
			}
			all = append(all, k)
			if element.Kind() == reflect.Struct && k.seen == "" {
				listed[element] = k.path
				walk(inner, element)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	return all
}

// kind says in words what is written for a type.
func kind(typ reflect.Type) string {
	switch {
	case typ == reflect.TypeFor[time.Duration]():
		return "duration, such as `500ms`, `10s`, `1h30m`"
	case typ == reflect.TypeFor[unit.Bytes]():
		return "size, such as `4096`, `64MiB`, `10GB`"
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return kind(typ.Elem())
	case reflect.Struct:
		return "block"
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Struct {
			return "list of blocks"
		}
		return "list of texts"
	case reflect.Map:
		if typ.Elem().Kind() == reflect.Struct {
			return "blocks by name"
		}
		return "texts by name"
	case reflect.Bool:
		return "`true` or `false`"
	case reflect.Int:
		return "whole number"
	}
	return "text"
}

// find returns the value at a path of keys, in the first item of each list and
// map that has it.
func find(n *yaml.Node, at []string) *yaml.Node {
	if n.Kind == yaml.DocumentNode {
		return find(n.Content[0], at)
	}
	if len(at) == 0 {
		return n
	}
	for i, item := range n.Content {
		var found *yaml.Node
		switch {
		case n.Kind == yaml.SequenceNode && at[0] == "[]":
			found = find(item, at[1:])
		case n.Kind == yaml.MappingNode && i%2 == 0 && (item.Value == at[0] || at[0] == "NAME"):
			found = find(n.Content[i+1], at[1:])
		}
		if found != nil {
			return found
		}
	}
	return nil
}

func lookUp(n *yaml.Node, path string) *yaml.Node {
	return find(n, strings.Split(strings.ReplaceAll(path, "[]", ".[]"), "."))
}

func parsed(t *testing.T, text []byte) *yaml.Node {
	t.Helper()
	var n yaml.Node
	if err := yaml.Load(text, &n); err != nil {
		t.Fatal(err)
	}
	return &n
}

// short returns the YAML of a node on one line, "" for what needs several.
func short(t *testing.T, n *yaml.Node) string {
	t.Helper()
	if n == nil || n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle == 0 ||
		n.Kind == yaml.SequenceNode && (n.Style&yaml.FlowStyle == 0) {
		return ""
	}
	out, err := yaml.Dump(n, yaml.WithLineWidth(-1))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

var sentence = regexp.MustCompile(`\bDefault:? (.+?)(\. |\.$)`)

func reference(t *testing.T) []byte {
	examples, err := os.ReadFile("testdata/every-key.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("every-key.yaml", examples, environment("")); err != nil {
		t.Error(err)
	}
	example := parsed(t, examples)
	defaults := parsed(t, defaultsOf(t))
	var out bytes.Buffer
	for _, k := range keys(t) {
		leaf := k.path[strings.LastIndexByte(k.path, '.')+1:]
		value := short(t, lookUp(defaults, k.path))
		match := sentence.FindStringSubmatch(k.comment)
		fmt.Fprintf(&out, "%s `%s`\n\n%s\n\n- Type: %s.", heading(k.path), k.path, prose(k, match, value), kind(k.typ))
		if k.seen != "" {
			fmt.Fprintf(&out, " Its keys are those of `%s`.", k.seen)
		}
		out.WriteString("\n")
		switch {
		case strings.HasPrefix(k.path, "hosts[].routes[].") && leaf != "path":
			out.WriteString("- Default: what the host says.\n")
		case value != "" && match != nil && !strings.Contains(match[1], value) && !strings.Contains(value, match[1]) && !sameDuration(match[1], value):
			t.Errorf("%s: its comment says default %s, but it is %s", k.path, match[1], value)
		case value != "":
			fmt.Fprintf(&out, "- Default: `%s`.\n", value)
		case match != nil:
			fmt.Fprintf(&out, "- Default: %s.\n", match[1])
		}
		if needsRestart(k.path) {
			out.WriteString("- A change wants a restart; a reload with it is refused.\n")
		} else if strings.Contains(k.comment, "wants a restart") && !partlyRestart(k.path) {
			t.Errorf("%s: its comment says that a change wants a restart, but the table in reload.go does not", k.path)
		}
		n := lookUp(example, k.path)
		if n == nil {
			t.Errorf("testdata/every-key.yaml has no %s", k.path)
		} else if text := short(t, n); text != "" {
			fmt.Fprintf(&out, "- Example: `%s: %s`\n", leaf, text)
		}
		out.WriteString("\n")
	}
	return out.Bytes()
}

// prose returns the comment without what the list below it says again.
func prose(k key, match []string, value string) string {
	text := k.comment
	if match != nil && (value == "" || value == match[1] || sameDuration(match[1], value)) {
		text = strings.Replace(text, match[0], "", 1)
	}
	if needsRestart(k.path) {
		text = strings.Replace(text, "A change wants a restart.", "", 1)
	}
	return strings.TrimSpace(text)
}

// defaultsOf returns what is in force where as little as possible is said.
func defaultsOf(t *testing.T) []byte {
	text := `server: {http: [":80"]}
origins: {web: {url: "http://127.0.0.1:9000"}}
hosts: [{names: ["*"], origin: web, redirects: [{to: "https://{host}{target}"}], cache: {freshness: [{lifetime: 1s}]}}]
`
	c, err := Parse("least", []byte(text), environment(""))
	if err != nil {
		t.Fatal(err)
	}
	full, err := c.Effective()
	if err != nil {
		t.Fatal(err)
	}
	said := []string{`http: [':80']`, `url: http://127.0.0.1:9000`, `names: ['*']`, `to: https://{host}{target}`, `lifetime: 1s`, `origin: web`}
	var out []string
	for line := range strings.Lines(string(full)) {
		// What was said is no default.
		if !slices.ContainsFunc(said, func(s string) bool { return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "- ")) == s }) {
			out = append(out, line)
		} else if indent, _, ok := strings.Cut(line, "- "); ok {
			out = append(out, indent+"- said: true\n")
		}
	}
	return []byte(strings.Join(out, ""))
}

func sameDuration(comment, value string) bool {
	a, errA := time.ParseDuration(comment)
	b, errB := time.ParseDuration(value)
	return errA == nil && errB == nil && a == b
}

// heading is deeper for deeper keys, up to what Markdown has.
func heading(path string) string {
	return strings.Repeat("#", min(3+strings.Count(path, "."), 6))
}

func needsRestart(path string) bool {
	return slices.ContainsFunc(restart, func(r string) bool {
		return path == r || strings.HasPrefix(path, r+".") || strings.HasPrefix(path, r+"[")
	})
}

// partlyRestart reports whether all or some of the keys below path need one.
func partlyRestart(path string) bool {
	return slices.ContainsFunc(restart, func(r string) bool { return strings.HasPrefix(r, path+".") })
}

// The reference has a section for each key and for no other.
func TestReferenceIsFresh(t *testing.T) {
	text, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), beginKeys)
	_, after, ok2 := strings.Cut(rest, endKeys)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the keys", referenceFile)
	}
	fresh(t, referenceFile, []byte(before+beginKeys+"\n"+string(reference(t))+endKeys+after))
}

// Whole configurations in the reference are valid, and what it shows of
// messages is what is said.
func TestReferenceExamples(t *testing.T) {
	text, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```\n(?:\n```text\n(.*?)```\n)?").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 3 {
		t.Fatalf("%d examples", len(blocks))
	}
	for _, block := range blocks {
		_, err := Parse("edge.yaml", []byte(block[1]), environment("ORIGIN=http://127.0.0.1:9000\nAPI_KEY=k"))
		if want := strings.TrimSpace(block[2]); err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("%s\n%v, want %s", block[1], err, want)
		}
	}
}

func TestDeployedExample(t *testing.T) {
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(exampleFile, text, environment("")); err != nil {
		t.Error(err)
	}
	// Each line that is commented out is right too, when it is not.
	bare := regexp.MustCompile(`(?m)^(\s*)#: `).ReplaceAll(text, []byte("$1"))
	if bytes.Equal(bare, text) {
		t.Fatal("nothing is commented out")
	}
	if _, err := Parse(exampleFile, bare, environment("")); err != nil {
		t.Errorf("without the comments: %v", err)
	}
}

// Configuration that a document shows has keys that are there, and values of their
// kinds. What it leaves out is not missed: most show a part.
func TestDocumentsShowRealKeys(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range append(files, "../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllSubmatch(text, -1) {
			if bytes.HasPrefix(block[1], []byte("scrape_configs:")) || bytes.Contains(block[1], []byte("htp:")) {
				continue // Prometheus's; and the one that shows what mistakes look like
			}
			n++
			d := newDecoder(file, func(name string) (string, bool) { return "1", !strings.HasSuffix(name, "_FILE") })
			d.document(block[1], new(Config))
			if err := d.err(); err != nil {
				t.Errorf("%v\nin\n%s", err, block[1])
			}
		}
	}
	if n < 5 {
		t.Errorf("%d configurations were found: the test looks in the wrong place", n)
	}
}
