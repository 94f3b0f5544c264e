package cli_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/vmcore"
)

// kcore writes the memory of a host as /proc/kcore shows it (fs/proc/kcore.c):
// the kernel's own notes, a segment for each range of memory at the offset that
// its virtual address has, terabytes into the file, and segments of no memory,
// whose p_paddr is -1.
func kcore(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, 2)
	c, err := vmcore.OpenFile(ts.MkAbs(args[0]))
	ts.Check(err)
	defer c.Close()
	out, err := os.Create(ts.MkAbs(args[1]))
	ts.Check(err)
	defer out.Close()
	const (
		directMap = 0xffff888000000000
		vmalloc   = 0xffffc90000000000
		offsets   = 1<<47 - 1 // __VIRTUAL_MASK
		dataOff   = 0x1000
		// The other segments' places would be beyond what ext4 takes.
		otherOff, end = 10 << 40, 12 << 40
	)
	order := binary.LittleEndian
	var zero [4096]byte
	info := make([]byte, 136) // struct elf_prpsinfo
	info[1] = 'R'
	copy(info[40:], "vmlinux")
	copy(info[56:], "BOOT_IMAGE=/vmlinuz quiet")
	var notes []byte
	for _, n := range []elfnote.Note{
		{Name: "CORE", Type: uint32(elf.NT_PRSTATUS), Desc: make([]byte, 336)},
		{Name: "CORE", Type: uint32(elf.NT_PRPSINFO), Desc: info},
		{Name: "CORE", Type: 4, Desc: make([]byte, 64)}, // NT_TASKSTRUCT
		{Name: elfnote.VMCoreInfo, Desc: []byte(guest.VMCoreInfo(c.Core))},
	} {
		notes = append(notes, n.Encode(order)...)
	}
	progs := []elf.Prog64{{Type: uint32(elf.PT_NOTE)}, {
		Type: uint32(elf.PT_LOAD), Flags: 7, Off: otherOff, Vaddr: vmalloc, Paddr: 1<<64 - 1,
		Filesz: 1 << 40, Memsz: 1 << 40, Align: 4096,
	}}
	for r := range c.Ranges() {
		vaddr := directMap + r.Addr
		progs = append(progs, elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: 7, Off: vaddr&offsets + dataOff, Vaddr: vaddr, Paddr: r.Addr,
			Filesz: r.Size, Memsz: r.Size, Align: 4096,
		})
	}
	eachPage(c.Core, func(addr uint64, page []byte) {
		if !bytes.Equal(page, zero[:len(page)]) {
			_, err := out.WriteAt(page, int64((directMap+addr)&offsets+dataOff))
			ts.Check(err)
		}
	})
	head := elf.Header64{Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(progs))}
	copy(head.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	progs[0].Off, progs[0].Filesz = 64+56*uint64(len(progs)), uint64(len(notes))
	var b bytes.Buffer
	ts.Check(binary.Write(&b, order, head))
	ts.Check(binary.Write(&b, order, progs))
	b.Write(notes)
	_, err = out.WriteAt(b.Bytes(), 0)
	ts.Check(err)
	ts.Check(out.Truncate(end))
}
