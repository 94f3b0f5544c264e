package vmcs

import "testing"

func TestFields(t *testing.T) {
	l, err := ParseNote([]byte("REVISION_ID=2b\nFIELD(TSC_OFFSET)=100\nFIELD(EPT_POINTER)=108\nFIELD(EPT_POINTER_HIGH)=200\n" +
		"FIELD(GUEST_CS_SELECTOR)=300\nFIELD(GUEST_CS_AR_BYTES)=304\nFIELD(GUEST_SOUL)=400\nFIELD(GUEST_RIP)=ff8\n"))
	if err != nil {
		t.Fatal(err)
	}
	v := VMCS{Page: make([]byte, PageSize), Layout: l}
	put(v.Page, 8, 5<<32|1<<31|0x2b)
	put(v.Page[0x100:], 8, 0x1122334455667788)
	put(v.Page[0x108:], 8, 0xaaaaaaaabbbbbbbb)
	put(v.Page[0x200:], 4, 0xcccccccc)
	put(v.Page[0x300:], 8, 0x00a09b00_ffff0008)
	put(v.Page[0xff8:], 8, 0xffffffff81000000)
	if v.RevisionID() != 0x2b || !v.Shadow() || v.Abort() != 5 {
		t.Errorf("revision id %#x, shadow %v, abort %d", v.RevisionID(), v.Shadow(), v.Abort())
	}
	for _, tt := range []struct {
		name  string
		value uint64
		ok    bool
	}{
		{"TSC_OFFSET", 0x1122334455667788, true},
		{"TSC_OFFSET_HIGH", 0x11223344, true},  // out of the whole
		{"EPT_POINTER_HIGH", 0xcccccccc, true}, // as the layout has it
		{"GUEST_CS_SELECTOR", 8, true},
		{"GUEST_CS_AR_BYTES", 0xa09b00, true}, // as it lies: nothing tells how
		{"GUEST_RIP", 0xffffffff81000000, true},
		{"GUEST_SOUL", 0, false}, // of no known width
		{"GUEST_RSP", 0, false},
		{"GUEST_RSP_LOW", 0, false},
	} {
		if value, ok := v.Field(tt.name); value != tt.value || ok != tt.ok {
			t.Errorf("%s = %#x, %v, expected %#x, %v", tt.name, value, ok, tt.value, tt.ok)
		}
	}
	l.SetAccessRights(RightsRotated)
	e, _ := l.Lookup("GUEST_CS_AR_BYTES")
	value, _ := v.Field(e.Name)
	if raw, ok := v.raw(e); value != 0xa09b || raw != 0xa09b00 || !ok {
		t.Errorf("access rights %#x, in the page %#x", value, raw)
	}
	for _, e := range []Entry{{Offset: -1, Width: 8}, {Offset: PageSize, Width: 2}, {Offset: PageSize - 1, Width: 2}, {Offset: 1 << 30, Width: 4}, {Offset: 8, Width: 3}} {
		if _, ok := v.raw(e); ok {
			t.Errorf("%+v can be read", e)
		}
	}
}

// TestRightsAtTheEnd is on a layout that leaves access rights two bytes, and
// tells so by nothing else.
func TestRightsAtTheEnd(t *testing.T) {
	l, err := ParseNote([]byte("REVISION_ID=2b\nFIELD(GUEST_CS_AR_BYTES)=ffe\nFIELD(GUEST_DS_AR_BYTES)=100\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Entries) != 2 || l.AccessRights != RightsPacked || l.Entries[0].Width != 2 || l.Entries[1].Width != 2 || len(l.Warnings) != 0 {
		t.Errorf("%+v", l)
	}
}
