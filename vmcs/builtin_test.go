package vmcs

import (
	"slices"
	"strings"
	"testing"
)

func TestBuiltin(t *testing.T) {
	layouts := Builtin()
	if len(layouts) < 16 {
		t.Errorf("%d layouts, expected 16 or more", len(layouts))
	}
	names := make(map[string]bool)
	rows := 0
	for _, l := range layouts {
		t.Run(l.Name, func(t *testing.T) {
			rows += len(l.Entries)
			if l.Name == "" || names[l.Name] {
				t.Error("the name is not the layout's own")
			}
			names[l.Name] = true
			if l.RevisionID == 0 || l.Form != FormBuiltin || len(l.Sources) == 0 || len(l.Warnings) != 0 {
				t.Errorf("revision id %#x, form %v, sources %q, warnings %q", l.RevisionID, l.Form, l.Sources, l.Warnings)
			}
			for i, e := range l.Entries {
				f, ok := FieldByName(e.Name)
				if !ok || f.Encoding != e.Encoding || !e.Known || e.Encoding.High() {
					t.Errorf("%s has encoding %v, known %v; the field table says %v", e.Name, e.Encoding, e.Known, f.Encoding)
				}
				want := f.Width()
				if f.Rights() {
					want = l.AccessRights.Width()
				}
				if e.Width != want || e.Offset < headerSize || e.Offset+e.Width > PageSize {
					t.Errorf("%s: %d bytes at %#x, expected %d bytes in the page", e.Name, e.Width, e.Offset, want)
				}
				if i > 0 && e.Encoding <= l.Entries[i-1].Encoding {
					t.Errorf("%s does not come after %s", e.Name, l.Entries[i-1].Name)
				}
				for flag := range strings.SplitSeq(e.Flags, ",") {
					if !slices.Contains([]string{"", "approx4", "derived", "ar8", "ar16"}, flag) {
						t.Errorf("%s: flag %q", e.Name, flag)
					}
				}
			}
			for _, p := range l.overlaps() {
				t.Errorf("%s at %#x and %s at %#x overlap", p[0].Name, p[0].Offset, p[1].Name, p[1].Offset)
			}
		})
	}
	if rows < 2375 {
		t.Errorf("%d rows in all, expected 2375 or more", rows)
	}
}

func TestBuiltinFor(t *testing.T) {
	for _, tt := range []struct {
		name     string
		revision uint32
		layouts  []string
	}{
		{"one processor family", 0x12, []string{"haswell-broadwell"}},
		{"a simulator under a processor's id", 0x10, []string{"sandybridge-ivybridge", "bochs-2.4-to-2.7"}},
		{"the processor's comes first", 0x04, []string{"skylake-coffeelake", "bochs-2.4-to-2.7", "bochs-2.8-to-3.0", "bochs-git-2026-02-and-later"}},
		{"two ages of one hypervisor", 0x11e57ed0, []string{"kvm-nested-vmcs12-2013", "kvm-nested-vmcs12"}},
		{"unknown", 0x13, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, l := range BuiltinFor(tt.revision) {
				got = append(got, l.Name)
				if l.RevisionID != tt.revision || slices.Contains(l.OtherIDs, tt.revision) {
					t.Errorf("%s: revision id %#x, others %#x", l.Name, l.RevisionID, l.OtherIDs)
				}
			}
			if !slices.Equal(got, tt.layouts) {
				t.Errorf("got %q, expected %q", got, tt.layouts)
			}
		})
	}
}

func TestBuiltinIsTheCallersOwn(t *testing.T) {
	for _, l := range Builtin() {
		l.Entries[0].Offset, l.Sources[0] = 0, ""
		for i := range l.OtherIDs {
			l.OtherIDs[i] = 0
		}
	}
	for _, l := range Builtin() {
		if l.Entries[0].Offset == 0 || l.Sources[0] == "" || slices.Contains(l.OtherIDs, 0) {
			t.Errorf("%s: a change to one caller's layout is seen by the next", l.Name)
		}
	}
}

func TestAccessRightsDecode(t *testing.T) {
	const code, unusable = 0xa09b, 0x10000 // as VMREAD gives them
	for _, tt := range []struct {
		name   string
		form   AccessRights
		stored uint32
		want   uint32
	}{
		{"plain", RightsPlain, code, code},
		{"rotated code segment", RightsRotated, 0x00a09b00, code},
		{"rotated unusable", RightsRotated, 0x01000000, unusable},
		{"packed code segment", RightsPacked, 0xa09b, code},
		{"packed unusable", RightsPacked, 0x0800, unusable},
		{"unknown stays as stored", RightsUnknown, 0x00a09b00, 0x00a09b00},
	} {
		if got := tt.form.decode(tt.stored); got != tt.want {
			t.Errorf("%s: %#x gives %#x, expected %#x", tt.name, tt.stored, got, tt.want)
		}
	}
}
