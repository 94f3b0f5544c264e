// Package testcores finds the golden cores of testdata/cores and makes files of
// them, in tests of any package and for internal/cmd/cores. A core's name is
// its file's without the extension; a file NAME.sparse.gz was packed by
// internal/sparse, NAME.core is text for internal/coretext, NAME.elf.zst is the
// dump of a host with guests (not listed). golden/ has what changes to cores
// must give, by names of the tests' own.
package testcores

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/pkg/errors"

	"vmcsnote/internal/coretext"
	"vmcsnote/internal/sparse"
)

const (
	packedExt = ".sparse.gz"
	textExt   = ".core"
	hostExt   = ".elf.zst"
)

// Dir returns testdata/cores of the module that the working directory is in.
func Dir() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", errors.WithStack(err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "testdata", "cores"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.Errorf("no go.mod in %s or above", start)
		}
	}
}

// List returns the names of the cores in dir, sorted. Blobs are among them, as
// NAME.blob.
func List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, errors.WithStack(err)
	}
	var names []string
	for _, entry := range entries {
		for _, ext := range []string{packedExt, textExt} {
			if name, ok := strings.CutSuffix(entry.Name(), ext); ok {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// Load returns the core of that name in dir.
func Load(dir, name string) (*sparse.Image, error) {
	path := filepath.Join(dir, name+packedExt)
	if im, err := loadPacked(path); !errors.Is(err, os.ErrNotExist) {
		return im, err
	}
	path = filepath.Join(dir, name+hostExt)
	if im, err := loadHost(path); !errors.Is(err, os.ErrNotExist) {
		return im, err
	}
	path = filepath.Join(dir, name+textExt)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.Errorf("%s: no core %s (neither %s%s nor %s nor %s)", dir, name, name, packedExt, textExt, hostExt)
	}
	if err != nil {
		return nil, errors.WithStack(err)
	}
	core, err := coretext.Build(text)
	if err != nil {
		return nil, errors.Wrap(err, path)
	}
	return sparse.New(core)
}

func loadHost(path string) (*sparse.Image, error) {
	packed, err := os.ReadFile(path)
	if err != nil {
		return nil, errors.WithStack(err)
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		return nil, errors.WithStack(err)
	}
	defer z.Close()
	core, err := z.DecodeAll(packed, nil)
	if err != nil {
		return nil, errors.Wrap(err, path)
	}
	return sparse.New(core)
}

func loadPacked(path string) (*sparse.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.WithStack(err)
	}
	defer f.Close()
	im, err := sparse.Load(f)
	return im, errors.Wrap(err, path)
}
