package linux

import (
	"encoding/binary"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/internal/testcores"
	"vmcsnote/physmem"
	"vmcsnote/vmcore"
)

// realKernel returns the kernel in one of testdata/cores/linux-host.
func realKernel(t testing.TB, name string) (*Kernel, physmem.Reader) {
	t.Helper()
	image := testcores.Image(t, "linux-host/"+name)
	core, err := vmcore.Open(image, image.Size())
	if err != nil {
		t.Fatal(err)
	}
	i, _ := core.Notes().Find(elfnote.VMCoreInfo, 0)
	note, err := core.Notes().Note(i, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	k, err := Open(core, string(note.Desc))
	if err != nil {
		t.Fatal(err)
	}
	return k, core
}

// fuzzPaths are what is asked of each type: every way that a path can go.
var fuzzPaths = map[string][]string{
	"task_struct":     {"thread_info.cpu", "comm", "cgroups->dfl_cgrp->kn->name"},
	"kvm":             {"vm_list", "online_vcpus.counter", "memslots", "memslots[1]", "vcpu_array"},
	"kvm_vcpu":        {"pid->numbers[0].nr", "arch.regs", "arch.regs[16]", "arch.mmu->root.hpa", "run->exit_reason"},
	"kvm_memory_slot": {"gfn_node[1]", "id", "flags"},
	"vcpu_svm":        {"current_vmcb->pa", "vmcb->save.rip"},
	"xa_node":         {"shift", "slots"},
}

// FuzzRealBTF changes bytes of a real kernel's BTF and of a module's. Where
// types are taken out of it, and how big they are, must stay within it.
func FuzzRealBTF(f *testing.F) {
	k, _ := realKernel(f, "amd-6.12")
	base, err := k.btf()
	if err != nil {
		f.Fatal(err)
	}
	m, err := k.Module("kvm")
	if err != nil {
		f.Fatal(err)
	}
	split, err := m.types.get(m.readTypes)
	if err != nil {
		f.Fatal(err)
	}
	// What is left of types in a thinned dump is few: changes go there.
	places := func(t *types) (at []uint32) {
		for i, off := range t.offsets {
			if t.types[off+7]&0x1f != kindFwd {
				end := uint32(len(t.types))
				if i+1 < len(t.offsets) {
					end = t.offsets[i+1]
				}
				for ; off+4 <= end; off += 4 {
					at = append(at, off)
				}
			}
		}
		return at
	}
	all := [2]*types{base, split}
	words := [2][]uint32{places(base), places(split)}
	for i := range uint32(12) {
		f.Add(i*7919, i*104729, i%4 == 0)
	}
	f.Fuzz(func(t *testing.T, at, value uint32, inBase bool) {
		which := 1
		if inBase {
			which = 0
		}
		b := all[which].types[words[which][int(at)%len(words[which])]:]
		old := binary.LittleEndian.Uint32(b)
		defer func() { binary.LittleEndian.PutUint32(b, old) }()
		binary.LittleEndian.PutUint32(b, value)
		var base *types
		for i, from := range all {
			parsed := &types{base: base, types: from.types, strings: from.strings, first: from.first, strBase: from.strBase}
			if parsed.index() != nil {
				return
			}
			all := *parsed
			base = &all
			for name, paths := range fuzzPaths {
				s, err := parsed.structure(name)
				if err != nil {
					continue
				}
				for _, path := range paths {
					field, err := s.Field(path)
					if err == nil && (field.Size > 1<<32 || field.Count*field.Stride > 1<<32) {
						t.Fatalf("%s.%s of the BTF %d has %d bytes, %d elements of %d", name, path, i, field.Size, field.Count, field.Stride)
					}
				}
			}
			parsed.enumerator("kvm_reg", "VCPU_REGS_RIP")
		}
	})
}

// changed is memory with other bytes at an address.
type changed struct {
	physmem.Reader
	addr uint64
	b    []byte
}

func (c changed) ReadPhys(p []byte, addr uint64) (int, error) {
	n, err := c.Reader.ReadPhys(p, addr)
	for i, v := range c.b {
		if at := c.addr + uint64(i); at >= addr && at-addr < uint64(n) {
			p[at-addr] = v
		}
	}
	return n, err
}

// FuzzRealKallsyms changes bytes of a real kernel's symbol tables, of one that
// VMCOREINFO names and of one that is searched for.
func FuzzRealKallsyms(f *testing.F) {
	type target struct {
		k     *Kernel
		mem   physmem.Reader
		place kallsymsPlace
		spans [][2]uint64 // addresses and sizes of the tables
	}
	var targets [2]target
	for i, name := range []string{"amd-5.10", "amd-6.12"} {
		k, mem := realKernel(f, name)
		place, ok, err := k.kallsymsInfo()
		if !ok && err == nil {
			place, err = (&tableFinder{k: k}).find()
		}
		if err != nil {
			f.Fatal(err)
		}
		s, err := k.kallsyms()
		if err != nil {
			f.Fatal(err)
		}
		targets[i] = target{k, mem, place, [][2]uint64{
			{place.tokenTable, 2048}, {place.tokenIndex, 2 * tokens}, {place.offsets, 64}, {place.tokenTable - 256, 256},
			{place.names, uint64(s.start[len(s.start)-1])},
		}}
		if place.relativeBase != 0 {
			targets[i].spans = append(targets[i].spans, [2]uint64{place.relativeBase, 16})
		}
	}
	for i := range uint32(12) {
		f.Add(i%2 == 0, byte(i), i*i*i*31, []byte{byte(i * 11), 0xff, 0x80, byte(i)})
	}
	f.Fuzz(func(t *testing.T, searched bool, span byte, at uint32, b []byte) {
		to := targets[1]
		if searched {
			to = targets[0]
		}
		table := to.spans[int(span)%len(to.spans)]
		phys, _, err := to.k.Phys(table[0] + uint64(at)%table[1])
		if err != nil {
			t.Fatal(err)
		}
		k := &Kernel{info: to.k.info, physBase: to.k.physBase, offset: to.k.offset, levels: to.k.levels, tables: to.k.tables,
			mem: changed{to.mem, phys, b[:min(len(b), 64)]}}
		place := to.place
		if searched {
			var ok bool
			finder := tableFinder{k: k}
			if place, ok = finder.around(place.tokenTable + digitsIn(to.k, place)); !ok {
				return
			}
		}
		s, err := k.readKallsyms(place)
		if err != nil {
			return
		}
		if len(s.start) > maxSymbols || len(s.names) > maxNames+maxName {
			t.Fatalf("%d symbols, %d bytes of names", len(s.start), len(s.names))
		}
		if _, ok := s.find("init_task"); ok {
			s.name(len(s.start) - 1)
		}
		s.find("no_such_symbol")
	})
}

// digitsIn is where the tokens of the digits begin in the token table.
func digitsIn(k *Kernel, p kallsymsPlace) uint64 {
	n, _ := k.uint(p.tokenIndex+2*'0', 2)
	return n
}
