package vmcs_test

import (
	"fmt"
	"log"

	"vmcsnote/vmcs"
)

// Read the text of a VMCSINFO note: where each field lies in a VMCS.
func ExampleParseNote() {
	l, err := vmcs.ParseNote([]byte("REVISION_ID=4\nFORM=offsets\n" +
		"FIELD(GUEST_RIP)=0x2a8\n" +
		"FIELD(GUEST_CR3)=0x2b0\n"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("revision id %#x, form %v\n", l.RevisionID, l.Form)
	for _, e := range l.Entries {
		fmt.Printf("%s (%v) at %#x, %d bytes\n", e.Name, e.Encoding, e.Offset, e.Width)
	}
	// Output:
	// revision id 0x4, form offsets
	// GUEST_RIP (0x681e) at 0x2a8, 8 bytes
	// GUEST_CR3 (0x6802) at 0x2b0, 8 bytes
}

// Print what the architecture tells of a field, and a basic exit reason.
func ExampleFieldByName() {
	f, ok := vmcs.FieldByName("GUEST_RIP")
	fmt.Println(ok, f.Encoding == vmcs.GuestRIP, f.Encoding)
	fmt.Println(vmcs.ExitReason(48))
	// Output:
	// true true 0x681e
	// EPT_VIOLATION
}
