package testcores

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vmcsnote/internal/sparse"
)

var update = flag.Bool("update", false, "rewrite the golden files instead of comparing with them")

// maxBytes bounds the cores that Bytes returns: a thin core has hundreds of MB,
// which belong in a sparse file.
const maxBytes = 16 << 20

// Update reports whether the test binary was run with -update.
func Update() bool { return *update }

// Names returns the names of the cores that match a pattern of
// [filepath.Match], at least one.
func Names(t testing.TB, pattern string) []string {
	t.Helper()
	all, err := List(dir(t))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, name := range all {
		if ok, err := filepath.Match(pattern, name); err != nil {
			t.Fatal(err)
		} else if ok {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.Fatalf("no core matches %q", pattern)
	}
	return names
}

// Image returns the named core. It is unpacked once: many tests of a package
// look at the same few.
func Image(t testing.TB, name string) *sparse.Image {
	t.Helper()
	path := filepath.Join(dir(t), name)
	load, _ := images.LoadOrStore(path, sync.OnceValues(func() (*sparse.Image, error) {
		return Load(filepath.Dir(path), filepath.Base(path))
	}))
	im, err := load.(func() (*sparse.Image, error))()
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// images are the cores that Image has returned, by path.
var images sync.Map

// Open makes a file of the named core, sparse, in a directory of the test's
// own, and returns its path.
func Open(t testing.TB, name string) string {
	t.Helper()
	im := Image(t, name)
	f, err := os.Create(filepath.Join(t.TempDir(), filepath.Base(name)))
	if err != nil {
		t.Fatal(err)
	}
	if err := im.Expand(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// Bytes returns all of the named core, which has 16 MiB at most.
func Bytes(t testing.TB, name string) []byte {
	t.Helper()
	im := Image(t, name)
	if im.Size() > maxBytes {
		t.Fatalf("core %s has %d bytes: too many for Bytes, use Open", name, im.Size())
	}
	b := make([]byte, im.Size())
	if _, err := im.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// Pair returns what /sys/kernel/vmcsinfo said in the kernel that the named core
// is of: deb-t1.pair for deb-t1.thin.
func Pair(t testing.TB, name string) string {
	t.Helper()
	pair, err := os.ReadFile(filepath.Join(dir(t), kernel(name)+".pair"))
	if err != nil {
		t.Fatal(err)
	}
	return string(pair)
}

// Blob returns the memory that the pair points to: the note and the zero fill
// after it.
func Blob(t testing.TB, name string) []byte {
	t.Helper()
	return Bytes(t, kernel(name)+".blob")
}

// kernel returns what the files of one kernel have in common: deb-t1 of
// deb-t1.thin.
func kernel(name string) string {
	name, _, _ = strings.Cut(name, ".")
	return name
}

// Same compares the whole file at path with the named core.
func Same(t testing.TB, path, name string) {
	t.Helper()
	if d := diff(t, path, Image(t, name)); d != nil {
		t.Errorf("%s is not the core %s: %v", path, name, d)
	}
}

// Golden compares the whole file at path with golden/NAME.sparse.gz, or with
// -update writes that file.
func Golden(t testing.TB, path, name string) {
	t.Helper()
	golden(t, dir(t), path, name, *update)
}

// HasGolden reports whether there is a golden/NAME.sparse.gz.
func HasGolden(t testing.TB, name string) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(dir(t), "golden", name+packedExt))
	return err == nil
}

func golden(t testing.TB, dir, path, name string, update bool) {
	t.Helper()
	file := filepath.Join(dir, "golden", name+packedExt)
	if update {
		got := scan(t, path)
		var packed bytes.Buffer
		if err := got.Save(&packed); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, packed.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := loadPacked(file)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if d := diff(t, path, want); d != nil {
		t.Errorf("%s is not golden/%s: %v", path, name, d)
	}
}

func diff(t testing.TB, path string, want *sparse.Image) *sparse.Difference {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := sparse.DiffFile(f, want)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func scan(t testing.TB, path string) *sparse.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	im, err := sparse.Scan(f)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func dir(t testing.TB) string {
	t.Helper()
	dir, err := Dir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
