package vmcs

import (
	"slices"
	"strings"
	"testing"
)

func TestTextForm(t *testing.T) {
	for _, tt := range []struct {
		name   string
		lines  []string
		form   Form
		offset int // of the first field
	}{
		{"cells that agree", []string{"FIELD(GUEST_CS_LIMIT)=01840180"}, FormCells, 0x40},
		{"a selector among them", []string{"FIELD(GUEST_CS_SELECTOR)=0500", "FIELD(GUEST_CS_LIMIT)=01840180"}, FormCells, 0x100},
		{"a broken selector among them", []string{"FIELD(GUEST_CS_LIMIT)=01840180", "FIELD(GUEST_CS_SELECTOR)=0600"}, FormCells, 0x40},
		{"a selector beyond any offset", []string{"FIELD(GUEST_CS_SELECTOR)=1500"}, FormCells, 0x500},
		{"short numbers", []string{"FIELD(GUEST_CS_SELECTOR)=110"}, FormOffsets, 0x110},
		{"prefixed", []string{"FIELD(GUEST_CS_SELECTOR)=0x0500"}, FormOffsets, 0x500},
		{"padded to 8 digits", []string{"FIELD(GUEST_CS_SELECTOR)=00000110", "FIELD(GUEST_RIP)=00000118"}, FormOffsets, 0x110},
		{"padded to 4 digits, one that is no cell", []string{"FIELD(GUEST_CS_SELECTOR)=0500", "FIELD(GUEST_SS_SELECTOR)=0600"}, FormOffsets, 0x500},
		{"padded to 4 digits, a wide field", []string{"FIELD(GUEST_CS_SELECTOR)=0500", "FIELD(GUEST_RIP)=0510"}, FormOffsets, 0x500},
		{"ambiguous but for FORM", []string{"FORM=cells", "FIELD(GUEST_CS_SELECTOR)=0500"}, FormCells, 0x100},
		{"ambiguous but for the other FORM", []string{"FORM=offsets", "FIELD(GUEST_CS_SELECTOR)=0500"}, FormOffsets, 0x500},
		{"one beyond the page", []string{"FIELD(GUEST_RIP)=110", "FIELD(GUEST_CS_SELECTOR)=1500"}, FormOffsets, 0x110},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := ParseNote(cellsNote(tt.lines...))
			if err != nil {
				t.Fatal(err)
			}
			if l.Form != tt.form || l.Entries[0].Offset != tt.offset {
				t.Errorf("%v, %+v, expected %v and %#x", l.Form, l.Entries[0], tt.form, tt.offset)
			}
		})
	}
}

func TestTextWarnings(t *testing.T) {
	for _, tt := range []struct {
		name    string
		lines   []string
		warning string
		names   []string // of the entries kept, besides GUEST_RIP
	}{
		{"no warning", []string{"FIELD(GUEST_RSP)=108"}, "", []string{"GUEST_RSP"}},
		{"a blank line and spaces", []string{"", " FIELD(GUEST_RSP)=108 \r"}, "", []string{"GUEST_RSP"}},
		{"unknown name", []string{"FIELD(GUEST_SOUL)=fff"}, "", []string{"GUEST_SOUL"}},
		{"stated twice", []string{"FIELD(GUEST_RSP)=108", "FIELD(GUEST_RSP)=0x108"}, "", []string{"GUEST_RSP"}},
		{"the page's end", []string{"FIELD(GUEST_RSP)=ff8"}, "", []string{"GUEST_RSP"}},
		{"high half inside its field", []string{"FIELD(TSC_OFFSET)=200", "FIELD(TSC_OFFSET_HIGH)=204"}, "", []string{"TSC_OFFSET", "TSC_OFFSET_HIGH"}},
		{"no line of the note", []string{"garbage"}, `line 2: "garbage", expected FIELD(name)=value`, nil},
		{"unprintable", []string{"FIELD(GUEST_\x01)=108"}, "line 2:", nil},
		{"no closing parenthesis", []string{"FIELD(GUEST_RSP=108"}, "line 2:", nil},
		{"no name", []string{"FIELD()=108"}, "line 2:", nil},
		{"long name", []string{"FIELD(" + strings.Repeat("X", 65) + ")=108"}, "line 2:", nil},
		{"no number", []string{"FIELD(GUEST_RSP)=-8"}, "expected 1 to 16 hexadecimal digits", nil},
		{"long number", []string{"FIELD(GUEST_RSP)=00000000000000108"}, "expected 1 to 16 hexadecimal digits", nil},
		{"in the revision id", []string{"FIELD(GUEST_RSP)=7"}, "line 2: GUEST_RSP at 0x7, 8 bytes: expected an offset from 0x8 to 0xff8", nil},
		{"across the page's end", []string{"FIELD(GUEST_RSP)=ff9"}, "line 2: GUEST_RSP at 0xff9", nil},
		{"beyond any page", []string{"FIELD(GUEST_RSP)=ffffffffffffffff"}, "line 2: GUEST_RSP at 0x1000", nil},
		{"two offsets", []string{"FIELD(GUEST_RSP)=108", "FIELD(GUEST_RSP)=110"}, "line 3: GUEST_RSP at 0x110, and before at 0x108: taken for unknown", nil},
		{"overlap", []string{"FIELD(GUEST_RSP)=108", "FIELD(GUEST_CR3)=10c"}, "GUEST_RSP at 0x108, 8 bytes, and GUEST_CR3 at 0x10c overlap", []string{"GUEST_RSP", "GUEST_CR3"}},
		{"overlap of one in another's middle", []string{"FIELD(GUEST_RSP)=108", "FIELD(GUEST_CS_SELECTOR)=10a", "FIELD(GUEST_CR3)=10e"}, "GUEST_RSP at 0x108, 8 bytes, and GUEST_CR3",
			[]string{"GUEST_RSP", "GUEST_CS_SELECTOR", "GUEST_CR3"}},
		{"high half elsewhere", []string{"FIELD(TSC_OFFSET)=200", "FIELD(TSC_OFFSET_HIGH)=202"}, "overlap", []string{"TSC_OFFSET", "TSC_OFFSET_HIGH"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := ParseNote(cellsNote(append(tt.lines, "FIELD(GUEST_RIP)=e00")...))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, e := range l.Entries[:len(l.Entries)-1] {
				names = append(names, e.Name)
			}
			if !slices.Equal(names, tt.names) {
				t.Errorf("entries %q, expected %q", names, tt.names)
			}
			if (tt.warning == "") != (len(l.Warnings) == 0) || !strings.Contains(strings.Join(l.Warnings, "\n"), tt.warning) {
				t.Errorf("warnings %q, expected %q", l.Warnings, tt.warning)
			}
		})
	}
}

func TestTextFacts(t *testing.T) {
	l, err := ParseNote(cellsNote("CPU_MODEL=3c", "FORM=offsets", "ACCESS_RIGHTS=packed", "CPU_MICROCODE=28",
		"FIELD(GUEST_CS_AR_BYTES)=102", "FIELD(GUEST_CS_LIMIT)=104"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Fact{{"CPU_MODEL", "3c"}, {"CPU_MICROCODE", "28"}}; !slices.Equal(l.Facts, want) {
		t.Errorf("facts %q, expected %q", l.Facts, want)
	}
	if l.AccessRights != RightsPacked || l.Entries[0].Width != 2 || len(l.Warnings) != 0 {
		t.Errorf("access rights %v, %+v, warnings %q", l.AccessRights, l.Entries[0], l.Warnings)
	}
}

func TestTextCutShort(t *testing.T) {
	l, err := ParseNote([]byte("REVISION_ID=d\nFIELD(GUEST_RSP)=108\nFIELD(GUEST_RIP)=10"))
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], "line 3: GUEST_RIP") {
		t.Errorf("warnings %q", l.Warnings)
	}
}

func TestTextShortCell(t *testing.T) {
	l, err := ParseNote(cellsNote("FORM=cells", "FIELD(GUEST_CS_LIMIT)=01840180", "FIELD(GUEST_RSP)=108"))
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Entries) != 1 || len(l.Warnings) != 1 || !strings.Contains(l.Warnings[0], `line 4: GUEST_RSP: "108", expected 4, 8 or 16 digits`) {
		t.Errorf("%d entries, warnings %q", len(l.Entries), l.Warnings)
	}
}
