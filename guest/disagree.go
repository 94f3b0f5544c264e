package guest

import (
	"context"
	"fmt"
	"strconv"

	"github.com/pkg/errors"
)

// compare searches for VMCSs as if KVM's structures had told nothing, and keeps
// in Disagreements where the two differ. The host's Found becomes what the
// search found, because its checks explain the pages.
func (h *Host) compare(ctx context.Context, search *Host, s MachineSearch) error {
	if h.LayoutFrom == LayoutLearnt { // of which the search knows nothing
		search.Layout = h.Layout
	}
	err := search.search(ctx, s)
	var none *NoVMCSError
	if errors.As(err, &none) {
		err = nil // as on AMD's processors
	}
	if err == nil {
		err = search.FindRegisters(ctx, nil)
	}
	if err != nil {
		return err
	}
	found := h.Found
	if h.Found = search.Found; h.Found.Layout == nil && found.Layout != nil {
		h.Found.Layout, h.Found.Trials = found.Layout, found.Trials // a layout is one of the trials'
	}
	if h.LayoutFrom != LayoutLearnt && (search.Layout != nil || h.LayoutFrom != LayoutOfMemory) {
		// The notes whose layouts Found has: of KVM's there is one at most.
		h.Notes, h.MoreNotes = search.Notes, search.MoreNotes
		h.Layout, h.LayoutFrom, h.note = search.Layout, search.LayoutFrom, search.note
	}
	h.Disagreements = nil
	h.compareMachines(search.Machines)
	return nil
}

// compareMachines compares the host's machines, which KVM's structures tell,
// with those that a search found.
func (h *Host) compareMachines(found []*Machine) {
	owners := make(map[uint64]*VCPU)
	machines := make(map[*VCPU]*Machine)
	for _, m := range h.Machines {
		for _, v := range m.VCPUs {
			machines[v] = m
			if v.VMCSAddr != 0 {
				owners[v.VMCSAddr] = v
			}
		}
	}
	seen := make(map[uint64]bool)
	for _, m := range found {
		for _, w := range m.VCPUs {
			seen[w.VMCSAddr] = true
			v := owners[w.VMCSAddr]
			if v == nil {
				if !h.inner(w.VMCSAddr) {
					h.disagree(nil, nil, "vCPU", "", "VMCS at "+hexText(w.VMCSAddr))
				}
				continue
			}
			h.compareVCPUs(machines[v], v, w)
		}
		if len(m.VCPUs) > 0 && owners[m.VCPUs[0].VMCSAddr] != nil {
			h.compareSlots(machines[owners[m.VCPUs[0].VMCSAddr]], m)
		}
	}
	for _, m := range h.Machines {
		for _, v := range m.VCPUs {
			if v.HasVMCS() && !seen[v.VMCSAddr] {
				h.disagree(m, v, "vCPU", "VMCS at "+hexText(v.VMCSAddr), "")
			}
		}
	}
}

// inner reports whether a VMCS is one with which KVM runs a machine's machine.
func (h *Host) inner(addr uint64) bool {
	for _, m := range h.Machines {
		for _, v := range m.VCPUs {
			if v.from != nil && v.from.VMX != nil && v.from.VMX.VMCS02 == addr {
				return true
			}
		}
	}
	return false
}

func (h *Host) disagree(m *Machine, v *VCPU, what, byKVM, byVMCS string) {
	if len(h.Disagreements) < maxDisagreements {
		h.Disagreements = append(h.Disagreements, Disagreement{m, v, what, byKVM, byVMCS})
	}
}

// maxDisagreements bounds what is kept of a host that forges one of the two.
const maxDisagreements = 1024

func hexText(x uint64) string { return "0x" + strconv.FormatUint(x, 16) }

// compareVCPUs compares the registers that both know.
func (h *Host) compareVCPUs(m *Machine, v, w *VCPU) {
	if v.Number != w.Number {
		h.disagree(m, v, "number", strconv.Itoa(v.Number), strconv.Itoa(w.Number))
	}
	if v.Regs == nil || w.Regs == nil || v.from != nil && v.from.Nested {
		return
	}
	names := append(GPRNames[:], "rip", "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "kernel_gs_base")
	a, b := v.Regs.compared(), w.Regs.compared()
	for i, r := range a {
		if r.Known() && b[i].Known() && r.Value != b[i].Value {
			h.disagree(m, v, names[i], r.String(), b[i].String())
		}
	}
	if ev := w.Regs.Evidence; ev.Held != 0 && ev.Array != v.Regs.Evidence.Array {
		h.disagree(m, v, "registers", hexText(v.Regs.Evidence.Array), hexText(ev.Array))
	}
}

// compared are the registers that both ways find.
func (r *Registers) compared() []Register {
	return append(r.GPR[:len(r.GPR):len(r.GPR)], r.RIP, r.CR0, r.CR2, r.CR3, r.CR4, r.CR8, r.EFER, r.KernelGSBase)
}

// compareSlots looks for the inferred slots in KVM's. The search takes slots
// that are neighbours in both memories for one, and does not see what the guest
// has not touched.
func (h *Host) compareSlots(m, inferred *Machine) {
	mem, err := inferred.Memory()
	if err != nil {
		return
	}
	var joined []Slot
	for _, s := range usableSlots(m.Slots) {
		if n := len(joined); n > 0 && joined[n-1].GPA+joined[n-1].Size == s.GPA && joined[n-1].HVA+joined[n-1].Size == s.HVA {
			joined[n-1].Size += s.Size
		} else {
			joined = append(joined, s)
		}
	}
	for _, s := range mem.Slots() {
		overlaps, same := "", false
		for _, k := range joined {
			if s.GPA < k.GPA+k.Size && k.GPA < s.GPA+s.Size {
				overlaps = slotText(k)
				same = same || k.GPA <= s.GPA && s.GPA+s.Size <= k.GPA+k.Size && k.HVA-k.GPA == s.HVA-s.GPA
			}
		}
		if !same {
			h.disagree(m, nil, "slot", overlaps, slotText(s))
		}
	}
}

func slotText(s Slot) string {
	return fmt.Sprintf("%#x to %#x at %#x", s.GPA, s.GPA+s.Size-1, s.HVA)
}
