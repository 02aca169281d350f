package config

import (
	"encoding"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"

	"edgecdn/internal/unit"
)

var update = flag.Bool("update", false, "rewrite golden files, the schema and the reference")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// environment reads NAME=value lines.
func environment(lines string) func(string) (string, bool) {
	vars := make(map[string]string)
	for line := range strings.Lines(lines) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		vars[name] = value
	}
	return func(name string) (string, bool) { value, ok := vars[name]; return value, ok }
}

// golden runs each file of a directory: its edge.yaml, with its env, must give
// its want.
func golden(t *testing.T, dir string, got func(data []byte, env func(string) (string, bool)) string) {
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := make(map[string]string)
			for _, part := range archive.Files {
				parts[part.Name] = string(part.Data)
			}
			text := got([]byte(parts["edge.yaml"]), environment(parts["env"]))
			if !strings.HasSuffix(text, "\n") {
				text += "\n"
			}
			if !*update {
				if diff := cmp.Diff(parts["want"], text); diff != "" {
					t.Error(diff)
				}
				return
			}
			if last := len(archive.Files) - 1; archive.Files[last].Name == "want" {
				archive.Files = archive.Files[:last]
			}
			archive.Files = append(archive.Files, txtar.File{Name: "want", Data: []byte(text)})
			if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	golden(t, "errors", func(data []byte, env func(string) (string, bool)) string {
		_, err := Parse("edge.yaml", data, env)
		if err == nil {
			t.Fatal("no error")
		}
		if _, ok := err.(*Error); !ok {
			t.Errorf("error is a %T", err)
		}
		return err.Error()
	})
}

func TestEffective(t *testing.T) {
	golden(t, "effective", func(data []byte, env func(string) (string, bool)) string {
		c, err := Parse("edge.yaml", data, env)
		if err != nil {
			t.Fatal(err)
		}
		text, err := c.Effective()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("effective", text, env)
		if err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
		// Only what is masked differs.
		for i := range c.Hosts {
			if _, ok := c.Hosts[i].Request.Set["Authorization"]; ok {
				c.Hosts[i].Request.Set["Authorization"] = mask
				c.Hosts[i].Request.Set["X-From-File"] = mask
			}
		}
		if diff := cmp.Diff(c, again, cmpopts.IgnoreUnexported(Config{})); diff != "" {
			t.Errorf("printed and read again: %s", diff)
		}
		masked, err := c.Masked()
		if err != nil {
			t.Fatal(err)
		}
		if out, err := json.Marshal(masked); err != nil || !strings.Contains(string(out), `"listen"`) || strings.Contains(string(out), "sEcReT") {
			t.Errorf("as JSON: %s, %v", out, err)
		}
		return string(text)
	})
}

func TestValues(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/effective/full.txt")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("edge.yaml", archive.Files[1].Data, environment(string(archive.Files[0].Data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, got, want any }{
		{"environment", c.Server.Limits.Streams, 64},
		{"empty variable", c.Hosts[0].Request.Set["X-Empty"], ""},
		{"file of a variable", c.Hosts[0].Request.Set["X-From-File"], "sEcReT"},
		{"dollars", c.Hosts[0].Request.Set["X-Plain"], "costs $5 and $5 and ${HOME}"},
		{"default of a variable", c.Origins["web"].URL, "http://127.0.0.1:9000"},
		{"merged", c.Origins["api"].Connections, 8},
		{"merged and replaced", c.Origins["api"].URL, "https://api.example.net"},
		{"size", c.Store.Memory.Bytes, unit.GiB},
		{"duration", c.Server.Limits.IdleTimeout, 90 * time.Minute},
		{"room's default", c.Server.Limits.Handlers, 10000},
		{"no disk tier", len(c.Store.Disk), 0},
		{"data", c.Server.Data, "/var/lib/edge"},
		{"off", c.Server.AccessLog.Format, "off"},
		{"status as a number", c.Hosts[0].Cache.Freshness[1].Status[0], "404"},
		{"null after a merge", c.Hosts[0].Routes[2].Cache.MaxBytes, unit.Bytes(0)},
	} {
		if !reflect.DeepEqual(test.got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, test.got, test.want)
		}
	}
	if len(c.Hash()) != 64 {
		t.Errorf("hash %q", c.Hash())
	}
}

func TestTryOut(t *testing.T) {
	c, err := TryOut("http://127.0.0.1:9000", "", "off", "127.0.0.1:9999", "d")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Server.HTTPS) != 0 || c.Server.HTTP[0] != "127.0.0.1:8080" || c.Admin.Listen != "127.0.0.1:9999" ||
		c.Store.Disk[0].Path != "d/cache" || c.Server.Data != "d" || c.Hosts[0].Names[0] != "*" || len(c.Hash()) != 64 {
		t.Errorf("%+v", c)
	}
	if _, ok := c.Origins[c.Hosts[0].Origin]; !ok {
		t.Errorf("no origin %q", c.Hosts[0].Origin)
	}
	_, err = TryOut("127.0.0.1:9000", "8080", "", "", "")
	want := `flags: server.http[0]: "8080" is no address: write host:port, such as 127.0.0.1:8080, [::1]:8080 or :8080
flags: origins.default.url: "127.0.0.1:9000" is not a URL: write one such as http://127.0.0.1:9000`
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

func TestLoad(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "edge.yaml")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("missing file: %v", err)
	}
	large := filepath.Join(t.TempDir(), "large.yaml")
	if err := os.WriteFile(large, []byte(strings.Repeat("#\n", fileBytesMax/2+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(large); err == nil || !strings.HasSuffix(err.Error(), "is larger than 4 MiB, which no configuration is") {
		t.Errorf("large file: %v", err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, make([]byte, secretBytesMax+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := expand("${A}", environment("A_FILE="+secret)); err == nil || !strings.Contains(err.Error(), "larger than 64 KiB") {
		t.Errorf("large secret: %v", err)
	}
}

// Every type that the configuration is made of can be decoded, has a yaml key,
// and does not hold itself.
func TestTypes(t *testing.T) {
	var check func(path string, typ reflect.Type, depth int)
	check = func(path string, typ reflect.Type, depth int) {
		if depth > 16 {
			t.Fatalf("%s: holds itself", path)
		}
		if reflect.PointerTo(typ).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
			return
		}
		switch typ.Kind() {
		case reflect.Struct:
			for i := range typ.NumField() {
				f := typ.Field(i)
				if key, inline := yamlKey(f); f.IsExported() && f.Tag.Get("yaml") == "" {
					t.Errorf("%s: field %s has no yaml key", path, f.Name)
				} else if inline {
					check(path, f.Type, depth+1)
				} else if key != "" {
					check(join(path, key), f.Type, depth+1)
				}
			}
		case reflect.Pointer, reflect.Slice:
			check(path, typ.Elem(), depth+1)
		case reflect.Map:
			if typ.Key().Kind() != reflect.String {
				t.Errorf("%s: keys are no strings", path)
			}
			check(path, typ.Elem(), depth+1)
		case reflect.String, reflect.Bool, reflect.Int, reflect.Float64:
		default:
			if typ != reflect.TypeFor[time.Duration]() {
				t.Errorf("%s: a %s cannot be decoded", path, typ)
			}
		}
	}
	check("", reflect.TypeFor[Config](), 0)
}

func TestNearest(t *testing.T) {
	words := []string{"http", "https", "limits", "origin", "path", "to"}
	for word, want := range map[string]string{
		"htp": "http", "htps": "https", "hppts": "https", "lmits": "limits", "Origin": "origin", "orgiin": "origin", "pth": "path",
		"xy": "", "unlike": "", "t": "to", "": "",
	} {
		if got := nearest(word, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
	if nearest(strings.Repeat("x", 1<<20), words) != "" {
		t.Error("a long word is near")
	}
}

func FuzzParse(f *testing.F) {
	for _, dir := range []string{"errors", "effective"} {
		err := fs.WalkDir(os.DirFS(filepath.Join("testdata", dir)), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || name == "bomb.txt" {
				return err
			}
			archive, err := txtar.ParseFile(filepath.Join("testdata", dir, name))
			for _, part := range archive.Files {
				if part.Name == "edge.yaml" {
					f.Add(string(part.Data))
				}
			}
			return err
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	env := environment("A=1\nB=")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("edge.yaml", []byte(text), env)
		if err != nil {
			e, ok := err.(*Error)
			if !ok || len(e.Problems) == 0 || len(e.Problems) > problemsMax {
				t.Fatalf("%T: %v", err, err)
			}
			for i, p := range e.Problems {
				if p.File != "edge.yaml" || p.Text == "" || p.Line < 0 || p.Line > 2+strings.Count(text, "\n")+strings.Count(text, "\r") ||
					i > 0 && p.Line < e.Problems[i-1].Line {
					t.Errorf("problem %d: %+v", i, p)
				}
			}
			return
		}
		out, err := c.Effective()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("edge.yaml", out, env); err != nil && !strings.Contains(string(out), mask) {
			t.Errorf("%s\nwas printed as\n%s\nwhich cannot be read: %v", text, out, err)
		}
	})
}
