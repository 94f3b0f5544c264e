package cpulayouts

import (
	"bytes"
	"io"
	"os"
	"path/filepath"

	"vmcsnote/internal/atomicfile"
)

// Install writes a file into a site's own directory below root, under the name
// of its processor, and returns its path. It replaces a file with different
// contents only if overwrite is set.
func Install(root string, f *File, overwrite bool) (path string, err error) {
	dir := filepath.Join(root, OwnDir)
	path = filepath.Join(dir, fileName(f.Processor))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return path, err
	}
	same := func(r io.Reader) bool {
		was, err := io.ReadAll(io.LimitReader(r, int64(len(f.Note.Desc))+1))
		return err == nil && bytes.Equal(was, f.Note.Desc)
	}
	out, err := atomicfile.Create(path, atomicfile.Options{Mode: 0o644, Overwrite: overwrite, Replace: same, Durable: true})
	if err != nil {
		return path, err
	}
	defer out.Discard()
	if _, err := out.Write(f.Note.Desc); err != nil {
		return path, err
	}
	if err := out.Chmod(0o644); err != nil { // whatever the umask
		return path, err
	}
	return path, out.Finish()
}
