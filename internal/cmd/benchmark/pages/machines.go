package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"os"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/internal/crowd"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// machineSlots is how many memory slots each machine of a crowded host has.
const machineSlots = 16

// makeMachines writes the dump of a KVM host with n machines of some vCPUs in
// place of its own. from is the dump of a real one with AMD's processors,
// whose kernel has BTF. Each VMCB is a copy of one of the real host.
func makeMachines(from string, n, vcpus int64, path string) error {
	f, err := vmcore.OpenFile(from)
	if err != nil {
		return err
	}
	defer f.Close()
	real := guest.OpenHost(f.Core)
	if err := real.FindMachines(context.Background(), guest.MachineSearch{}); err != nil {
		return err
	}
	if real.NoKVM != nil {
		return real.NoKVM
	}
	info, ok := f.Core.Notes().Get(elfnote.VMCoreInfo, elfnote.MaxVMCoreInfo)
	if !ok || len(real.Machines) == 0 || len(real.Machines[0].VCPUs) == 0 {
		return errors.Errorf("%s: no VMCOREINFO, or no machine", from)
	}
	h := crowd.New(f.Core, string(info.Desc))
	h.VMCB = make([]byte, blockSize)
	if _, err := f.Core.ReadPhys(h.VMCB, real.Machines[0].VCPUs[0].VMCB); err != nil {
		return err
	}
	like, err := h.Model()
	if err != nil {
		return errors.WithMessage(err, from)
	}
	var all []crowd.Object
	for i := range n {
		all = append(all, h.Machine(10000+100*int(i), int(vcpus), machineSlots, like))
	}
	h.Link(all...)
	return writeCore(path, h, info)
}

// writeCore writes an ELF core of a host's memory, with holes for zeros.
func writeCore(path string, m physmem.Memory, info elfnote.Note) error {
	f, err := os.Create(path)
	if err != nil {
		return errors.WithStack(err)
	}
	defer f.Close()
	note := info.Encode(little)
	ranges := slices.Collect(m.Ranges())
	const head, entry = 64, 56
	align := func(n int) uint64 { return (uint64(n) + blockSize - 1) &^ (blockSize - 1) }
	at := align(head + entry*(1+len(ranges)))
	progs := []elf.Prog64{{Type: uint32(elf.PT_NOTE), Off: at, Filesz: uint64(len(note)), Memsz: uint64(len(note))}}
	end := at + align(len(note))
	for _, r := range ranges {
		progs = append(progs, elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: 7, Off: end, Paddr: r.Addr, Filesz: r.Size, Memsz: r.Size})
		end += align(int(r.Size))
	}
	h := elf.Header64{Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: head, Ehsize: head, Phentsize: entry, Phnum: uint16(len(progs))}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	binary.Write(&b, little, h)
	binary.Write(&b, little, progs)
	if _, err := f.WriteAt(b.Bytes(), 0); err != nil {
		return errors.WithStack(err)
	}
	if _, err := f.WriteAt(note, int64(at)); err != nil {
		return errors.WithStack(err)
	}
	page := make([]byte, blockSize)
	for _, p := range progs[1:] {
		for off := uint64(0); off < p.Filesz; off += blockSize {
			b := page[:min(blockSize, p.Filesz-off)]
			if n, err := m.ReadPhys(b, p.Paddr+off); n < len(b) {
				return err
			}
			if physmem.AllZero(b) {
				continue
			}
			if _, err := f.WriteAt(b, int64(p.Off+off)); err != nil {
				return errors.WithStack(err)
			}
		}
	}
	return errors.WithStack(f.Truncate(int64(end)))
}
