package main

import (
	"bytes"
	"path/filepath"
	"testing"

	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

const realHost = "../../../../testdata/cores/vmx/hsw-default/mini.elf.zst"

// The machines of the real host are all found in one with more memory, and the
// last one's memory is that, each page once.
func TestHost(t *testing.T) {
	const pages = 4096
	path := filepath.Join(t.TempDir(), "host")
	if err := (hostSpec{from: realHost, pages: pages}).make(path); err != nil {
		t.Fatal(err)
	}
	c, err := vmcore.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	found, err := vmcs.Find(t.Context(), c, vmcs.Search{})
	if err != nil {
		t.Fatal(err)
	}
	if len(found.VMCSs) != 5 {
		t.Fatalf("%d VMCSs, expected 5", len(found.VMCSs))
	}
	mem, err := last(c, found.VMCSs).Memory()
	if err != nil {
		t.Fatal(err)
	}
	const usable = 3584 // 7 tables of 512 pages
	seen := make(map[string]bool)
	b := make([]byte, blockSize)
	for i := range usable {
		if _, err := mem.ReadPhys(b, 1<<30+uint64(i)*blockSize); err != nil {
			t.Fatal(err)
		}
		seen[string(b[:16])] = true
	}
	if len(seen) != usable {
		t.Errorf("%d different pages, expected %d", len(seen), usable)
	}
	if _, err := mem.ReadPhys(b, 1<<30+usable*blockSize); err == nil {
		t.Error("there is more")
	}
}

// In a crowd every page begins like a VMCS, and the machines are found.
func TestCrowd(t *testing.T) {
	const pages = 1000
	path := filepath.Join(t.TempDir(), "host")
	if err := (hostSpec{realHost, pages, true}).make(path); err != nil {
		t.Fatal(err)
	}
	c, err := vmcore.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	found, err := vmcs.Find(t.Context(), c, vmcs.Search{})
	if err != nil {
		t.Fatal(err)
	}
	if len(found.VMCSs) != 5 || found.Matched < pages {
		t.Errorf("%d VMCSs, expected 5; %d pages matched, expected %d at least", len(found.VMCSs), found.Matched, pages)
	}
	b := make([]byte, 8)
	if _, err := c.ReadPhys(b, hostMemory+17*blockSize); err != nil || !bytes.Equal(b, []byte{0x2b, 0, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("%v: %x", err, b)
	}
}
