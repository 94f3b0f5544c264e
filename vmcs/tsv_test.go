package vmcs

import (
	"strings"
	"testing"
)

// TestTableOfBuiltin: what a table says is all there is in a layout.
func TestTableOfBuiltin(t *testing.T) {
	layouts := Builtin()
	for _, f := range tableFiles() {
		if strings.HasPrefix(f.name, "fields") {
			continue
		}
		if got := layouts[0].Table(); got != f.text {
			t.Errorf("%s: got\n%.600s", f.name, got)
		}
		layouts = layouts[1:]
	}
}

func TestTable(t *testing.T) {
	l, err := ParseNote([]byte("REVISION_ID=13\nFORM=offsets\nACCESS_RIGHTS=packed\nCPU_MODEL=6a\n" +
		"FIELD(HOST_RIP)=3f8\nFIELD(GUEST_CS_AR_BYTES)=42\nFIELD(GUEST_CS_SELECTOR)=40\nFIELD(SHINY_NEW)=100\n" +
		"FIELD(IO_BITMAP_A)=200\nFIELD(IO_BITMAP_A_HIGH)=204\nFIELD(IO_BITMAP_B_HIGH)=20c\n"))
	if err != nil {
		t.Fatal(err)
	}
	l.Name, l.Sources = "granite", []string{"a machine"}
	const want = `# revision_id 0x13
# name granite
# source a machine
# note SHINY_NEW at 256, 0 bytes: not in the field table, or a high half alone
# note IO_BITMAP_B_HIGH at 524, 4 bytes: not in the field table, or a high half alone
0x0802	GUEST_CS_SELECTOR	64	2	-
0x2000	IO_BITMAP_A	512	8	-
0x4816	GUEST_CS_AR_BYTES	66	2	ar16
0x6c16	HOST_RIP	1016	8	-
`
	if got := l.Table(); got != want {
		t.Errorf("got\n%s", got)
	}
	back := builtin(tableFile{text: want}.table())
	if back.RevisionID != 0x13 || back.Name != "granite" || back.AccessRights != RightsPacked || len(back.Entries) != 4 {
		t.Errorf("read back: %+v", back)
	}
}
