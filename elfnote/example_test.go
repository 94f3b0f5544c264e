package elfnote_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log"

	"vmcsnote/elfnote"
)

// Add a note to the notes of a core, after VMCOREINFO.
func Example() {
	order := binary.LittleEndian
	var notes []byte
	for _, n := range []elfnote.Note{
		{Name: "CORE", Type: 1, Desc: make([]byte, 336)},
		{Name: elfnote.VMCoreInfo, Desc: []byte("OSRELEASE=6.1.0\n")},
		{Name: "QEMU", Desc: make([]byte, 440)},
	} {
		notes = append(notes, n.Encode(order)...)
	}

	s, err := elfnote.Parse(bytes.NewReader(notes), int64(len(notes)), order)
	if err != nil {
		log.Fatal(err)
	}
	sp := s.Insert(elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=0x4\n")})
	fmt.Printf("%d bytes at %d\n", sp.Grow(), sp.Off)

	notes = append(notes[:sp.Off:sp.Off], append(sp.Ins, notes[sp.Off+sp.Del:]...)...)
	if s, err = elfnote.Parse(bytes.NewReader(notes), int64(len(notes)), order); err != nil {
		log.Fatal(err)
	}
	for _, n := range s.Notes {
		fmt.Println(n.Name, n.DescSize)
	}
	// Output:
	// 40 bytes at 396
	// CORE 336
	// VMCOREINFO 16
	// VMCSINFO 16
	// QEMU 440
}
