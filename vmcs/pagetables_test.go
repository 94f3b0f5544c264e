package vmcs

import (
	"encoding/binary"
	"testing"

	"vmcsnote/internal/x86"
)

// entry sets entry i of the page table at addr.
func (m memory) entry(addr uint64, i int, e uint64) {
	if m[addr] == nil {
		m[addr] = make([]byte, PageSize)
	}
	binary.LittleEndian.PutUint64(m[addr][8*i:], e)
}

func TestDirectMap(t *testing.T) {
	const (
		cr3, pdpt, pd, pt, pml4 = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000
		addr                    = 0x1_23456000 // entry 0 of 1 GiB 4, PD entry 0x11a, PT entry 0x56
	)
	for _, tt := range []struct {
		name   string
		levels int
		build  func(m memory)
		base   uint64
		ok     bool
	}{
		{"4 KiB pages", 4, func(m memory) {
			m.entry(cr3, 273, pdpt|3)
			m.entry(pdpt, 4, pd|3)
			m.entry(pd, 0x11a, pt|3)
			m.entry(pt, 0x56, addr|3)
		}, 0xffff888000000000, true},
		{"2 MiB pages", 4, func(m memory) {
			m.entry(cr3, 273, pdpt|3)
			m.entry(pdpt, 4, pd|3)
			m.entry(pd, 0x11a, 0x1_23400000|0x83)
		}, 0xffff888000000000, true},
		{"1 GiB pages", 4, func(m memory) {
			m.entry(cr3, 273, pdpt|3)
			m.entry(pdpt, 4, 0x1_00000000|0x83)
		}, 0xffff888000000000, true},
		{"no-execute, 52 bits", 4, func(m memory) {
			m.entry(cr3, 273, pdpt|3)
			m.entry(pdpt, 4, 1<<63|0x1_00000000|0x83)
		}, 0xffff888000000000, true},
		{"randomized", 4, func(m memory) {
			m.entry(cr3, 285, pdpt|3)
			m.entry(pdpt, 4+330, 0x1_00000000|0x83)
		}, 0xffff8ed280000000, true},
		{"5 levels", 5, func(m memory) {
			m.entry(cr3, 273, pml4|3)
			m.entry(pml4, 0, pdpt|3)
			m.entry(pdpt, 4, 0x1_00000000|0x83)
		}, 0xff11000000000000, true},
		{"other mappings before it", 4, func(m memory) {
			m.entry(cr3, 260, pdpt|3)
			m.entry(pdpt, 7, 0x2_00000000|0x83)
			m.entry(pdpt, 8, 0x77777000|3) // not in the dump
			m.entry(cr3, 273, pml4|3)
			m.entry(pml4, 4, 0x1_00000000|0x83)
		}, 0xffff888000000000, true},
		{"the process's half alone", 4, func(m memory) {
			m.entry(cr3, 17, pdpt|3)
			m.entry(pdpt, 4, 0x1_00000000|0x83)
		}, 0, false},
		{"mapped at another place of its gigabyte", 4, func(m memory) {
			m.entry(cr3, 273, pdpt|3)
			m.entry(pdpt, 4, pd|3)
			m.entry(pd, 0x11b, 0x1_23400000|0x83)
		}, 0, false},
		{"a loop", 4, func(m memory) {
			for i := range x86.Entries {
				m.entry(cr3, i, cr3|3)
			}
		}, 0, false},
		{"a loop of 5 levels", 5, func(m memory) {
			for i := range x86.Entries {
				m.entry(cr3, i, cr3|3)
			}
		}, 0, false},
		{"no tables", 4, func(memory) {}, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := make(memory)
			tt.build(m)
			if base, ok := (&hostTables{r: m}).directMap(cr3|5, addr, tt.levels); base != tt.base || ok != tt.ok {
				t.Errorf("%#x, %v, expected %#x, %v", base, ok, tt.base, tt.ok)
			}
		})
	}
}
