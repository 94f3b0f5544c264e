package cli_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/internal/fakewindows"
	"vmcsnote/physmem"
	"vmcsnote/svm"
	"vmcsnote/vmcore"
)

// The commands of scripts that change a host's memory; see TestScripts.

// patchMemory writes bytes at a physical address that the dump at path has.
func patchMemory(ts *testscript.TestScript, path string, addr uint64, b []byte) {
	f, err := elf.Open(path)
	ts.Check(err)
	defer f.Close()
	i := slices.IndexFunc(f.Progs, func(p *elf.Prog) bool {
		return p.Type == elf.PT_LOAD && p.Paddr <= addr && addr+uint64(len(b)) <= p.Paddr+p.Filesz
	})
	if i < 0 {
		ts.Fatalf("%#x is not in the dump", addr)
	}
	out, err := os.OpenFile(path, os.O_WRONLY, 0)
	ts.Check(err)
	defer out.Close()
	_, err = out.WriteAt(b, int64(f.Progs[i].Off+addr-f.Progs[i].Paddr))
	ts.Check(err)
}

// eachPage calls do for each page of a dump's memory that can be read, but for
// those that are holes of the file.
func eachPage(c vmcore.Core, do func(addr uint64, page []byte)) {
	buf := make([]byte, 4096)
	for r := range c.Ranges() {
		data := slices.Values([]physmem.Range{r})
		if s, ok := c.(physmem.Sparse); ok {
			data = s.Data(r)
		}
		for d := range data {
			// From the range's pages, wherever the data begins in one.
			for addr := d.Addr - (d.Addr-r.Addr)%4096; addr < d.End(); addr += 4096 {
				page := buf[:min(4096, r.End()-addr)]
				if n, err := c.ReadPhys(page, addr); err == nil {
					do(addr, page[:n])
				}
			}
		}
	}
}

// setvmcs sets fields of the VMCS with a VPID.
func setvmcs(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, 20)
	path := ts.MkAbs(args[0])
	c, err := vmcore.OpenFile(path)
	ts.Check(err)
	defer c.Close()
	for _, m := range hostMachines(ts, c) {
		for _, v := range m.VCPUs {
			if strconv.Itoa(vpid(v)) != args[1] {
				continue
			}
			page := slices.Clone(v.Page)
			for _, arg := range args[2:] {
				name, text, _ := strings.Cut(arg, "=")
				x, err := strconv.ParseUint(text, 0, 64)
				ts.Check(err)
				e, ok := v.Layout.Lookup(name)
				if !ok {
					ts.Fatalf("no field %s", name)
				}
				var b [8]byte
				binary.LittleEndian.PutUint64(b[:], x)
				copy(page[e.Offset:], b[:e.Width])
			}
			patchMemory(ts, path, v.Addr, page)
			return
		}
	}
	ts.Fatalf("no VMCS with VPID %s", args[1])
}

// openMachines opens a host's dump and finds its machines. The caller must call
// done.
func openMachines(ts *testscript.TestScript, name string) (path string, h *guest.Host, done func() error) {
	path = ts.MkAbs(name)
	c, err := vmcore.OpenFile(path)
	ts.Check(err)
	h = guest.OpenHost(c)
	ts.Check(h.FindMachines(context.Background(), guest.MachineSearch{}))
	return path, h, c.Close
}

// setvmcb sets fields of the VMCBs of a guest.
func setvmcb(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, 20)
	path, h, done := openMachines(ts, args[0])
	defer done()
	for _, v := range h.Machine(args[1]).VCPUs {
		for _, arg := range args[2:] {
			name, text, _ := strings.Cut(arg, "=")
			x, err := strconv.ParseUint(text, 0, 64)
			ts.Check(err)
			f, ok := svm.FieldByName(name)
			if !ok {
				ts.Fatalf("no field %s", name)
			}
			patchMemory(ts, path, v.VMCB+uint64(f.Offset), binary.LittleEndian.AppendUint64(nil, x)[:f.Size])
		}
	}
}

// windows makes a Windows of a guest.
func windows(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2)
	path, h, done := openMachines(ts, args[0])
	defer done()
	ts.Check(h.FindRegisters(context.Background(), nil))
	ts.Check(fakewindows.Install(h.Machine(args[1]), fakewindows.Shared(), func(addr uint64, b []byte) error {
		patchMemory(ts, path, addr, b)
		return nil
	}))
}

// forge writes a note, VMCSINFO unless it is named, with the contents of a file
// as its descriptor, to an address.
func forge(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, 4)
	addr, err := strconv.ParseUint(args[1], 0, 64)
	ts.Check(err)
	n := elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte(ts.ReadFile(args[2]))}
	if len(args) == 4 {
		n.Name = args[3]
	}
	patchMemory(ts, ts.MkAbs(args[0]), addr, n.Encode(binary.LittleEndian))
}

// zeros clears the page at an address.
func zeros(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2)
	addr, err := strconv.ParseUint(args[1], 0, 64)
	ts.Check(err)
	patchMemory(ts, ts.MkAbs(args[0]), addr, make([]byte, 4096))
}

// rewrite replaces text, in Go's spelling, in the memory of a dump by text of
// the same length.
func rewrite(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, 3)
	path := ts.MkAbs(args[0])
	old, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	text, err := strconv.Unquote(`"` + args[2] + `"`)
	ts.Check(err)
	if len(old) != len(text) {
		ts.Fatalf("%d bytes for %d", len(text), len(old))
	}
	c, err := vmcore.OpenFile(path)
	ts.Check(err)
	defer c.Close()
	found := false
	eachPage(c.Core, func(addr uint64, page []byte) {
		if i := bytes.Index(page, []byte(old)); i >= 0 {
			patchMemory(ts, path, addr+uint64(i), []byte(text))
			found = true
		}
	})
	if !found {
		ts.Fatalf("%q is not in the dump", old)
	}
}
