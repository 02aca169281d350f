package edgecdn

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "edgecdn"

// arrows says which of our packages a package may import outside its tests,
// beside the leaves; "*" is all.
var arrows = map[string][]string{
	"":                      {},
	"access":                {"route"},
	"admin":                 {},
	"bench":                 {},
	"cache":                 {"route", "cache/store"},
	"cache/store":           {},
	"cache/store/storetest": {"cache/store"},
	"cluster":               {},
	"cmd/edge":              {"*"},
	"cmd/origin":            {"cmd/origin/script"},
	"cmd/origin/script":     {},
	"config":                {"server", "server/gate", "route", "access", "cache", "cache/store", "origin", "admin", "cluster", "dnsgeo"},
	"dnsgeo":                {},
	"e2e":                   {},
	"e2e/relay":             {},
	"internal/authority":    {},
	"internal/unit":         {},
	"pool":                  {},
	"origin":                {"pool", "route", "internal/h1"},
	"purge":                 {"cache"},
	"route":                 {},
	"internal/h1":           {},
	"internal/huffman":      {},
	"server":                {"route", "access", "cache", "server/gate", "server/h1", "server/h2", "server/h3"},
	"server/gate":           {"route", "access", "cache"},
	"server/h1":             {"cache", "server/gate", "internal/h1"},
	"server/h2":             {"cache", "server/gate", "internal/h1", "internal/huffman"},
	"server/h3":             {"cache", "server/gate", "internal/h1", "internal/huffman"},
	"server/wiretest":       {},
}

// leaves may be imported by all; what else is in internal/ may not.
var leaves = []string{"internal/authority", "internal/unit"}

// walls says which packages may import a dependency outside their tests.
var walls = map[string][]string{
	"github.com/quic-go/":            {"server", "server/h3", "cmd/edge", "bench", "e2e"},
	"github.com/dgraph-io/ristretto": {"cache/store"},
	"github.com/hashicorp/":          {"cluster"},
	"github.com/prometheus/":         {"admin", "cmd/edge"},
	"github.com/caddyserver/":        {"server"},
	"github.com/libdns/":             {"server"},
	"github.com/mholt/acmez":         {"server"},
	"go.uber.org/zap":                {"server"},
	"github.com/chromedp/":           {"e2e"},
	"go.yaml.in/yaml":                {"config", "cmd/edge"},
	"github.com/miekg/dns":           {"dnsgeo", "pool", "bench"},
	"github.com/oschwald/maxminddb":  {"dnsgeo"},
	"github.com/phuslu/iploc":        {"dnsgeo"},
	"net/http/pprof":                 {"admin"},
}

// strangers may never be imported by a package, whatever the reason.
var strangers = map[string][]string{
	"cache/store": {"net/http"}, // knows no HTTP
}

const (
	functionLinesMax = 70
	fileLinesMax     = 600
)

var bannedNames = regexp.MustCompile(`^(util|utils|common|helper|helpers|manager|types|models|misc|lib|pkg|base)$`)

type listed struct {
	ImportPath, Dir, Name, Doc                  string
	GoFiles, TestGoFiles, XTestGoFiles, Imports []string
}

// room is the package's path below the module, "" for the root.
func (p listed) room() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

var packages = sync.OnceValues(func() ([]listed, error) {
	out, err := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Name,Doc,GoFiles,TestGoFiles,XTestGoFiles,Imports", "./...").Output()
	if err != nil {
		return nil, err
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p listed
		if err := dec.Decode(&p); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
})

func eachPackage(t *testing.T, check func(listed)) {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	if len(all) < 10 {
		t.Fatalf("go list names %d packages: the rules below would check nothing", len(all))
	}
	for _, p := range all {
		check(p)
	}
}

type source struct {
	room, path string // path is relative to the root
	test       bool
	set        *token.FileSet
	file       *ast.File
	lines      int
}

func (s source) line(n ast.Node) int { return s.set.Position(n.Pos()).Line }

func eachFile(t *testing.T, check func(source)) {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	eachPackage(t, func(p listed) {
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			full := filepath.Join(p.Dir, name)
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, full, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			rel, err := filepath.Rel(root, full)
			if err != nil {
				t.Fatal(err)
			}
			check(source{p.room(), rel, strings.HasSuffix(name, "_test.go"), set, file, set.File(file.Pos()).LineCount()})
		}
	})
}

func TestArrows(t *testing.T) {
	eachPackage(t, func(p listed) {
		allowed, known := arrows[p.room()]
		if !known {
			t.Errorf("%s: a new room: give it its arrows in arch_test.go and its line in doc.go", p.room())
		}
		for _, imported := range p.Imports {
			ours, ok := strings.CutPrefix(imported, module+"/")
			if !ok || slices.Contains(leaves, ours) || slices.Contains(allowed, "*") || slices.Contains(allowed, ours) {
				continue
			}
			t.Errorf("%s imports %s, which its arrows %v do not allow", p.room(), ours, allowed)
		}
	})
}

func TestWalls(t *testing.T) {
	eachPackage(t, func(p listed) {
		for _, imported := range p.Imports {
			for wall, inside := range walls {
				if strings.HasPrefix(imported, wall) && !slices.Contains(inside, p.room()) {
					t.Errorf("%s imports %s, which belongs to %v alone", p.room(), imported, inside)
				}
			}
			if slices.Contains(strangers[p.room()], imported) {
				t.Errorf("%s imports %s, which it must not know", p.room(), imported)
			}
		}
	})
}

// The map in doc.go names every room and no other.
func TestMap(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var onMap []string
	for _, m := range regexp.MustCompile(`(?m)^//   - ([a-z0-9/]+): `).FindAllSubmatch(text, -1) {
		onMap = append(onMap, string(m[1]))
	}
	var rooms []string
	eachPackage(t, func(p listed) {
		if p.room() != "" {
			rooms = append(rooms, p.room())
		}
	})
	slices.Sort(onMap)
	slices.Sort(rooms)
	if !slices.Equal(onMap, rooms) {
		t.Errorf("doc.go names\n%q, the rooms are\n%q", onMap, rooms)
	}
}

func TestPackageComments(t *testing.T) {
	commented := map[string]bool{}
	eachFile(t, func(s source) { commented[s.room] = commented[s.room] || s.file.Doc != nil })
	eachPackage(t, func(p listed) {
		if !commented[p.room()] {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
		if bannedNames.MatchString(path.Base(p.room())) || bannedNames.MatchString(p.Name) {
			t.Errorf("%s: a package is named after its subject", p.ImportPath)
		}
	})
}

func TestSizes(t *testing.T) {
	eachFile(t, func(s source) {
		if s.lines > fileLinesMax {
			t.Errorf("%s has %d lines, more than %d", s.path, s.lines, fileLinesMax)
		}
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || s.test {
				continue
			}
			if n := s.set.Position(f.End()).Line - s.line(f) + 1; n > functionLinesMax {
				t.Errorf("%s:%d: %s has %d lines, more than %d", s.path, s.line(f), f.Name.Name, n, functionLinesMax)
			}
		}
	})
}

func TestFunctions(t *testing.T) {
	eachFile(t, func(s source) {
		for _, decl := range s.file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s:%d: init() hides work from main", s.path, s.line(f))
			}
			if s.test || !strings.HasPrefix(strings.ToLower(f.Name.Name), "new") || f.Body == nil {
				continue
			}
			ast.Inspect(f.Body, func(n ast.Node) bool {
				if _, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s:%d: constructor %s starts a goroutine; that is Run's", s.path, s.line(n), f.Name.Name)
				}
				return true
			})
		}
	})
}

// Sleeping is for bubbles of testing/synctest, where it costs nothing. A test
// file that only helps those in a bubble says so in a comment.
func TestNoSleep(t *testing.T) {
	eachFile(t, func(s source) {
		says := func(c *ast.CommentGroup) bool { return strings.Contains(c.Text(), "synctest bubble") }
		if s.test && (imports(s.file, "testing/synctest") || slices.ContainsFunc(s.file.Comments, says)) {
			return
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && calls(call, "time", "Sleep") {
				t.Errorf("%s:%d: time.Sleep outside a synctest bubble; wait for the condition or the event", s.path, s.line(n))
			}
			return true
		})
	})
}

func TestDeclarations(t *testing.T) {
	eachFile(t, func(s source) {
		for _, decl := range s.file.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					if d.Tok == token.VAR && !s.test {
						checkVariable(t, s, d, spec)
					}
				case *ast.TypeSpec:
					checkType(t, s, spec)
				}
			}
		}
	})
}

// checkVariable lets errors and tables pass: literals, and what is made of
// constants once by a function of the standard library, a literal function, or
// one of ours that is named after it (makeTable, nameTables).
func checkVariable(t *testing.T, s source, d *ast.GenDecl, spec *ast.ValueSpec) {
	embedded := d.Doc != nil && strings.Contains(docText(d.Doc), "//go:embed") ||
		spec.Doc != nil && strings.Contains(docText(spec.Doc), "//go:embed")
	if embedded {
		return
	}
	for i, name := range spec.Names {
		// The linker sets version in a program.
		if name.Name == "_" || name.Name == "version" && s.file.Name.Name == "main" {
			continue
		}
		if len(spec.Values) == 0 || !isTable(spec.Values[min(i, len(spec.Values)-1)]) {
			t.Errorf("%s:%d: package variable %s is neither an error nor a table", s.path, s.line(name), name.Name)
		}
	}
}

func isTable(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CompositeLit:
		return true
	case *ast.UnaryExpr:
		return e.Op == token.AND && isTable(e.X)
	case *ast.CallExpr:
		if _, ok := e.Fun.(*ast.FuncLit); ok {
			return true
		}
		if _, ok := e.Fun.(*ast.ArrayType); ok { // []byte("...")
			return true
		}
		if ours, ok := e.Fun.(*ast.Ident); ok && regexp.MustCompile(`Tables?$`).MatchString(ours.Name) {
			return true
		}
		for _, maker := range [][2]string{
			{"errors", "New"},
			{"fmt", "Errorf"},
			{"regexp", "MustCompile"},
			{"strings", "NewReplacer"},
			{"template", "Must"},
			{"crc32", "MakeTable"},
			{"netip", "MustParsePrefix"},
			{"netip", "MustParseAddr"},
			{"time", "Date"},
		} {
			if calls(e, maker[0], maker[1]) {
				return true
			}
		}
	}
	return false
}

func checkType(t *testing.T, s source, spec *ast.TypeSpec) {
	switch spec.Type.(type) {
	case *ast.FuncType:
		if strings.HasSuffix(strings.ToLower(spec.Name.Name), "option") {
			t.Errorf("%s:%d: %s: a room has one Config struct and no functional options", s.path, s.line(spec), spec.Name.Name)
		}
	case *ast.InterfaceType:
		if name := strings.ToLower(spec.Name.Name); strings.HasSuffix(name, "logger") || strings.HasSuffix(name, "clock") {
			t.Errorf("%s:%d: interface %s: use *slog.Logger and time.Now", s.path, s.line(spec), spec.Name.Name)
		}
	}
}

// Files speak of the project alone: no path of the machine they were written
// on, no host of a package registry, nothing left to be done later.
func TestWords(t *testing.T) {
	words := regexp.MustCompile(strings.Join([]string{
		`(^|[\s"'(=:` + "`" + `])/(work|tmp|root|home)/`, // machine paths
		`proxy\.golang\.` + `org`, `sum\.golang\.` + `org`, `deb\.debian\.` + `org`, `registry\.npmjs\.` + `org`,
		`\b(TO` + `DO|FIX` + `ME)\b`,
	}, "|"))
	checked := 0
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // of another test, and gone by now
			return nil
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch name {
			case ".git", "bin", "data", "dist", "bench/out":
				return filepath.SkipDir
			}
			if strings.HasSuffix(name, "testdata/fuzz") {
				return filepath.SkipDir
			}
			return nil
		}
		if name == ".git" { // of a worktree
			return nil
		}
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || bytes.IndexByte(text, 0) >= 0 || strings.HasSuffix(name, ".sum") || len(text) > 1<<20 {
			return err
		}
		checked++
		for i, line := range strings.Split(string(text), "\n") {
			if found := words.FindString(line); found != "" {
				t.Errorf("%s:%d: %q has no place in a file of the project", name, i+1, strings.TrimSpace(found))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 20 {
		t.Errorf("checked %d files: the rule checks nothing", checked)
	}
}

func docText(group *ast.CommentGroup) string {
	var b strings.Builder
	for _, c := range group.List {
		b.WriteString(c.Text)
	}
	return b.String()
}

func imports(f *ast.File, importPath string) bool {
	return slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"`+importPath+`"` })
}

func calls(call *ast.CallExpr, pkg, name string) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg && sel.Sel.Name == name
}
