package vmcs

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/testcores"
	"vmcsnote/physmem"
)

const testCores = "../testdata/cores/"

// vmxCores are the dumps of KVM hosts in testdata/cores/vmx.
var vmxCores = []string{"hsw-default", "penryn-no-ept", "deb27-package-kdump"}

// A memory is physical memory for tests: pages by their addresses.
type memory map[uint64][]byte

var errNoPage = errors.New("no such page")

func (m memory) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		page, ok := m[at&^(PageSize-1)]
		if !ok {
			return n, errors.Wrapf(errNoPage, "%#x", at)
		}
		n += copy(p[n:], page[at%PageSize:])
	}
	return n, nil
}

// Ranges implements [physmem.Memory].
func (m memory) Ranges() iter.Seq[physmem.Range] {
	return physmem.Joined(func(yield func(physmem.Range) bool) {
		for _, addr := range slices.Sorted(maps.Keys(m)) {
			if !yield(physmem.Range{Addr: addr, Size: PageSize}) {
				return
			}
		}
	})
}

// clone returns a memory whose pages can be changed.
func (m memory) clone() memory {
	c := make(memory, len(m))
	for addr, page := range m {
		c[addr] = slices.Clone(page)
	}
	return c
}

// loadMemory reads one of testdata/cores. The pages are the caller's own.
func loadMemory(t testing.TB, name string) memory {
	t.Helper()
	data := testcores.Bytes(t, name)
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	m := make(memory)
	for _, p := range f.Progs {
		for off := uint64(0); p.Type == elf.PT_LOAD && off+PageSize <= p.Filesz; off += PageSize {
			m[p.Paddr+off] = data[p.Off+off:][:PageSize]
		}
	}
	return m
}

// loadNote reads the layout in a dump's folder, from the note as it lay in the
// host's memory.
func loadNote(t testing.TB, dir string) *Layout {
	t.Helper()
	blob, err := os.ReadFile(filepath.Join(testCores, dir, "vmcsinfo.note"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := ParseNote(bytes.TrimRight(blob[24:], "\x00"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A truth is check.json: what is known of a host.
type truth struct {
	Revision uint32
	// VMCSs have access rights as they lie in the page, everything else as
	// VMREAD gives it.
	VMCSs []struct {
		PA     uint64
		Guest  string
		Fields map[string]uint64
	} `json:"vmcs"`
	// Live is what VMREAD gave of one VMCS before the crash, in hexadecimal.
	Live map[string]string
}

func loadTruth(t testing.TB, dir string) truth {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testCores, dir, "check.json"))
	if err != nil {
		t.Fatal(err)
	}
	var tr truth
	if err := json.Unmarshal(data, &tr); err != nil {
		t.Fatal(err)
	}
	return tr
}
