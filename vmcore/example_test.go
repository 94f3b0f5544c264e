package vmcore_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/vmcore"
)

// Add a note to a dump in place, in the cheapest way that is safe.
func ExampleFile_Plan() {
	path := smallCore()
	defer os.Remove(path)

	f, err := vmcore.OpenFileRW(path)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	n := elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte("REVISION_ID=4\n")}
	p, err := f.Plan(f.Notes().Insert(n), f.Notes().Append(n), "")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: the file grows by %d bytes\n", p.Placement, p.Growth())
	if err := p.Do(context.Background(), nil); err != nil {
		log.Fatal(err)
	}
	// Output:
	// slack: the file grows by 0 bytes
}

// List a dump's notes, and read its memory.
func ExampleOpenFile() {
	path := smallCore()
	defer os.Remove(path)

	f, err := vmcore.OpenFile(path)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	fmt.Println(f.Format())
	for _, n := range f.Notes().Notes {
		fmt.Println(n.Name, n.DescSize)
	}
	for r := range f.Ranges() {
		n, err := f.ReadPhys(make([]byte, 16), r.Addr)
		fmt.Printf("%#x bytes at %#x: read %d, %v\n", r.Size, r.Addr, n, err)
	}
	// Output:
	// elf64
	// CORE 336
	// CORE 336
	// VMCOREINFO 283
	// 0x1c00 bytes at 0x1000: read 16, <nil>
	// 0x3000 bytes at 0x100000: read 16, <nil>
	// 0x4000 bytes at 0x1000000: read 16, <nil>
}

// smallCore returns the path of a small core, to be removed after use.
func smallCore() string {
	dir, err := testcores.Dir()
	if err != nil {
		log.Fatal(err)
	}
	core, err := testcores.Load(dir, "kernel-slack")
	if err != nil {
		log.Fatal(err)
	}
	f, err := os.CreateTemp("", "vmcore")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	if err := core.Expand(f); err != nil {
		log.Fatal(err)
	}
	return f.Name()
}
