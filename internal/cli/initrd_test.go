package cli_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// initrd writes what is in a directory as the kernel takes it: a cpio archive
// (newc).
func initrd(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2)
	dir := ts.MkAbs(args[0])
	var b bytes.Buffer
	add := func(name string, mode uint32, contents []byte) {
		fmt.Fprintf(&b, "070701%08x%08x%032x%08x%032x%08x%08x%s\x00", 1, mode, 0, len(contents), 0, len(name)+1, 0, name)
		b.Write(make([]byte, -b.Len()&3))
		b.Write(contents)
		b.Write(make([]byte, -b.Len()&3))
	}
	ts.Check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			to, err := os.Readlink(path)
			add(name, 0o120777, []byte(to))
			return err
		}
		contents, err := os.ReadFile(path)
		add(name, 0o100000|uint32(info.Mode().Perm()), contents)
		return err
	}))
	add("TRAILER!!!", 0, nil)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o600))
}
