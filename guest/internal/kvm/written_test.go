package kvm

import (
	"reflect"
	"testing"
)

// TestWrittenOrder compares the members of fields.written with the indexes that
// they are read by.
func TestWrittenOrder(t *testing.T) {
	members := reflect.TypeOf(fields{}.written)
	names := map[string]int{
		"HostCR3": HostCR3, "HostCR4": HostCR4, "HostFSBase": HostFSBase, "HostGSBase": HostGSBase, "HostRSP": HostRSP,
		"Pin": Pin, "Exec": Exec, "Secondary": Secondary, "Tertiary": Tertiary, "Entry": Entry, "Exit": Exit, "VPID": VPID,
		"TSCOffset": TSCOffset, "TSCRatio": TSCRatio, "CR0Owned": CR0Mask, "CR4Owned": CR4Mask, "PAT": PAT, "Root": Root,
		"RFLAGS": RFLAGS, "VM86": VM86, "ExitReason": ExitReason, "IntrInfo": ExitIntrInfo, "Qualified": Qualification,
		"IDTVectoring": IDTVectoring, "Cached": cached, "MSRBitmap": MSRBitmap, "VirtualAPIC": VirtualAPIC,
		"EntryLoad": EntryLoad, "ExitLoad": ExitLoad, "Posted": Posted,
		"Selector": Posted + 1, "Base": Posted + 2, "Limit": Posted + 3, "Rights": Posted + 4, "Segments": Posted + 5,
	}
	if members.NumField() != len(names) {
		t.Errorf("%d members, and indexes of %d", members.NumField(), len(names))
	}
	for i := range members.NumField() {
		if name := members.Field(i).Name; names[name] != i {
			t.Errorf("%s is member %d, and read by index %d", name, i, names[name])
		}
	}
	if HostRIP != Posted+1 {
		t.Errorf("%d values are no members, and begin at %d", HostRIP, Posted+1)
	}
}
