// Cores lists, unpacks and packs the golden cores of testdata/cores:
//
//	go run ./internal/cmd/cores list
//	go run ./internal/cmd/cores unpack deb-t1.thin vmcore
//	go run ./internal/cmd/cores unpack vmx/hsw-default/mini host
//	go run ./internal/cmd/cores pack vmcore testdata/cores/NAME.sparse.gz
//
// Names may begin with golden/. A core that is text is built by unpack. The
// hosts with guests, which are not listed, are NAME.elf.zst.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pkg/errors"
	"github.com/spf13/pflag"

	"vmcsnote/internal/sparse"
	"vmcsnote/internal/testcores"
)

const usage = `usage: cores [--dir DIR] list
       cores [--dir DIR] unpack NAME OUT
       cores pack FILE OUT

`

func main() {
	dir := pflag.StringP("dir", "d", "", "directory of the cores (default: testdata/cores of this module)")
	pflag.Usage = func() {
		fmt.Fprint(os.Stderr, usage)
		pflag.PrintDefaults()
	}
	pflag.Parse()
	switch err := run(*dir, pflag.Args(), os.Stdout); {
	case errors.Is(err, errUsage):
		pflag.Usage()
		os.Exit(2)
	case err != nil:
		fmt.Fprintf(os.Stderr, "cores: error: %v\n", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("wrong usage")

func run(dir string, args []string, w io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "list":
		return list(w, dir)
	case len(args) == 3 && args[0] == "unpack":
		return unpack(dir, args[1], args[2])
	case len(args) == 3 && args[0] == "pack":
		return pack(args[1], args[2])
	}
	return errUsage
}

// list prints name, size and bytes that are not in holes of every core.
func list(w io.Writer, dir string) error {
	dir, err := orDefault(dir)
	if err != nil {
		return err
	}
	names, err := testcores.List(dir)
	if err != nil {
		return err
	}
	goldens, err := testcores.List(filepath.Join(dir, "golden"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, name := range goldens {
		names = append(names, filepath.Join("golden", name))
	}
	for _, name := range names {
		im, err := testcores.Load(dir, name)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%12d %9d  %s\n", im.Size(), im.Data(), name); err != nil {
			return errors.WithStack(err)
		}
	}
	return nil
}

func unpack(dir, name, out string) error {
	dir, err := orDefault(dir)
	if err != nil {
		return err
	}
	im, err := testcores.Load(dir, name)
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return errors.WithStack(err)
	}
	if err := im.Expand(f); err != nil {
		f.Close()
		return err
	}
	return errors.WithStack(f.Close())
}

func pack(file, out string) error {
	f, err := os.Open(file)
	if err != nil {
		return errors.WithStack(err)
	}
	defer f.Close()
	var packed bytes.Buffer
	if err := sparse.Pack(&packed, f); err != nil {
		return err
	}
	return errors.WithStack(os.WriteFile(out, packed.Bytes(), 0o666))
}

func orDefault(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	return testcores.Dir()
}
