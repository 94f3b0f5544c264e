package qemucore

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/guest"
	"vmcsnote/internal/x86"
	"vmcsnote/vmcs"
)

// NoteName is the name of the notes, of type 0, that hold the state of a vCPU
// in a core of the process that ran it. crash recognises notes by how their
// names begin, and knows none that VMCS begins with. It gives a meaning to
// types other than 0.
const NoteName = "VMCS"

// The descriptor of a VMCS note, version 1. All numbers are little-endian.
//
//	offset size
//	0      4    version, 1
//	4      4    size of the descriptor
//	8      8    physical address of the VMCS in the host
//	16     4    APIC ID of the vCPU; 0xffffffff: not known
//	20     4    thread that ran it (pr_pid of its NT_PRSTATUS); 0: not known
//	24     4    how the page keeps access rights: 0 not known, 1 plain,
//	            2 rotated left by 8, 3 packed in 16 bits
//	28     4    number of memory slots
//	32     8    bit i: register i is known, out of the hypervisor's memory
//	40     8    bit i: register i is newer than the VMCS's field
//	48     176  22 registers: RAX RCX RDX RBX RSP RBP RSI RDI R8 to R15, RIP,
//	            CR2, CR3, CR8, EFER, KERNEL_GS_BASE
//	224    4096 the VMCS
//	4320   24*n memory slots: guest-physical address, address in the process,
//	            size in bytes, 8 bytes each
const (
	noteVersion  = 1
	noteRegsOff  = 48
	noteRegs     = 22
	notePageOff  = noteRegsOff + 8*noteRegs
	noteSlotsOff = notePageOff + vmcs.PageSize
	noteSlotSize = 24
	maxNoteSlots = 4096
	noAPICID     = 1<<32 - 1

	// maxVMCSNote is the size in bytes of the largest descriptor of a VMCS
	// note.
	maxVMCSNote = noteSlotsOff + maxNoteSlots*noteSlotSize
)

// errNote is wrapped by the errors about VMCS notes that cannot be read.
var errNote = errors.New("not a VMCS note")

// A CPU is a vCPU in a core of the process that ran it.
type CPU struct {
	VMCS   *vmcs.VMCS
	Regs   *guest.Registers
	Thread uint32       // pr_pid of the thread that ran it; 0: not known
	Slots  []guest.Slot // the memory of its guest
}

// noted are the registers that a VMCS note has apart from the VMCS, in order.
func noted(r *guest.Registers) []*guest.Register {
	rs := make([]*guest.Register, 0, noteRegs)
	for i := range r.GPR {
		rs = append(rs, &r.GPR[i])
	}
	return append(rs, &r.RIP, &r.CR2, &r.CR3, &r.CR8, &r.EFER, &r.KernelGSBase)
}

// note returns the VMCS note of the vCPU.
func (c *CPU) note() elfnote.Note {
	le := binary.LittleEndian
	slots := c.Slots[:min(len(c.Slots), maxNoteSlots)]
	d := make([]byte, noteSlotsOff+len(slots)*noteSlotSize)
	le.PutUint32(d[0:], noteVersion)
	le.PutUint32(d[4:], uint32(len(d)))
	le.PutUint64(d[8:], c.VMCS.Addr)
	le.PutUint32(d[16:], noAPICID)
	if c.Regs.APICID.Known() {
		le.PutUint32(d[16:], uint32(c.Regs.APICID.Value))
	}
	le.PutUint32(d[20:], c.Thread)
	le.PutUint32(d[24:], uint32(c.VMCS.Layout.AccessRights))
	le.PutUint32(d[28:], uint32(len(slots)))
	var known, newer uint64
	for i, r := range noted(c.Regs) {
		if r.Origin == guest.FromNowhere || r.Origin == guest.FromVMCS || r.Origin == guest.FromSaved {
			continue
		}
		known |= 1 << i
		if r.Origin == guest.FromKVMDirty {
			newer |= 1 << i
		}
		le.PutUint64(d[noteRegsOff+8*i:], r.Value)
	}
	le.PutUint64(d[32:], known)
	le.PutUint64(d[40:], newer)
	copy(d[notePageOff:noteSlotsOff], c.VMCS.Page)
	for i, s := range slots {
		at := d[noteSlotsOff+i*noteSlotSize:]
		le.PutUint64(at, s.GPA)
		le.PutUint64(at[8:], s.HVA)
		le.PutUint64(at[16:], s.Size)
	}
	return elfnote.Note{Name: NoteName, Desc: d}
}

// parseVMCSNote reads a VMCS note. The layout is that of the core's VMCSINFO; a
// copy of it has the access rights as the note says. An error wraps errNote.
func parseVMCSNote(n elfnote.Note, layout *vmcs.Layout) (*CPU, error) {
	le := binary.LittleEndian
	d := n.Desc
	if len(d) < noteSlotsOff {
		return nil, errors.Wrapf(errNote, "%d bytes, expected at least %d", len(d), noteSlotsOff)
	}
	if v := le.Uint32(d); v != noteVersion {
		return nil, errors.Wrapf(errNote, "version %d, expected %d", v, noteVersion)
	}
	count := le.Uint32(d[28:])
	if want := noteSlotsOff + uint64(count)*noteSlotSize; uint64(len(d)) != want || uint64(le.Uint32(d[4:])) != want {
		return nil, errors.Wrapf(errNote, "%d bytes, expected %d for %d memory slots", len(d), want, count)
	}
	l := *layout
	l.Entries = slices.Clone(layout.Entries)
	if r := vmcs.AccessRights(le.Uint32(d[24:])); r != vmcs.RightsUnknown && le.Uint32(d[24:]) <= uint32(vmcs.RightsPacked) {
		l.SetAccessRights(r)
	}
	c := &CPU{
		VMCS:   &vmcs.VMCS{Addr: le.Uint64(d[8:]), Page: bytes.Clone(d[notePageOff:noteSlotsOff]), Layout: &l},
		Thread: le.Uint32(d[20:]),
	}
	if id := c.VMCS.RevisionID(); layout.RevisionID != 0 && id != layout.RevisionID {
		return nil, errors.Wrapf(errNote, "VMCS with revision identifier %#x, expected the layout's %#x", id, layout.RevisionID)
	}
	c.Regs = guest.RegistersIn(c.VMCS)
	if id := le.Uint32(d[16:]); id != noAPICID {
		c.Regs.APICID = guest.Register{Value: uint64(id), Origin: guest.FromAPIC}
	}
	known, newer := le.Uint64(d[32:]), le.Uint64(d[40:])
	for i, r := range noted(c.Regs) {
		origin := guest.FromKVM
		switch {
		case known>>i&1 == 0:
			continue
		case newer>>i&1 != 0:
			origin = guest.FromKVMDirty
		case r == &c.Regs.CR8:
			origin = guest.FromAPIC
		}
		*r = guest.Register{Value: le.Uint64(d[noteRegsOff+8*i:]), Origin: origin}
	}
	var err error
	c.Slots, err = parseSlots(d[noteSlotsOff:])
	return c, err
}

// parseSlots reads memory slots, which must be sorted and disjoint.
func parseSlots(b []byte) (slots []guest.Slot, err error) {
	le := binary.LittleEndian
	next := uint64(0)
	for ; len(b) > 0; b = b[noteSlotSize:] {
		s := guest.Slot{GPA: le.Uint64(b), HVA: le.Uint64(b[8:]), Size: le.Uint64(b[16:])}
		end := s.GPA + s.Size
		if s.GPA < next || end <= s.GPA || s.HVA+s.Size < s.HVA || (s.GPA|s.HVA|s.Size)%x86.PageSize != 0 {
			return nil, errors.Wrapf(errNote, "memory slot of %#x bytes at %#x (%#x in the process): expected whole pages at or above %#x", s.Size, s.GPA, s.HVA, next)
		}
		slots, next = append(slots, s), end
	}
	return slots, nil
}

// CPUs reads the VMCS notes of a process's core. It fails if a note cannot be
// read, but not if there is none.
func CPUs(s *elfnote.Segment, layout *vmcs.Layout) ([]*CPU, error) {
	var cpus []*CPU
	for i, e := range s.Notes {
		if e.Name != NoteName || e.Type != 0 {
			continue
		}
		n, err := s.Note(i, maxVMCSNote)
		if err != nil {
			return nil, err
		}
		c, err := parseVMCSNote(n, layout)
		if err != nil {
			return nil, errors.Wrapf(err, "note %d", i)
		}
		cpus = append(cpus, c)
	}
	return cpus, nil
}
