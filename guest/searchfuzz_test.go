package guest

import (
	"context"
	"encoding/binary"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/guest/internal/infer"
	"vmcsnote/vmcs"
)

// Whatever memory and VMCS hold, the search ends without a panic, and what it
// takes for known is in the memory.
func FuzzRegSearch(f *testing.F) {
	k := &testKVM{ram: newRAM(), base: 0xffff888000000000}
	k.gsBase(0)
	seed := append(append([]byte(nil), k.pages[testArray/pageSize]...), k.pages[testPointer/pageSize]...)
	f.Add(seed, uint64(0x80050033), uint64(0x57f6002), uint64(0x170ef0), uint64(0x82a03e98))
	f.Add(seed[:100], uint64(0), uint64(0), uint64(0), uint64(0))
	f.Fuzz(func(t *testing.T, b []byte, cr0, cr3, cr4, rsp uint64) {
		r := newRAM()
		for i, c := range b[:min(len(b), 1<<16)] {
			at := testArray&^(pageSize-1) + uint64(i)
			r.page(at)[at%pageSize] = c
		}
		v := testVMCS(testAddr, map[string]uint64{"GUEST_CR0": cr0, "CR0_READ_SHADOW": cr0, "GUEST_CR3": cr3, "CR4_READ_SHADOW": cr4, "GUEST_RSP": rsp})
		k := &testKVM{ram: r}
		all, err := findRegisters(context.Background(), infer.Search{Mem: k}, []*vmcs.VMCS{v, v})
		if err != nil {
			t.Fatal(err)
		}
		for _, regs := range all {
			if regs.GPR[RAX].Known() && regs.GPR[RAX].Value != r.word(regs.Evidence.Array) {
				t.Errorf("%+v", regs)
			}
			PRStatus(1, regs)
			QEMUState(regs)
		}
	})
}

// A VMCS note that can be read comes out of what was read again.
func FuzzParseNote(f *testing.F) {
	v := testVMCS(testAddr, nil)
	regs := readVMCS(v)
	regs.GPR[RAX] = Register{5, FromKVM}
	regs.RIP = Register{6, FromKVMDirty}
	regs.CR8 = Register{1, FromAPIC}
	good := (&CPU{VMCS: v, Regs: regs, Thread: 7, Slots: []Slot{{GPA: 0x1000, HVA: 0x7f0000000000, Size: 0x2000}}}).Note()
	f.Add(good.Desc)
	f.Add(good.Desc[:len(good.Desc)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseVMCSNote(elfnote.Note{Name: NoteName, Desc: b}, v.Layout)
		if err != nil {
			return
		}
		again, err := ParseVMCSNote(c.Note(), v.Layout)
		if err != nil || *again.Regs != *c.Regs || again.Thread != c.Thread || len(again.Slots) != len(c.Slots) {
			t.Errorf("%+v, %v, want %+v", again, err, c)
		}
	})
}

func TestParseNote(t *testing.T) {
	v := testVMCS(testAddr, nil)
	regs := readVMCS(v)
	regs.RIP = Register{6, FromKVMDirty}
	regs.GPR[R15] = Register{15, FromKVM}
	c := &CPU{VMCS: v, Regs: regs, Slots: []Slot{{GPA: 0, HVA: 0x7f0000000000, Size: 0xa0000}, {GPA: 0x100000, HVA: 0x7f1000000000, Size: 0x1000}}}
	slots := binary.LittleEndian
	for _, tt := range []struct {
		name   string
		change func(d []byte) []byte
		ok     bool
	}{
		{"as written", func(d []byte) []byte { return d }, true},
		{"no slots", func(d []byte) []byte {
			slots.PutUint32(d[28:], 0)
			slots.PutUint32(d[4:], noteSlotsOff)
			return d[:noteSlotsOff]
		}, true},
		{"empty", func(d []byte) []byte { return nil }, false},
		{"cut off", func(d []byte) []byte { return d[:len(d)-24] }, false},
		{"another version", func(d []byte) []byte { d[0] = 2; return d }, false},
		{"more slots than there are", func(d []byte) []byte { d[31] = 0xff; return d }, false},
		{"another revision identifier", func(d []byte) []byte { d[notePageOff] = 9; return d }, false},
		{"slots that overlap", func(d []byte) []byte { slots.PutUint64(d[noteSlotsOff+24:], 0x9f000); return d }, false},
		{"a slot that wraps around", func(d []byte) []byte { slots.PutUint64(d[noteSlotsOff+40:], ^uint64(0xfff)); return d }, false},
		{"a slot of half a page", func(d []byte) []byte { slots.PutUint64(d[noteSlotsOff+40:], 0x800); return d }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := c.Note()
			n.Desc = tt.change(n.Desc)
			l := *v.Layout
			l.RevisionID = v.RevisionID()
			if tt.name == "another revision identifier" {
				l.RevisionID = 1
			}
			got, err := ParseVMCSNote(n, &l)
			if (err == nil) != tt.ok {
				t.Fatal(err)
			}
			if err == nil && (*got.Regs != *regs || got.Regs.RIP != regs.RIP) {
				t.Errorf("got %+v, want %+v", got.Regs, regs)
			}
		})
	}
}
