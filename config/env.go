package config

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// secretBytesMax bounds a file that a variable's _FILE names.
const secretBytesMax = 64 << 10

// expand replaces ${NAME} and ${NAME:-default} by the environment's value, and
// $$ by one $; any other $ stands for itself. Where NAME is not set but
// NAME_FILE is, the value is the content of that file without its final line
// ends, as container platforms hand secrets over; the text is secret then. It
// is expanded after the YAML has been parsed, so that no value can add keys.
func expand(text string, env func(string) (string, bool)) (out string, secret bool, err error) {
	if !strings.Contains(text, "$") {
		return text, false, nil
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 {
			b.WriteString(text)
			return b.String(), secret, nil
		}
		b.WriteString(text[:i])
		text = text[i:]
		switch {
		case strings.HasPrefix(text, "$$"):
			b.WriteByte('$')
			text = text[2:]
		case strings.HasPrefix(text, "${"):
			inner, rest, closed := strings.Cut(text[2:], "}")
			if !closed {
				return "", false, fmt.Errorf("%q has no closing brace: write ${NAME}, or $${ for the text ${", text)
			}
			value, isSecret, err := variable(inner, env)
			if err != nil {
				return "", false, err
			}
			b.WriteString(value)
			secret = secret || isSecret
			text = rest
		default:
			b.WriteByte('$')
			text = text[1:]
		}
		if b.Len() > fileBytesMax {
			return "", false, fmt.Errorf("becomes larger than %d MiB", fileBytesMax>>20)
		}
	}
}

// variable looks up NAME or NAME:-default.
func variable(inner string, env func(string) (string, bool)) (value string, secret bool, err error) {
	name, otherwise, hasDefault := strings.Cut(inner, ":-")
	if !isVariable(name) {
		return "", false, fmt.Errorf("${%s} names no variable: write ${NAME} or ${NAME:-default}, or $${ for the text ${", inner)
	}
	value, set := env(name)
	file, fileSet := env(name + "_FILE")
	switch {
	case set && fileSet:
		return "", false, fmt.Errorf("%s and %s_FILE are both set in the environment: set one of them", name, name)
	case fileSet:
		value, err = secretFile(file)
		if err != nil {
			return "", false, fmt.Errorf("%s_FILE: %w", name, err)
		}
		return value, true, nil
	case hasDefault && value == "":
		return otherwise, false, nil
	case !set:
		return "", false, fmt.Errorf("%s is not set in the environment: set it (or %s_FILE), or write ${%s:-default}", name, name, name)
	}
	return value, false, nil
}

func isVariable(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

func secretFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, secretBytesMax+1))
	if err != nil {
		return "", err
	}
	if len(data) > secretBytesMax {
		return "", fmt.Errorf("%s is larger than %d KiB", path, secretBytesMax>>10)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}
