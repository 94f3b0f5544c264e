package vmcs

import "testing"

// TestText: a layout's text says what it was made of, and of which processor.
func TestText(t *testing.T) {
	for _, p := range []Processor{
		{},
		{Vendor: "GenuineIntel", Family: 6, Model: 0x9e, Stepping: 0xd, Microcode: 0xf4},
		{Vendor: "GenuineIntel", Family: 6, Model: 0x97, Microcode: 0x35, Type: "atom", Hypervisor: true},
	} {
		for _, l := range Builtin() {
			got, err := ParseNote([]byte(l.Text(p)))
			if err != nil {
				t.Errorf("%s: %v", l.Name, err)
				continue
			}
			want := p
			want.RevisionID = l.RevisionID
			if !got.Same(l) || got.AccessRights != l.AccessRights || len(got.Entries) != len(l.Entries) || got.Processor() != want {
				t.Errorf("%s, of %+v: came back as %d of %d fields, access rights %s, of %+v", l.Name, p, len(got.Entries), len(l.Entries), got.AccessRights, got.Processor())
			}
		}
	}
}
