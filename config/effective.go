package config

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// mask stands for a secret.
const mask = "***"

// Effective returns the configuration as YAML, defaults filled in and secrets
// masked. Where nothing is masked it reads back as the same configuration.
//
// Secret is what came from a file that the environment named (NAME_FILE), and
// the value of a header field that carries credentials by its name.
func (c *Config) Effective() ([]byte, error) {
	out, err := yaml.Dump(c.tree(), yaml.WithIndent(2), yaml.WithLineWidth(-1))
	if err != nil {
		return nil, fmt.Errorf("config: print: %w", err)
	}
	return out, nil
}

// Masked returns what Effective prints as maps, lists and scalars, which encode
// to JSON.
func (c *Config) Masked() (any, error) {
	var out any
	if err := c.tree().Load(&out); err != nil {
		return nil, fmt.Errorf("config: print: %w", err)
	}
	return out, nil
}

func (c *Config) tree() *yaml.Node {
	n := c.node("", reflect.ValueOf(c).Elem())
	if n == nil {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	return n
}

// node returns the YAML of v, or nil for what says nothing: an empty text, a
// false, an absent list.
func (c *Config) node(path string, v reflect.Value) *yaml.Node {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		return c.saidNode(path, v.Elem())
	}
	switch v.Kind() {
	case reflect.Struct:
		return c.structNode(path, v)
	case reflect.Map:
		return c.mapNode(path, v)
	case reflect.Slice:
		if v.IsNil() {
			return nil
		}
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if elem := v.Type().Elem().Kind(); v.Len() == 0 || elem == reflect.String {
			n.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			at := join(path, "["+strconv.Itoa(i)+"]")
			n.Content = append(n.Content, c.saidNode(at, v.Index(i)))
		}
		return n
	}
	if v.IsZero() && v.Type() != reflect.TypeFor[time.Duration]() {
		return nil
	}
	return c.scalarNode(path, v)
}

// saidNode is node for what was said even if it is empty or false.
func (c *Config) saidNode(path string, v reflect.Value) *yaml.Node {
	if n := c.node(path, v); n != nil {
		return n
	}
	return c.scalarNode(path, v)
}

func (c *Config) structNode(path string, v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := range v.NumField() {
		key, inline := yamlKey(v.Type().Field(i))
		switch {
		case inline:
			if inner := c.node(path, v.Field(i)); inner != nil {
				n.Content = append(n.Content, inner.Content...)
			}
		case key != "":
			if value := c.node(join(path, key), v.Field(i)); value != nil {
				n.Content = append(n.Content, text(key), value)
			}
		}
	}
	if n.Content == nil {
		return nil
	}
	return n
}

func (c *Config) mapNode(path string, v reflect.Value) *yaml.Node {
	if v.Len() == 0 {
		return nil
	}
	keys := make(map[string]reflect.Value)
	for _, key := range v.MapKeys() {
		keys[key.String()] = v.MapIndex(key)
	}
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		at := join(path, key)
		n.Content = append(n.Content, text(key), c.saidNode(at, keys[key]))
	}
	return n
}

func (c *Config) scalarNode(path string, v reflect.Value) *yaml.Node {
	if c.secrets[path] || carriesCredentials(path) || strings.HasPrefix(path, "cluster.secrets[") {
		return text(mask)
	}
	if v.Kind() == reflect.Struct {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Style: yaml.FlowStyle}
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return text(string(b))
		}
	}
	switch value := v.Interface().(type) {
	case time.Duration:
		return text(shortDuration(value))
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(value)}
	case float64:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: strconv.FormatFloat(value, 'f', -1, 64)}
	case int:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(value)}
	}
	// A "$" is doubled, so that it is not expanded when this is read again.
	return text(strings.ReplaceAll(v.String(), "$", "$$"))
}

func text(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// shortDuration writes 5m instead of 5m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// carriesCredentials reports whether path is the value of a header field whose
// name says that it is a secret.
func carriesCredentials(path string) bool {
	i := max(strings.LastIndex(path, ".set."), strings.LastIndex(path, ".add."))
	if i < 0 {
		return false
	}
	name := strings.ToLower(path[i+len(".set."):])
	for _, word := range []string{"auth", "cookie", "token", "secret", "password", "key", "signature", "credential"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
