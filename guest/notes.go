package guest

import (
	"debug/elf"
	"encoding/binary"

	"vmcsnote/elfnote"
	"vmcsnote/internal/visible"
	"vmcsnote/internal/x86"
	"vmcsnote/vmcs"
)

// The notes of a vCPU are those of QEMU's dump-guest-memory (its arch_dump.c
// for i386, since 1.2), so that whatever reads QEMU's dumps reads these: crash
// takes the registers for bt from NT_PRSTATUS, and CR3 and the IDT from QEMU's
// own note. A note cannot say that a register is unknown: it has zero for it.

// The names, types and sizes in bytes of the notes.
const (
	nameCore     = "CORE"
	nameQEMU     = "QEMU"
	prStatusSize = 336
	prRegsOff    = 112 // pr_reg in struct elf_prstatus of x86-64
	qemuSize     = 440 // with kernel_gs_base, since 3.0; the version is still 1
	qemuVersion  = 1
)

// A noteWriter fills a descriptor with little-endian words.
type noteWriter []byte

func (w *noteWriter) u32(v uint64) { *w = binary.LittleEndian.AppendUint32(*w, uint32(v)) }
func (w *noteWriter) u64(v uint64) { *w = binary.LittleEndian.AppendUint64(*w, v) }
func (w *noteWriter) regs(rs ...Register) {
	for _, r := range rs {
		w.u64(r.Value)
	}
}

// PRStatus makes the NT_PRSTATUS note, struct elf_prstatus of x86-64 with
// pr_pid and pr_reg alone. pid is the vCPU's number counted from 1, as QEMU
// does it.
func PRStatus(pid uint32, r *Registers) elfnote.Note {
	w := noteWriter(make([]byte, prRegsOff, prStatusSize))
	binary.LittleEndian.PutUint32(w[32:], pid)
	g := &r.GPR
	w.regs(g[R15], g[R14], g[R13], g[R12], g[RBP], g[RBX], g[R11], g[R10],
		g[R9], g[R8], g[RAX], g[RCX], g[RDX], g[RSI], g[RDI])
	w.u64(0) // orig_rax
	w.regs(r.RIP, r.Seg[CS].Selector, r.RFLAGS, g[RSP], r.Seg[SS].Selector, r.Seg[FS].Base, r.Seg[GS].Base,
		r.Seg[DS].Selector, r.Seg[ES].Selector, r.Seg[FS].Selector, r.Seg[GS].Selector)
	w.u64(0) // pr_fpvalid, and padding
	return elfnote.Note{Name: nameCore, Type: uint32(elf.NT_PRSTATUS), Desc: w}
}

// qemuState makes QEMU's note of a CPU's state, its QEMUCPUState of version 1.
func qemuState(r *Registers) elfnote.Note {
	w := noteWriter(make([]byte, 0, qemuSize))
	w.u32(qemuVersion)
	w.u32(qemuSize)
	g := &r.GPR
	w.regs(g[RAX], g[RBX], g[RCX], g[RDX], g[RSI], g[RDI], g[RSP], g[RBP])
	w.regs(g[R8:]...)
	w.regs(r.RIP, r.RFLAGS)
	s := &r.Seg
	for _, s := range []SegmentRegister{s[CS], s[DS], s[ES], s[FS], s[GS], s[SS], s[LDTR], s[TR], r.GDTR, r.IDTR} {
		w.u32(s.Selector.Value)
		w.u32(s.Limit.Value)
		w.u32(descriptorFlags(s.Rights.Value))
		w.u32(0)
		w.u64(s.Base.Value)
	}
	w.regs(r.CR0, Register{}, r.CR2, r.CR3, r.CR4, r.KernelGSBase)
	return elfnote.Note{Name: nameQEMU, Desc: w}
}

// descriptorFlags turns access rights into what QEMU keeps: the upper half of a
// segment descriptor without its base and limit, or 0 for an unusable segment.
func descriptorFlags(rights uint64) uint64 {
	if rights&x86.RightsUnusable != 0 {
		return 0
	}
	return rights & 0xf0ff << 8
}

// cpuNotes returns the notes of all vCPUs in the order of QEMU's: NT_PRSTATUS
// of each, then QEMU's own of each.
func cpuNotes(vcpus []*Registers) []elfnote.Note {
	notes := make([]elfnote.Note, 0, 2*len(vcpus))
	for i, r := range vcpus {
		notes = append(notes, PRStatus(uint32(i+1), r))
	}
	for _, r := range vcpus {
		notes = append(notes, qemuState(r))
	}
	return notes
}

// nameMachine is the name of the note that says which virtual machine an
// extracted core is of. Its type is 0. Only vmcsnote writes and reads it;
// crash, makedumpfile, gdb and drgn pass over a name that they do not know.
const nameMachine = "VMCSNOTE"

// machineNote returns that note: lines GUEST_NAME=NAME and GUEST_UUID=UUID,
// each if it is known. Both come out of the host's dump: each byte that is
// not printable ASCII, and the backslash, is written as \xNN, so that none adds
// a line. It returns false if neither is known.
func machineNote(m *Machine) (elfnote.Note, bool) {
	var text string
	for _, line := range [][2]string{{"GUEST_NAME=", m.Name}, {"GUEST_UUID=", m.UUID}} {
		if line[1] != "" {
			text += line[0] + visible.Name(line[1]) + "\n"
		}
	}
	return elfnote.Note{Name: nameMachine, Desc: []byte(text)}, text != ""
}

// layoutNote returns a VMCSINFO note that says what the layout says, for a
// host's dump without one: text, with offsets. A layout's high halves, and what
// it was published by, are not in it.
func layoutNote(l *vmcs.Layout) elfnote.Note {
	return elfnote.Note{Name: elfnote.VMCSInfo, Desc: []byte(l.Text(vmcs.Processor{}))}
}
