package vmcs

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"
)

// penrynSample is the text of April 2012 as far as it was published, from a
// Core 2 Duo E7500; it ends in a line.
const penrynSample = `REVISION_ID=d
FIELD(PIN_BASED_VM_EXEC_CONTROL)=01840180
FIELD(CPU_BASED_VM_EXEC_CONTROL)=01940190
FIELD(SECONDARY_VM_EXEC_CONTROL)=0fe40fe0
FIELD(VM_EXIT_CONTROLS)=01e401e0
FIELD(VM_ENTRY_CONTROLS)=03140310
FIELD(GUEST_ES_SELECTOR)=0500
FIELD(GUEST_CS_SELECTOR)=05`

func TestPenrynSample(t *testing.T) {
	l, err := ParseNote([]byte(penrynSample))
	if err != nil {
		t.Fatal(err)
	}
	if l.RevisionID != 0xd || l.Form != FormCells || len(l.Entries) != 6 {
		t.Errorf("revision id %#x, form %v, %d entries, expected 0xd, cells, 6", l.RevisionID, l.Form, len(l.Entries))
	}
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], "line 8: GUEST_CS_SELECTOR: \"05\" is cut off") {
		t.Errorf("warnings %q", l.Warnings)
	}
	builtin := BuiltinFor(0xd)[0]
	for name, offset := range map[string]int{
		"PIN_BASED_VM_EXEC_CONTROL": 0x40, "CPU_BASED_VM_EXEC_CONTROL": 0x48, "SECONDARY_VM_EXEC_CONTROL": 0x3f0,
		"VM_EXIT_CONTROLS": 0x70, "VM_ENTRY_CONTROLS": 0x88, "GUEST_ES_SELECTOR": 0x100,
	} {
		e, ok := l.Lookup(name)
		if b, published := builtin.Lookup(name); !ok || !published || e.Offset != offset || e != b {
			t.Errorf("%s: %+v, in the published layout %+v, expected offset %#x", name, e, b, offset)
		}
	}
}

func readTestdata(t testing.TB, name string) []byte {
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestNotesWithOffsets(t *testing.T) {
	for _, tt := range []struct {
		name     string
		revision uint32
		fields   int
	}{
		{"haswell", 0x2b, 139},
		{"penryn", 0x2b, 116},
		{"bochs27", 0x2b, 139},
		{"shuffled", 0x4e, 139},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := ParseNote(readTestdata(t, tt.name+".note"))
			if err != nil {
				t.Fatal(err)
			}
			if l.RevisionID != tt.revision || l.Form != FormOffsets || len(l.Entries) != tt.fields ||
				l.AccessRights != RightsUnknown || len(l.Warnings) != 0 {
				t.Errorf("revision id %#x, form %v, %d entries, access rights %v, warnings %q",
					l.RevisionID, l.Form, len(l.Entries), l.AccessRights, l.Warnings)
			}
			for _, e := range l.Entries {
				f, ok := FieldByName(e.Name)
				if !ok || !e.Known || e.Encoding != f.Encoding || e.Width != f.Width() {
					t.Errorf("%+v, expected encoding %v, %d bytes", e, f.Encoding, f.Width())
				}
			}
			if tt.name != "shuffled" {
				checkOffsets(t, l, string(readTestdata(t, tt.name+".offsets")))
			}
		})
	}
}

// checkOffsets compares l with lines of a name and an offset.
func checkOffsets(t *testing.T, l *Layout, truth string) {
	t.Helper()
	count := 0
	for line := range strings.Lines(truth) {
		var name string
		var offset int
		if _, err := fmt.Sscan(line, &name, &offset); err != nil {
			t.Fatal(err)
		}
		count++
		if e, ok := l.Lookup(name); !ok || e.Offset != offset {
			t.Errorf("%s at %#x, found %v, expected %#x", name, e.Offset, ok, offset)
		}
	}
	if count != len(l.Entries) {
		t.Errorf("%d entries, expected %d", len(l.Entries), count)
	}
}

// TestNoteWithCells reads a real kernel's note in the form of April 2012. Its
// values are invented, 8 bytes apart: half of them break the parity of cells.
func TestNoteWithCells(t *testing.T) {
	note := readTestdata(t, "cells.note")
	l, err := ParseNote(append(note, make([]byte, 100)...))
	if err != nil {
		t.Fatal(err)
	}
	if l.RevisionID != 0xd || l.Form != FormCells {
		t.Errorf("revision id %#x, form %v", l.RevisionID, l.Form)
	}
	good, bad := 0, 0
	lines := strings.Split(strings.TrimSpace(string(note)), "\n")[1:]
	for i, line := range lines {
		name := line[len("FIELD("):strings.Index(line, ")")]
		cell := 0x180 + 0x10*i
		e, ok := l.Lookup(name)
		if cell>>8&1 == 0 {
			bad++
			if warning := fmt.Sprintf("line %d: %s: cell %#04x", i+2, name, cell); ok || !strings.Contains(strings.Join(l.Warnings, "\n"), warning) {
				t.Errorf("%s: placed %v, expected the warning %q", line, ok, warning)
			}
			continue
		}
		good++
		if offset := cell>>9<<7 | cell&0xff>>1; !ok || e.Offset != offset {
			t.Errorf("%s: at %#x, found %v, expected %#x", line, e.Offset, ok, offset)
		}
	}
	if good != len(l.Entries) || good != 40 || bad != 39 {
		t.Errorf("%d of %d fields, expected 40, and %d entries", good, good+bad, len(l.Entries))
	}
}

func TestParseNoteRefuses(t *testing.T) {
	fields := func(n int) string { return strings.Repeat("FIELD(GUEST_RIP)=100\n", n) }
	for _, tt := range []struct {
		name string
		desc string
		err  error
		says string
	}{
		{"nothing", "", ErrLayout, "0 bytes, all zero"},
		{"zeros", "\x00\x00\x00\x00", ErrLayout, "4 bytes, all zero"},
		{"1 MiB and a byte", strings.Repeat("x", maxNote+1), ErrLayout, "1048577 bytes, expected 1048576 at most"},
		{"another text", "OSRELEASE=6.1.0\n", ErrLayout, "no line REVISION_ID="},
		{"no revision id", fields(1), ErrLayout, "no line REVISION_ID="},
		{"no fields", "REVISION_ID=d\n", ErrLayout, "no fields"},
		{"revision id no number", "REVISION_ID=penryn\n" + fields(1), ErrLayout, "line 1: REVISION_ID=penryn, expected hexadecimal"},
		{"revision id of 32 bits", "REVISION_ID=8000000d\n" + fields(1), ErrLayout, "expected hexadecimal digits of 31 bits"},
		{"two revision ids", "REVISION_ID=d\nREVISION_ID=e\n" + fields(1), ErrLayout, "line 2: REVISION_ID=e, and before d"},
		{"a megabyte of fields", "REVISION_ID=d\n" + fields(40000), ErrLayout, "more than 2048 lines"},
		{"all outside the page", "REVISION_ID=d\nFIELD(GUEST_RIP)=ff9\n", ErrLayout, "neither cells nor offsets in a page (line 2: FIELD(GUEST_RIP)=ff9)"},
		{"all refuted", "REVISION_ID=d\nFIELD(GUEST_RIP)=100\nFIELD(GUEST_RIP)=108\n", ErrLayout, "line 3: GUEST_RIP at 0x108, and before at 0x100"},
		{"cells and offsets", "REVISION_ID=d\nFIELD(GUEST_CS_LIMIT)=01840180\nFIELD(GUEST_RIP)=110\n", ErrAmbiguous,
			"line 2: FIELD(GUEST_CS_LIMIT)=01840180 can only be cells, line 3: FIELD(GUEST_RIP)=110 only an offset"},
		{"selectors only", "REVISION_ID=d\nFIELD(GUEST_CS_SELECTOR)=0500\n", ErrAmbiguous, "can be a cell or an offset"},
		{"says offsets, has cells", "REVISION_ID=d\nFORM=offsets\nFIELD(GUEST_CS_LIMIT)=01840180\n", ErrLayout, "the text says FORM=offsets"},
		{"says cells, has offsets", "REVISION_ID=d\nFORM=cells\nFIELD(GUEST_CS_LIMIT)=110\n", ErrLayout, "the text says FORM=cells"},
		{"binary, too short", "\x0d\x00\x00\x00\x02\x08\x00\x00\x00\x05", ErrLayout, "10 bytes, expected at least 16"},
		{"binary, a shadow VMCS", "\x0d\x00\x00\x80\x02\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00", ErrLayout, "0x8000000d, expected a revision id"},
		{"binary, a complete ELF note", "\x09\x00\x00\x00\x7b\x12\x00\x00\x00\x00\x00\x00VMCSINFO\x00\x00\x00\x00", ErrLayout, "0x127b at offset 4, expected a field's encoding"},
		{"binary, a record cut", "\x0d\x00\x00\x00\x02\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x04\x08", ErrLayout, "2 bytes at offset 16, expected a record"},
		{"binary, no cells", "\x0d\x00\x00\x00\x02\x08\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00", ErrLayout, "none of 1 fields has an offset"},
		{"binary, no field", "\x0d\x00\x00\x00" + strings.Repeat("\x00", 12), ErrLayout, "no fields"},
		{"binary, a megabyte of records", "\x0d\x00\x00\x00" + strings.Repeat("\x02\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00", 80000), ErrLayout, "more than 2048 records"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := ParseNote([]byte(tt.desc))
			if l != nil || !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, %v, expected %q", l, err, tt.says)
			}
		})
	}
}

func FuzzParseNote(f *testing.F) {
	f.Add([]byte(penrynSample))
	for _, name := range []string{"haswell.note", "cells.note"} {
		f.Add(readTestdata(f, name)[:400]) // short, for quick minimizing
	}
	for _, l := range BuiltinFor(0x12) {
		l.Entries = slices.DeleteFunc(l.Entries, func(e Entry) bool { return !strings.HasPrefix(e.Name, "GUEST_CS_") })
		f.Add(writeCells(l))
		f.Add(writeOffsets(l))
		f.Add(writeRecords(l))
	}
	f.Fuzz(func(t *testing.T, desc []byte) {
		before := bytes.Clone(desc)
		l, err := ParseNote(desc)
		if !bytes.Equal(desc, before) {
			t.Fatal("the descriptor was changed")
		}
		if err != nil {
			if l != nil {
				t.Fatal("an error and a layout")
			}
			return
		}
		if len(l.Entries) == 0 || len(l.Entries) > maxFields || l.RevisionID > maxRevisionID || len(l.Warnings) > 4*maxFields {
			t.Fatalf("%d entries, revision id %#x, %d warnings", len(l.Entries), l.RevisionID, len(l.Warnings))
		}
		for _, e := range l.Entries {
			if e.Offset < headerSize || e.Offset+max(e.Width, 1) > PageSize {
				t.Fatalf("%+v lies outside the page", e)
			}
			if found, ok := l.Lookup(e.Name); !ok || found != e {
				t.Fatalf("%+v is there twice", e)
			}
		}
	})
}
