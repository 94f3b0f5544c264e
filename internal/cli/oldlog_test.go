package cli_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"maps"
	"os"
	"slices"

	"github.com/rogpeppe/go-internal/testscript"

	"vmcsnote/elfnote"
	"vmcsnote/internal/fakelinux"
)

// oldlog makes a core of a kernel whose log is in the buffer of Linux 3.5 to
// 5.9; see TestScripts.
func oldlog(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, 1)
	f := fakelinux.New()
	f.LogBuffer(256, 0,
		fakelinux.Message{Level: 5, Text: "Linux version 4.19.0"},
		fakelinux.Message{Nanoseconds: 1_500_000_000, Level: 3, Text: "two\nlines"},
		fakelinux.Message{Nanoseconds: 2_000_001_999, Level: 0, Facility: 3, Text: "\x1b[2Jhostile"})
	info := elfnote.Note{Name: elfnote.VMCoreInfo, Desc: []byte(f.Finish())}.Encode(binary.LittleEndian)
	addrs := slices.Sorted(maps.Keys(f.Pages))
	off := uint64(64 + 56*(1+len(addrs)))
	progs := []elf.Prog64{{Type: uint32(elf.PT_NOTE), Off: off, Filesz: uint64(len(info))}}
	off += uint64(len(info))
	memory := info
	for _, addr := range addrs {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_LOAD), Off: off, Paddr: addr, Filesz: 4096, Memsz: 4096})
		off += 4096
		memory = append(memory, f.Pages[addr]...)
	}
	head := elf.Header64{Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(progs))}
	copy(head.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	var b bytes.Buffer
	for _, v := range []any{head, progs, memory} {
		ts.Check(binary.Write(&b, binary.LittleEndian, v))
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o600))
}
