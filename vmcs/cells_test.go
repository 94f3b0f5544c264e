package vmcs

import (
	"fmt"
	"strings"
	"testing"
)

func TestCellsRoundTrip(t *testing.T) {
	for _, width := range []int{2, 4, 8} {
		for offset := 0; offset+width <= PageSize; offset += 2 {
			got, n, fault := decodeCells(cellsAt(offset, width))
			if got != offset || n != width || fault != "" {
				t.Fatalf("%d bytes at %#x decode to %d at %#x (%s)", width, offset, n, got, fault)
			}
		}
	}
}

func TestCellFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		value uint64
		fault string
	}{
		{"no VMREAD", 0, "value 0"},
		{"even high byte", 0x0200, "cell 0x0200 breaks parity"},
		{"odd low byte", 0x0181, "cell 0x0181"},
		{"odd offset", 0x0182, "a low byte that 4 divides"},
		{"beyond the page", 0x4100, "below 0x40"},
		{"shifted by a byte", 0x80018401, "cell 0x8401"},
		{"second cell wrong", 0x02040180, "cell 0x0204"},
		{"second cell of another place", 0x01880180, "lies at 0x44, expected 0x42"},
		{"hole", 0x018401820000_0180, "cell 0x0000"},
	} {
		if _, _, fault := decodeCells(tt.value); !strings.Contains(fault, tt.fault) {
			t.Errorf("%s: %#x gives fault %q, expected %q", tt.name, tt.value, fault, tt.fault)
		}
	}
}

// cellsNote makes a text out of lines.
func cellsNote(lines ...string) []byte {
	return []byte("REVISION_ID=d\n" + strings.Join(lines, "\n") + "\n")
}

// digits writes what VMREAD returns of width bytes at an offset.
func digits(offset, width int) string { return fmt.Sprintf("%0*x", 2*width, cellsAt(offset, width)) }

func TestAccessRightsFromParity(t *testing.T) {
	const cs, ss = "FIELD(GUEST_CS_AR_BYTES)=", "FIELD(GUEST_SS_AR_BYTES)="
	for _, tt := range []struct {
		name    string
		lines   []string
		rights  AccessRights
		offset  int // of GUEST_CS_AR_BYTES, 0 if it is left out
		warning string
	}{
		{"as VMREAD gives them", []string{cs + "01840180"}, RightsPlain, 0x40, ""},
		{"rotated", []string{cs + "80018401"}, RightsRotated, 0x40, ""},
		{"two ways", []string{cs + "01840180", ss + "90019401"}, RightsUnknown, 0x40, "expected one way for all"},
		{"stated otherwise", []string{"ACCESS_RIGHTS=packed", cs + "80018401"}, RightsRotated, 0x40, "stated to be packed, found rotated"},
		{"packed after the selector", []string{"FIELD(GUEST_CS_SELECTOR)=0500", cs + "00000004"}, RightsPacked, 0x102, ""},
		{"packed, bit 9 of the offset in unusable", []string{"FIELD(GUEST_CS_SELECTOR)=0900", cs + "00010004"}, RightsPacked, 0x202, ""},
		{"packed, one place of four is free", []string{
			"FIELD(TSC_OFFSET)=" + digits(0x80, 8),
			"FIELD(GUEST_RIP)=" + digits(0x180, 8), cs + "00000008"}, RightsPacked, 0x104, ""},
		{"packed, two places are free", []string{"FIELD(TSC_OFFSET)=" + digits(0x80, 8), cs + "00000008"},
			RightsPacked, 0, "packed in 16 bits at 0x4, 0x84, 0x104 or 0x184: cannot tell which"},
		{"neither", []string{cs + "deadbeef"}, RightsUnknown, 0, "0xdeadbeef is not made of cells"},
		{"one broken among packed", []string{"FIELD(GUEST_CS_SELECTOR)=0500", cs + "00000004", ss + "deadbeef"},
			RightsPacked, 0x102, "0xdeadbeef is no cell packed"},
		{"longer than 32 bits", []string{cs + digits(0x40, 8)}, RightsUnknown, 0, "expected 32 bits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := ParseNote(cellsNote(append(tt.lines, "FIELD(EXCEPTION_BITMAP)="+digits(0xf00, 4))...))
			if err != nil {
				t.Fatal(err)
			}
			if l.AccessRights != tt.rights {
				t.Errorf("access rights %v, expected %v", l.AccessRights, tt.rights)
			}
			e, ok := l.Lookup("GUEST_CS_AR_BYTES")
			if ok != (tt.offset != 0) || e.Offset != tt.offset || ok && e.Width != tt.rights.Width() {
				t.Errorf("GUEST_CS_AR_BYTES %+v, expected %d bytes at %#x", e, tt.rights.Width(), tt.offset)
			}
			if tt.warning == "" && len(l.Warnings) != 0 || !strings.Contains(strings.Join(l.Warnings, "\n"), tt.warning) {
				t.Errorf("warnings %q, expected %q", l.Warnings, tt.warning)
			}
		})
	}
}

func TestWidthOfCells(t *testing.T) {
	for _, tt := range []struct {
		name   string
		field  string
		digits string
		width  int
		warns  bool
	}{
		{"16-bit field", "GUEST_CS_SELECTOR", digits(0x100, 2), 2, false},
		{"32-bit field", "GUEST_CS_LIMIT", digits(0x100, 4), 4, false},
		{"64-bit field", "EPT_POINTER", digits(0x100, 8), 8, false},
		{"natural width", "GUEST_RIP", digits(0x100, 8), 8, false},
		{"natural width of a 32-bit kernel", "GUEST_RIP", digits(0x100, 4), 4, false},
		{"64-bit field of a 32-bit kernel", "EPT_POINTER", digits(0x100, 4), 8, false},
		{"high half", "EPT_POINTER_HIGH", digits(0x100, 4), 4, false},
		{"16-bit field, zero-extended", "GUEST_CS_SELECTOR", "0000" + digits(0x100, 2), 2, false},
		{"16-bit field of two cells", "GUEST_CS_SELECTOR", digits(0x100, 4), 2, true},
		{"unknown name, 4 digits", "GUEST_SOUL", digits(0x100, 2), 2, false},
		{"unknown name, 8 digits", "GUEST_SOUL", digits(0x100, 4), 4, false},
		{"unknown name, 16 digits", "GUEST_SOUL", digits(0x100, 8), 8, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := ParseNote(cellsNote("FIELD("+tt.field+")="+tt.digits, "FIELD(EXCEPTION_BITMAP)="+digits(0xf00, 4)))
			if err != nil {
				t.Fatal(err)
			}
			e, ok := l.Lookup(tt.field)
			if _, known := FieldByName(tt.field); !ok || e.Known != known || e.Offset != 0x100 || e.Width != tt.width {
				t.Errorf("%+v, expected %d bytes at 0x100", e, tt.width)
			}
			if (len(l.Warnings) != 0) != tt.warns {
				t.Errorf("warnings %q", l.Warnings)
			}
		})
	}
}
