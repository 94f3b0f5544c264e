package vmcs

import (
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/pkg/errors"
)

// ParseDir reads a layout from sysfs, as the kernel patches of June 2012 and
// later (version 3 on) put it there: a directory vmcs with a file for each
// field, named by the four hexadecimal digits of its encoding and holding its
// offset, 0 where the processor lacks the field. The revision identifier is in
// the file id there or in vmcs_id beside it; version 3 has none, and then
// RevisionID is 0, with a warning.
//
// fsys is the directory vmcs itself or the one it is in (/sys/devices/cpu,
// /sys/devices/system/cpu). ParseDir ignores other files. No document says
// whether the offsets are decimal or hexadecimal, so the values must tell.
// ParseDir fails if both are possible, if there are no such files, or if none
// can be read.
func ParseDir(fsys fs.FS) (*Layout, error) {
	b := newBuilder(FormDirectory)
	dir := "."
	if info, err := fs.Stat(fsys, "vmcs"); err == nil && info.IsDir() {
		dir = "vmcs"
	}
	list, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil, err
	}
	var files []dirFile
	for _, entry := range list {
		n, err := strconv.ParseUint(entry.Name(), 16, 16)
		if err != nil || len(entry.Name()) != 4 {
			continue
		}
		f := dirFile{place: "file " + entry.Name()}
		f.field, _ = FieldByEncoding(Encoding(n))
		if f.value, err = readValue(fsys, path.Join(dir, entry.Name())); err != nil {
			return nil, err
		}
		if !f.field.Valid() {
			b.warn(f.place, "expected the encoding of a field")
		} else if strings.Trim(f.value, "0x") != "" {
			files = append(files, f)
		}
		if len(files) > maxFields {
			return nil, errors.Wrapf(ErrLayout, "more than %d files, expected no more than a page has fields", maxFields)
		}
	}
	base, err := offsetBase(files)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		offset, err := strconv.ParseUint(strings.TrimPrefix(f.value, "0x"), base, 16)
		if err != nil {
			b.warn(f.place, "%q, expected an offset in base %d", f.value, base)
			continue
		}
		b.place(f.place, f.field, true, int(offset), f.field.Width())
	}
	if err := b.readID(fsys, dir); err != nil {
		return nil, err
	}
	return b.finish(len(files))
}

// dirFile is the file of a field that the processor has.
type dirFile struct {
	place string // "file 0802"
	field Field
	value string // digits, perhaps with 0x
}

// readValue reads a number as it stands in a file.
func readValue(fsys fs.FS, name string) (string, error) {
	if info, err := fs.Stat(fsys, name); err != nil {
		return "", err
	} else if info.Mode()&fs.ModeNamedPipe != 0 { // to open it would wait for a writer
		return "", errors.Wrapf(ErrLayout, "%s: a FIFO, expected a number", name)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return "", err
	}
	value := strings.TrimSpace(string(data))
	if value == "" || len(data) == 32 {
		return "", errors.Wrapf(ErrLayout, "%s: %q, expected a number", name, value)
	}
	return value, nil
}

// readID reads the revision identifier, in hexadecimal as in every other form.
func (b *builder) readID(fsys fs.FS, dir string) error {
	for _, name := range []string{path.Join(dir, "id"), "vmcs_id"} {
		value, err := readValue(fsys, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		id, err := strconv.ParseUint(strings.TrimPrefix(value, "0x"), 16, 31)
		if err != nil {
			return errors.Wrapf(ErrLayout, "%s: %q, expected hexadecimal digits of 31 bits", name, value)
		}
		b.RevisionID = uint32(id)
		return nil
	}
	b.warn("revision id", "neither a file id nor vmcs_id tells it")
	return nil
}

// offsetBase returns the base of the offsets, 16 or 10: by a prefix or a
// letter, by a value that would lie outside the page, and at last by alignment,
// which numbers lose when they are read in the wrong base.
func offsetBase(files []dirFile) (int, error) {
	aligned16, aligned10 := true, true
	for _, f := range files {
		if strings.ContainsAny(strings.ToLower(f.value), "abcdefx") {
			return 16, nil
		}
		n, err := strconv.ParseUint(f.value, 16, 64)
		if err == nil && n >= PageSize {
			return 10, nil
		}
		unit := uint64(min(f.field.Width(), 4))
		if f.field.Rights() {
			unit = 2 // where they are packed in 16 bits
		}
		aligned16 = aligned16 && n%unit == 0
		n, _ = strconv.ParseUint(f.value, 10, 64)
		aligned10 = aligned10 && n%unit == 0
	}
	switch {
	case aligned16 && !aligned10:
		return 16, nil
	case aligned10 && !aligned16:
		return 10, nil
	case len(files) == 0:
		return 0, errors.Wrap(ErrLayout, "no files named by the four hexadecimal digits of a field's encoding, or all are 0")
	}
	return 0, errors.Wrapf(ErrAmbiguous, "the offsets may be decimal or hexadecimal (%s: %s)", files[0].place, files[0].value)
}
