package qemucore

import (
	"encoding/binary"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/vmcs"
)

// testVMCS is a VMCS whose fields are zero.
func testVMCS() *vmcs.VMCS {
	layout := *vmcs.Builtin()[0]
	v := &vmcs.VMCS{Addr: 0x5_1ec6_f000, Page: make([]byte, vmcs.PageSize), Layout: &layout}
	binary.LittleEndian.PutUint32(v.Page, layout.RevisionID)
	return v
}

// A VMCS note that can be read comes out of what was read again.
func FuzzParseNote(f *testing.F) {
	v := testVMCS()
	regs := guest.RegistersIn(v)
	regs.GPR[guest.RAX] = guest.Register{Value: 5, Origin: guest.FromKVM}
	regs.RIP = guest.Register{Value: 6, Origin: guest.FromKVMDirty}
	regs.CR8 = guest.Register{Value: 1, Origin: guest.FromAPIC}
	good := (&CPU{VMCS: v, Regs: regs, Thread: 7, Slots: []guest.Slot{{GPA: 0x1000, HVA: 0x7f0000000000, Size: 0x2000}}}).note()
	f.Add(good.Desc)
	f.Add(good.Desc[:len(good.Desc)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseVMCSNote(elfnote.Note{Name: NoteName, Desc: b}, v.Layout)
		if err != nil {
			return
		}
		again, err := parseVMCSNote(c.note(), v.Layout)
		if err != nil || *again.Regs != *c.Regs || again.Thread != c.Thread || len(again.Slots) != len(c.Slots) {
			t.Errorf("%+v, %v, want %+v", again, err, c)
		}
	})
}

func TestParseNote(t *testing.T) {
	v := testVMCS()
	regs := guest.RegistersIn(v)
	regs.RIP = guest.Register{Value: 6, Origin: guest.FromKVMDirty}
	regs.GPR[guest.R15] = guest.Register{Value: 15, Origin: guest.FromKVM}
	c := &CPU{VMCS: v, Regs: regs, Slots: []guest.Slot{{GPA: 0, HVA: 0x7f0000000000, Size: 0xa0000}, {GPA: 0x100000, HVA: 0x7f1000000000, Size: 0x1000}}}
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
			n := c.note()
			n.Desc = tt.change(n.Desc)
			l := *v.Layout
			l.RevisionID = v.RevisionID()
			if tt.name == "another revision identifier" {
				l.RevisionID = 1
			}
			got, err := parseVMCSNote(n, &l)
			if (err == nil) != tt.ok {
				t.Fatal(err)
			}
			if err == nil && (*got.Regs != *regs || got.Regs.RIP != regs.RIP) {
				t.Errorf("got %+v, want %+v", got.Regs, regs)
			}
		})
	}
}
