package vmcs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// kmodNotes are what kmod/vmcsinfo.c wrote, loaded by scripts/e2e-vmx with and
// without cells=1; truth is what another program found by VMWRITE on the same
// processor, of fewer fields than the module knows.
var kmodNotes = []struct {
	name, truth string
	fields      int
}{
	{"kmod-haswell", "bochs27", 147},
	{"kmod-penryn", "", 122},
}

// TestKernelModuleNotes reads both forms of the module's note: they are the
// same layout, and the true one.
func TestKernelModuleNotes(t *testing.T) {
	for _, tt := range kmodNotes {
		t.Run(tt.name, func(t *testing.T) {
			offsets, err := ParseNote(readTestdata(t, tt.name+".note"))
			if err != nil {
				t.Fatal(err)
			}
			cells, err := ParseNote(readTestdata(t, tt.name+"-cells.note"))
			if err != nil {
				t.Fatal(err)
			}
			if offsets.Form != FormOffsets || cells.Form != FormCells {
				t.Errorf("forms %v and %v, expected offsets and cells", offsets.Form, cells.Form)
			}
			for _, l := range []*Layout{offsets, cells} {
				if len(l.Warnings) != 0 || len(l.Entries) != tt.fields || l.AccessRights != RightsRotated {
					t.Errorf("%v: %d fields, access rights %v, warnings %q, expected %d, rotated, none",
						l.Form, len(l.Entries), l.AccessRights, l.Warnings, tt.fields)
				}
			}
			if offsets.RevisionID != cells.RevisionID || !slices.Equal(offsets.Facts, cells.Facts) ||
				!slices.Equal(offsets.Entries, cells.Entries) {
				t.Errorf("the two forms differ:\n%+v\n%+v", offsets, cells)
			}
			for _, key := range []string{"CPU_FAMILY", "CPU_MODEL", "CPU_STEPPING", "CPU_MICROCODE"} {
				if !slices.ContainsFunc(offsets.Facts, func(f Fact) bool { return f.Key == key }) {
					t.Errorf("the note does not state %s", key)
				}
			}
			if tt.truth == "" {
				return
			}
			for line := range strings.Lines(string(readTestdata(t, tt.truth+".offsets"))) {
				var name string
				var offset int
				if _, err := fmt.Sscan(line, &name, &offset); err != nil {
					t.Fatal(err)
				}
				if e, ok := offsets.Lookup(name); !ok || e.Offset != offset {
					t.Errorf("%s at %#x, found %v, expected %#x", name, e.Offset, ok, offset)
				}
			}
		})
	}
}

// TestKernelModuleCells writes the note with cells anew from the one with
// offsets, as VMREAD would have given them: byte for byte what the module
// wrote.
func TestKernelModuleCells(t *testing.T) {
	for _, tt := range kmodNotes {
		l, err := ParseNote(readTestdata(t, tt.name+".note"))
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for line := range strings.Lines(string(readTestdata(t, tt.name+".note"))) {
			name, _, isField := strings.Cut(strings.TrimPrefix(line, "FIELD("), ")=")
			e, ok := l.Lookup(name)
			switch {
			case line == "FORM=offsets\n":
				b.WriteString("FORM=cells\n")
			case !isField:
				b.WriteString(line)
			case !ok:
				t.Fatalf("%s is in no layout", line)
			default:
				fmt.Fprintf(&b, "FIELD(%s)=%0*x\n", name, 2*e.Width, vmread(e, l.AccessRights))
			}
		}
		if got := string(readTestdata(t, tt.name+"-cells.note")); got != b.String() {
			t.Errorf("%s-cells.note is\n%s\nexpected\n%s", tt.name, got, b.String())
		}
	}
}
