package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The test binary is the program as well when a script calls it edge.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"edge": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"EDGE_ADMIN", "EDGE_TOKEN"} {
				env.Setenv(name, "")
			}
			return os.MkdirAll(filepath.Join(env.WorkDir, "data"), 0o755)
		},
		RequireUniqueNames: true,
	})
}
