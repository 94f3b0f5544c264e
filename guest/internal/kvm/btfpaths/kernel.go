package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/internal/unpack"
	"vmcsnote/linux"
)

// A kernel is the types of one that is not in memory.
type kernel struct {
	release string
	modules bool // have BTF of their own
	types   map[string]*linux.BTF
	files   map[string]string // of modules
	svm     *linux.BTF        // has struct vmcb: kvm-amd's, or those of vmcb.o
}

// short returns the version without the distribution's part.
func (k *kernel) short() string {
	s, _, _ := strings.Cut(k.release, "-")
	s, _, _ = strings.Cut(s, "+")
	return s
}

// open reads the types of a kernel and its modules below dir.
func open(dir string) (*kernel, error) {
	k := &kernel{types: map[string]*linux.BTF{}, files: map[string]string{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _, _ := strings.Cut(d.Name(), ".ko")
		switch {
		case d.IsDir():
		case d.Name() == "vmlinuz" || strings.HasPrefix(d.Name(), "vmlinuz-"):
			k.release = strings.TrimPrefix(d.Name(), "vmlinuz-")
			if k.release == "vmlinuz" { // lib/modules/RELEASE/vmlinuz
				k.release = filepath.Base(filepath.Dir(path))
			}
			b, err := vmlinux(path)
			if err != nil {
				return err
			}
			k.types[""], err = types(b, nil)
			return err
		case d.Name() == "vmcb.o": // the kernel's header, compiled
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			k.svm, err = types(b, nil)
			return err
		case name != d.Name() && (name == "kvm" || name == "kvm-intel" || name == "kvm-amd"):
			k.files[name] = path
		}
		return nil
	})
	if err == nil && k.types[""] == nil {
		err = errors.New("no vmlinuz below it has BTF")
	}
	if err != nil {
		return nil, err
	}
	for name, path := range k.files {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if b, err = unpacked(b); err != nil {
			return nil, errors.WithMessage(err, path)
		}
		t, err := types(b, k.types[""])
		if err != nil {
			return nil, errors.WithMessage(err, path)
		}
		if t != nil {
			k.types[name], k.modules = t, true
		}
	}
	if t := k.types["kvm-amd"]; t != nil {
		k.svm = t
	}
	return k, nil
}

// types returns the types of an ELF file, nil if it has none.
func types(file []byte, base *linux.BTF) (*linux.BTF, error) {
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	s := f.Section(".BTF")
	if s == nil {
		return nil, nil
	}
	b, err := s.Data()
	if err != nil {
		return nil, err
	}
	return linux.ParseBTF(b, base)
}

// vmlinux returns the kernel in a bzImage (Documentation/arch/x86/boot.rst).
func vmlinux(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) < 0x250 || string(b[0x202:0x206]) != "HdrS" {
		return nil, errors.Errorf("%s is no bzImage", path)
	}
	sectors := int(b[0x1f1])
	if sectors == 0 {
		sectors = 4
	}
	start := (sectors+1)*512 + int(binary.LittleEndian.Uint32(b[0x248:]))
	end := start + int(binary.LittleEndian.Uint32(b[0x24c:]))
	if start > end || end > len(b) {
		return nil, errors.Errorf("%s: the payload ends at %#x, the file at %#x", path, end, len(b))
	}
	// The size of what is packed follows it.
	out, err := unpacked(b[start : end-4])
	return out, errors.WithMessage(err, path)
}

// unpacked returns what kernels and modules are before they are compressed.
func unpacked(b []byte) ([]byte, error) {
	for magic, compression := range map[string]string{
		"\x28\xb5\x2f\xfd": "zstd",
		"\xfd7zXZ\x00":     "xz",
		"\x1f\x8b":         "gzip",
		"\x02\x21\x4c\x18": "lz4",
	} {
		if !bytes.HasPrefix(b, []byte(magic)) {
			continue
		}
		r, err := unpack.NewReader(compression, bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	return b, nil
}
