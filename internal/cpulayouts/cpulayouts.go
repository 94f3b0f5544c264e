// Package cpulayouts reads the directories that hold layouts of VMCSs by
// processor. A layout depends only on the processor's model and microcode: one
// host of a model finds it out with the kernel module, and all others need the
// file from there, but no module.
//
// A file is the text of a VMCSINFO note with lines CPU_FAMILY, CPU_MODEL,
// CPU_STEPPING and CPU_MICROCODE, in hexadecimal, and CPU_VENDOR for another
// vendor than Intel.
package cpulayouts

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/inputfile"
	"vmcsnote/vmcs"
)

// The directories, below the root.
const (
	OwnDir    = "/etc/vmcsnote/layouts.d"     // a site's own, looked at first
	SharedDir = "/usr/share/vmcsnote/layouts" // a package's
)

// maxFiles bounds the files that are read of a directory.
const maxFiles = 1000

// A File is a layout of a processor.
type File struct {
	Name      string // its path below the root; "" if it has none yet
	Note      elfnote.Note
	Layout    *vmcs.Layout
	Processor vmcs.Processor
}

// ReadFile reads the file at path, in whatever directory.
func ReadFile(path string) (*File, error) {
	b, err := inputfile.ReadAll(path, elfnote.MaxBlob)
	if err != nil {
		return nil, err
	}
	f, err := parse(b)
	return f, inputfile.About(path, err)
}

// parse reads the contents of a file. The error says what they lack.
func parse(b []byte) (*File, error) {
	n, err := elfnote.Wrap(b, elfnote.VMCSInfo, 0, binary.LittleEndian)
	if err != nil {
		return nil, err
	}
	l, err := vmcs.ParseNote(n.Desc)
	if err != nil {
		return nil, err
	}
	f := &File{Note: n, Layout: l, Processor: l.Processor()}
	has := make(map[string]bool)
	for _, fact := range l.Facts {
		has[fact.Key] = true
	}
	for _, key := range []string{"CPU_FAMILY", "CPU_MODEL", "CPU_STEPPING", "CPU_MICROCODE"} {
		if !has[key] {
			return nil, errors.Errorf("no line %s=, expected the processor's family, model, stepping and microcode", key)
		}
	}
	p := f.Processor
	switch {
	case p.RevisionID == 0, p.Family == 0, p.Microcode == 0:
		return nil, errors.New("REVISION_ID, CPU_FAMILY or CPU_MICROCODE is 0, expected those of a processor")
	case p.Family > maxField || p.Model > maxField || p.Stepping > maxField || p.Microcode >= 1<<32:
		return nil, errors.New("CPU_FAMILY, CPU_MODEL, CPU_STEPPING or CPU_MICROCODE is larger than any processor's")
	}
	return f, nil
}

// maxField is more than CPUID can say of family, model and stepping.
const maxField = 0xfff

// Read returns the layouts of both directories below root, a site's own first,
// each in the order of names. bad says why other files cannot be used: among
// them those that another user could have written. A missing directory has no
// layouts. Read ignores files whose names begin with a dot or end with ~.
func Read(root string) (files []*File, bad []error) {
	for _, dir := range []string{OwnDir, SharedDir} {
		list, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				bad = append(bad, err)
			}
			continue
		}
		if len(list) > maxFiles {
			bad = append(bad, errors.Errorf("%s: %d files, of which %d are read", filepath.Join(root, dir), len(list), maxFiles))
			list = list[:maxFiles]
		}
		for _, entry := range list {
			name := filepath.Join(dir, entry.Name())
			if strings.HasPrefix(entry.Name(), ".") || strings.HasSuffix(name, "~") || entry.IsDir() {
				continue
			}
			f, err := readOwn(filepath.Join(root, name))
			if err == nil && !printable(entry.Name()) {
				err = errors.Errorf("%q: expected a name of letters, digits and punctuation", entry.Name())
			}
			if err != nil {
				bad = append(bad, err)
				continue
			}
			f.Name, f.Layout.Name = name, name
			files = append(files, f)
		}
	}
	return files, bad
}

func readOwn(path string) (*File, error) {
	if err := inputfile.CheckOwn(path); err != nil {
		return nil, err
	}
	return ReadFile(path)
}

// printable reports whether a name is one word of ASCII, as a record keeps it.
func printable(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
}

// fileName returns the name for a layout of a processor, as Intel names its
// files of microcode, with the microcode: 06-9e-0d-f4.
func fileName(p vmcs.Processor) string {
	name := fmt.Sprintf("%02x-%02x-%02x-%x", p.Family, p.Model, p.Stepping, p.Microcode)
	if p.Type != "" && printable(p.Type) && !strings.Contains(p.Type, "/") {
		name += "-" + p.Type
	}
	return name
}
