package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// Bounds of a file beside its bytes.
const (
	depthMax  = 32
	valuesMax = 200_000 // after aliases are expanded
	foundMax  = 10_000  // problems that are kept, to tell the first of them
)

// decoder turns YAML nodes into structs and collects problems. It is our own
// because the library stops at the first duplicate key, gives no path, and says
// "cannot construct !!str into int". Its recursion is bounded by the types that
// it decodes into.
type decoder struct {
	name string
	env  func(string) (string, bool)
	// lines holds the line of each key that was read; problems found later are
	// shown at the line of the nearest key that is there.
	lines map[string]int
	// bad holds the paths that a problem was told about, around those above
	// them: what is found there later follows from it.
	bad, around map[string]bool
	secrets     map[string]bool
	problems    []Problem
	more        int // problems that were counted only
	values      int
	fatal       bool // nothing sensible can be said of the rest
}

func newDecoder(name string, env func(string) (string, bool)) *decoder {
	return &decoder{
		name: name, env: env,
		lines: make(map[string]int), bad: make(map[string]bool), around: make(map[string]bool),
		secrets: make(map[string]bool),
	}
}

func (d *decoder) err() error {
	if len(d.problems) == 0 {
		return nil
	}
	return newError(d.problems, d.more)
}

// report takes a problem that was found after decoding.
func (d *decoder) report(path, text string) {
	if d.around[path] {
		return
	}
	line := 0
	for at := path; ; at = parent(at) {
		if d.bad[at] {
			return
		}
		if line == 0 {
			line = d.lines[at]
		}
		if at == "" {
			break
		}
	}
	d.add(Problem{d.name, line, path, text})
}

// problem takes a problem that makes the value at path useless.
func (d *decoder) problem(line int, path, format string, args ...any) {
	d.spoil(path)
	d.add(Problem{d.name, line, path, fmt.Sprintf(format, args...)})
}

func (d *decoder) spoil(path string) {
	if path != "" {
		d.bad[path] = true
	}
	for ; path != ""; path = parent(path) {
		d.around[path] = true
	}
}

func (d *decoder) add(p Problem) {
	if len(d.problems) < foundMax {
		d.problems = append(d.problems, p)
	} else {
		d.more++
	}
}

// document decodes the only document in data into out, a pointer to a struct.
func (d *decoder) document(data []byte, out any) {
	d.fatal = true
	if len(data) > fileBytesMax {
		d.problem(0, "", "is larger than %d MiB, which no configuration is", fileBytesMax>>20)
		return
	}
	var documents []yaml.Node
	limits := loaderlimits.New(loaderlimits.DepthValue(depthMax))
	if err := yaml.Load(data, &documents, yaml.WithAllDocuments(), yaml.WithPlugin(limits)); err != nil {
		d.syntax(err)
		return
	}
	if len(documents) > 1 {
		d.problem(documents[1].Line, "", "a second document begins here: a configuration is one")
		return
	}
	if len(documents) == 0 || len(documents[0].Content) == 0 || isNull(documents[0].Content[0]) {
		d.problem(0, "", "is empty: name at least an origin, a host and where to listen")
		return
	}
	root := documents[0].Content[0]
	if d.wants(root, root.Line, "", yaml.MappingNode) {
		d.fatal = false
		d.decode(root, "", reflect.ValueOf(out).Elem())
	}
}

// syntax reports that the file is no YAML.
func (d *decoder) syntax(err error) {
	line, message := 0, err.Error()
	if at, ok := errors.AsType[*yaml.LoadError](err); ok {
		line, message = at.Mark.Line, at.Message
	}
	d.problem(line, "", "cannot be read as YAML: %s: look at indentation and quotes, here and in the line before",
		strings.TrimPrefix(message, "yaml: "))
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// decode fills out from n, or leaves it where n is null, as after a key whose
// value is commented out.
func (d *decoder) decode(n *yaml.Node, path string, out reflect.Value) {
	if !d.charge(n, path) {
		return
	}
	line := n.Line
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if tag := n.ShortTag(); n.Style&yaml.TaggedStyle != 0 &&
		!slices.Contains([]string{"!!str", "!!int", "!!bool", "!!float", "!!null", "!!map", "!!seq"}, tag) {
		d.problem(line, path, "has the tag %s: leave it out", tag)
		return
	}
	if isNull(n) {
		return
	}
	if out.Kind() == reflect.Pointer {
		out.Set(reflect.New(out.Type().Elem()))
		out = out.Elem()
	}
	switch out.Kind() {
	case reflect.Struct:
		if d.wants(n, line, path, yaml.MappingNode) {
			d.structure(n, path, out, make(map[string]int))
		}
	case reflect.Map:
		if d.wants(n, line, path, yaml.MappingNode) {
			d.mapping(n, path, out)
		}
	case reflect.Slice:
		if d.wants(n, line, path, yaml.SequenceNode) {
			d.sequence(n, path, out)
		}
	default:
		if d.wants(n, line, path, yaml.ScalarNode) {
			d.scalar(n, line, path, out)
		}
	}
}

// charge counts a value and reports whether there may be so many: aliases of
// aliases make millions of a few lines.
func (d *decoder) charge(n *yaml.Node, path string) bool {
	if d.values++; d.values > valuesMax && !d.fatal {
		d.problem(n.Line, path, "is more than %d values, aliases expanded: write less", valuesMax)
		d.fatal = true
	}
	return !d.fatal
}

// wants reports whether n is of a kind, and the problem if it is not.
func (d *decoder) wants(n *yaml.Node, line int, path string, kind yaml.Kind) bool {
	if n.Kind == kind {
		return true
	}
	kinds := map[yaml.Kind]string{
		yaml.MappingNode: "a block of keys", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value",
	}
	text := fmt.Sprintf("must be %s, not %s", kinds[kind], kinds[n.Kind])
	if kind == yaml.SequenceNode && n.Kind == yaml.ScalarNode {
		text += fmt.Sprintf(": write [%s]", n.Value)
	}
	d.problem(line, path, "%s", text)
	return false
}

// structure decodes the pairs of n into the fields of out. Those of merge keys
// ("<<") come first, so that the block's own replace them.
func (d *decoder) structure(n *yaml.Node, path string, out reflect.Value, seen map[string]int) {
	fields := fieldsOf(out)
	for key, value := range d.pairs(n, path, seen) {
		at := join(path, key.Value)
		d.lines[at] = key.Line
		field, known := fields[key.Value]
		if !known {
			d.unknown(key, at, fields)
			continue
		}
		field.SetZero()
		d.decode(value, at, field)
	}
}

func (d *decoder) mapping(n *yaml.Node, path string, out reflect.Value) {
	out.Set(reflect.MakeMap(out.Type()))
	for key, value := range d.pairs(n, path, make(map[string]int)) {
		at := join(path, key.Value)
		d.lines[at] = key.Line
		element := reflect.New(out.Type().Elem()).Elem()
		d.decode(value, at, element)
		out.SetMapIndex(reflect.ValueOf(key.Value), element)
	}
}

func (d *decoder) sequence(n *yaml.Node, path string, out reflect.Value) {
	out.Set(reflect.MakeSlice(out.Type(), 0, min(len(n.Content), 1024)))
	for i, item := range n.Content {
		at := join(path, "["+strconv.Itoa(i)+"]")
		d.lines[at] = item.Line
		element := reflect.New(out.Type().Elem()).Elem()
		d.decode(item, at, element)
		if d.fatal {
			return
		}
		out.Set(reflect.Append(out, element))
	}
}

// pairs yields the keys and values of a mapping, merged ones first, and reports
// what is no key and what is there twice.
func (d *decoder) pairs(n *yaml.Node, path string, seen map[string]int) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if isMerge(n.Content[i]) && !d.merged(n.Content[i+1], path, 0, yield) {
				return
			}
		}
		for i := 0; i+1 < len(n.Content) && !d.fatal; i += 2 {
			key := n.Content[i]
			if isMerge(key) {
				continue
			}
			if key.Kind != yaml.ScalarNode {
				d.add(Problem{d.name, key.Line, path, "has a key that is not a single word"})
				continue
			}
			if first, ok := seen[key.Value]; ok {
				d.problem(key.Line, join(path, key.Value), "is given twice, first in line %d: keep one of them", first)
				continue
			}
			seen[key.Value] = key.Line
			if !yield(key, n.Content[i+1]) {
				return
			}
		}
	}
}

func isMerge(key *yaml.Node) bool { return key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge" }

// merged yields what a merge key brings in: a mapping, or a list of them of
// which the first wins.
func (d *decoder) merged(n *yaml.Node, path string, depth int, yield func(key, value *yaml.Node) bool) bool {
	line := n.Line
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case depth > depthMax:
		d.problem(line, path, "merges too deeply, or itself")
		d.fatal = true
		return false
	case !d.charge(n, path):
		return false
	case n.Kind == yaml.SequenceNode:
		for _, item := range slices.Backward(n.Content) {
			if !d.merged(item, path, depth+1, yield) {
				return false
			}
		}
	case n.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if isMerge(n.Content[i]) && !d.merged(n.Content[i+1], path, depth+1, yield) {
				return false
			}
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind == yaml.ScalarNode && !isMerge(key) && !yield(key, n.Content[i+1]) {
				return false
			}
		}
	default:
		d.problem(line, path, "merges (<<) what is not a block of keys")
	}
	return true
}

func (d *decoder) unknown(key *yaml.Node, path string, fields map[string]reflect.Value) {
	var names []string
	for name := range fields {
		names = append(names, name)
	}
	if near := nearest(key.Value, names); near != "" {
		d.problem(key.Line, path, "there is no such key: did you mean %s?", near)
		d.spoil(join(parent(path), near))
		return
	}
	slices.Sort(names)
	d.problem(key.Line, path, "there is no such key: here are %s", strings.Join(names, ", "))
}

// fieldsOf returns the fields of a struct by yaml key, those of inlined structs
// among them.
func fieldsOf(v reflect.Value) map[string]reflect.Value {
	fields := make(map[string]reflect.Value)
	for i := range v.NumField() {
		key, inline := yamlKey(v.Type().Field(i))
		if inline {
			for name, field := range fieldsOf(v.Field(i)) {
				fields[name] = field
			}
		} else if key != "" {
			fields[key] = v.Field(i)
		}
	}
	return fields
}

// yamlKey returns the key of a field, "" for one that is not in files.
func yamlKey(f reflect.StructField) (key string, inline bool) {
	key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if key == "-" || !f.IsExported() {
		return "", false
	}
	return key, options == "inline"
}

// scalar decodes text by the type that is wanted, however it is quoted: a value
// from the environment is text like any other.
func (d *decoder) scalar(n *yaml.Node, line int, path string, out reflect.Value) {
	text, secret, err := expand(n.Value, d.env)
	if err != nil {
		d.problem(line, path, "%s", err)
		return
	}
	if secret {
		d.secrets[path] = true
	}
	if problem := setScalar(out, text); problem != "" {
		d.problem(line, path, "%s", problem)
	}
}

func setScalar(out reflect.Value, text string) (problem string) {
	if u, ok := out.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return err.Error()
		}
		return ""
	}
	if out.Type() == reflect.TypeFor[time.Duration]() {
		value, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Sprintf("%q is not a duration: write numbers with units, such as 500ms, 10s, 5m or 1h30m", text)
		}
		out.SetInt(int64(value))
		return ""
	}
	switch out.Kind() {
	case reflect.String:
		out.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Sprintf("%q is neither true nor false", text)
		}
		out.SetBool(text == "true")
	case reflect.Int:
		value, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Sprintf("%q is not a whole number", text)
		}
		out.SetInt(value)
	case reflect.Float64:
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
			return fmt.Sprintf("%q is not a number", text)
		}
		out.SetFloat(value)
	default:
		return "cannot be read from a file" // the test of the types keeps this from happening
	}
	return ""
}
