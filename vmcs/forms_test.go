package vmcs

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
	"testing"
	"testing/fstest"
)

// Writers of every form a layout is published in, for the tests.

// cellsAt returns what VMREAD returns of a field that lies plain in a page of
// cells.
func cellsAt(offset, width int) (v uint64) {
	for i := range width / 2 {
		at := uint64(offset + 2*i)
		v |= (at>>7<<9 | 1<<8 | at&0x7f<<1) << (16 * i)
	}
	return v
}

// vmread returns what VMREAD returns of e in a page of cells.
func vmread(e Entry, rights AccessRights) uint64 {
	v := cellsAt(e.Offset, e.Width)
	if e.Known && e.Encoding.Rights() {
		switch rights {
		case RightsRotated:
			return uint64(bits.RotateLeft32(uint32(v), -8))
		case RightsPacked:
			return v&0xf0ff | v&0x0800<<5
		}
	}
	return v
}

func writeCells(l *Layout) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "REVISION_ID=%x\n", l.RevisionID)
	for _, e := range l.Entries {
		digits := 2 * e.Width
		if e.Known {
			digits = 2 * e.Encoding.Width()
		}
		fmt.Fprintf(&b, "FIELD(%s)=%0*x\n", e.Name, digits, vmread(e, l.AccessRights))
	}
	return []byte(b.String())
}

func writeOffsets(l *Layout) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "REVISION_ID=%x\n", l.RevisionID)
	for _, e := range l.Entries {
		fmt.Fprintf(&b, "FIELD(%s)=%x\n", e.Name, e.Offset)
	}
	return []byte(b.String())
}

func writeRecords(l *Layout) []byte {
	b := binary.LittleEndian.AppendUint32(nil, l.RevisionID)
	for _, e := range l.Entries {
		b = binary.LittleEndian.AppendUint32(b, uint32(e.Encoding))
		b = binary.LittleEndian.AppendUint64(b, vmread(e, l.AccessRights))
	}
	return b
}

func writeDir(l *Layout, format string) fstest.MapFS {
	dir := fstest.MapFS{"id": {Data: fmt.Appendf(nil, "%x\n", l.RevisionID)}}
	for _, e := range l.Entries {
		dir[fmt.Sprintf("%04x", uint16(e.Encoding))] = &fstest.MapFile{Data: fmt.Appendf(nil, format, e.Offset)}
	}
	return dir
}

// TestEveryFormOfEveryLayout writes each built-in layout in each form and
// reads it back.
func TestEveryFormOfEveryLayout(t *testing.T) {
	note := func(write func(*Layout) []byte) func(*Layout) (*Layout, error) {
		return func(l *Layout) (*Layout, error) { return ParseNote(write(l)) }
	}
	dir := func(format string) func(*Layout) (*Layout, error) {
		return func(l *Layout) (*Layout, error) { return ParseDir(writeDir(l, format)) }
	}
	for _, form := range []struct {
		name   string
		form   Form
		rights bool // the form tells how access rights are stored
		parse  func(*Layout) (*Layout, error)
	}{
		{"cells", FormCells, true, note(writeCells)},
		{"offsets", FormOffsets, false, note(writeOffsets)},
		{"records", FormRecords, true, note(writeRecords)},
		{"records and zeros", FormRecords, true, note(func(l *Layout) []byte { return append(writeRecords(l), make([]byte, 1001)...) })},
		{"hexadecimal files", FormDirectory, false, dir("%x\n")},
		{"decimal files", FormDirectory, false, dir("%d\n")},
		{"files with 0x", FormDirectory, false, dir("%#x")},
	} {
		for _, l := range Builtin() {
			t.Run(form.name+"/"+l.Name, func(t *testing.T) {
				got, err := form.parse(l)
				if err != nil {
					t.Fatal(err)
				}
				if got.RevisionID != l.RevisionID || got.Form != form.form || len(got.Warnings) != 0 {
					t.Errorf("revision id %#x, form %v, warnings %q", got.RevisionID, got.Form, got.Warnings)
				}
				// Two bytes between other fields tell that they are packed.
				if form.rights || l.AccessRights == RightsPacked {
					if got.AccessRights != l.AccessRights {
						t.Errorf("access rights %v, expected %v", got.AccessRights, l.AccessRights)
					}
				} else if got.AccessRights != RightsUnknown {
					t.Errorf("access rights %v, out of nothing", got.AccessRights)
				}
				if len(got.Entries) != len(l.Entries) {
					t.Errorf("%d entries, expected %d", len(got.Entries), len(l.Entries))
				}
				for _, want := range l.Entries {
					want.Flags = ""
					if e, ok := got.Lookup(want.Name); !ok || e != want {
						t.Errorf("got %+v, expected %+v", e, want)
					}
				}
			})
		}
	}
}
