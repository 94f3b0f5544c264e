package testcores

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Tool returns the path of an installed program. Without it the test is
// skipped, or fails where VMCSNOTE_CLIENTS=required, as in CI.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	switch {
	case err == nil:
	case os.Getenv("VMCSNOTE_CLIENTS") == "required":
		t.Fatalf("%s is not installed", name)
	default:
		t.Skipf("%s is not installed", name)
	}
	return path
}

// Tools makes links to installed programs in dir, as by [Tool]. With dir as
// PATH a script finds these and no others, whatever the machine has.
func Tools(t testing.TB, dir string, names ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.Symlink(Tool(t, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}
