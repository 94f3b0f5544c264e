package guest

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"vmcsnote/guest/internal/learn"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// strange is a revision identifier that no layout has.
const strange = 0x7abcdef

// shuffled returns a layout with the fields of another in random places, and
// access rights in a random form. They lie as if the processor aligned them,
// kept each in 8 bytes, left no room, or had no rule.
func shuffled(r *rand.Rand, rule string, of *vmcs.Layout) *vmcs.Layout {
	l := &vmcs.Layout{RevisionID: strange, AccessRights: vmcs.AccessRights(1 + r.IntN(3))}
	next := 8
	for _, i := range r.Perm(len(of.Entries)) {
		e := of.Entries[i]
		if !e.Known || e.Encoding.High() {
			continue
		}
		if e.Encoding.Rights() {
			e.Width = l.AccessRights.Width()
		}
		switch rule {
		case "aligned":
			next = (next + r.IntN(3)*8 + e.Width - 1) / e.Width * e.Width
		case "cells":
			next = (next + 7) / 8 * 8
		case "unaligned":
			next += r.IntN(8)
		}
		e.Offset = next
		next += e.Width
		l.Entries = append(l.Entries, e)
	}
	return l
}

// moved returns a VMCS in another layout. What no field has is zeros, random
// bytes, or counters.
func moved(r *rand.Rand, rest string, v *vmcs.VMCS, to *vmcs.Layout) []byte {
	page := make([]byte, vmcs.PageSize)
	n := r.IntN(50)
	for i := 8; i < len(page); i += 4 {
		switch rest {
		case "random":
			binary.LittleEndian.PutUint32(page[i:], r.Uint32())
		case "counters":
			n += r.IntN(3)
			binary.LittleEndian.PutUint32(page[i:], uint32(n))
		}
	}
	binary.LittleEndian.PutUint32(page, to.RevisionID)
	for _, e := range to.Entries {
		x, _ := v.Read(e.Encoding)
		if e.Encoding.Rights() {
			x = uint64(to.AccessRights.Encode(uint32(x)))
		}
		copy(page[e.Offset:e.Offset+e.Width], binary.LittleEndian.AppendUint64(nil, x))
	}
	return page
}

// A taught is a host's VMCS, with what KVM has written there.
type taught struct {
	vmcs.VMCS
	values []learn.Value
}

func teach(t *testing.T, core vmcore.Core, layout *vmcs.Layout) (all []taught) {
	t.Helper()
	a, err := OpenHost(core).openKernel()
	if err == nil {
		err = a.listMachines(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range a.Machines {
		for _, v := range m.VCPUs {
			page := make([]byte, vmcs.PageSize)
			if _, err := core.ReadPhys(page, v.VMCSAddr); err != nil {
				t.Fatal(err)
			}
			all = append(all, taught{vmcs.VMCS{Addr: v.VMCSAddr, Page: page, Layout: layout}, learn.Values(v.from, a.apicAccess(v))})
		}
	}
	return all
}

// What is learnt of a layout that nobody knows is right, whatever the layout,
// and most of what KVM has copies of is learnt: of six vCPUs, two of which
// differ from the others.
func TestLearnShuffled(t *testing.T) {
	layout := OpenHost(openCore(t, "linux-host/intel-6.1")).Layout // Bochs has it for both
	for _, name := range []string{"intel-6.1", "intel-6.12"} {
		all := teach(t, openCore(t, "linux-host/"+name), layout)
		for _, rule := range []string{"aligned", "cells", "packed", "unaligned"} {
			for _, rest := range []string{"zeros", "random", "counters"} {
				t.Run(fmt.Sprintf("%s, %s, %s", name, rule, rest), func(t *testing.T) {
					r := rand.New(rand.NewPCG(uint64(len(name)), uint64(len(rule+rest))))
					to := shuffled(r, rule, layout)
					var pages []learn.VMCS
					for _, v := range all {
						pages = append(pages, learn.VMCS{Page: moved(r, rest, &v.VMCS, to), Values: v.values})
					}
					const floor = 29 // 33 at best, where nothing else in the pages looks like a field
					check(t, to, learn.Layout(pages), floor)

					// A field that the processor keeps in a form of its own is not
					// claimed to be elsewhere.
					e := to.Entries[r.IntN(len(to.Entries))]
					for _, v := range pages {
						for i := range e.Width {
							v.Page[e.Offset+i] = byte(r.Uint32())
						}
					}
					check(t, to, learn.Layout(pages), 0)
				})
			}
		}
	}
}

// check compares a layout that was learnt with the true one.
func check(t *testing.T, truth, l *vmcs.Layout, floor int) {
	t.Helper()
	if l == nil {
		if floor > 0 {
			t.Error("nothing was learnt")
		}
		return
	}
	for _, e := range l.Entries {
		if is, _ := truth.Lookup(e.Name); is.Offset != e.Offset || is.Width != e.Width {
			t.Errorf("%s at %#x, %d bytes; it is at %#x, %d bytes", e.Name, e.Offset, e.Width, is.Offset, is.Width)
		}
	}
	if l.AccessRights != vmcs.RightsUnknown && l.AccessRights != truth.AccessRights || l.RevisionID != truth.RevisionID || l.Form != vmcs.FormLearnt {
		t.Errorf("access rights %v, revision identifier %#x, form %v", l.AccessRights, l.RevisionID, l.Form)
	}
	if len(l.Entries) < floor {
		t.Errorf("%d fields were learnt, want %d at least", len(l.Entries), floor)
	}
}

// Where KVM's structures and the pages contradict each other, nothing is
// claimed.
func TestLearnContradiction(t *testing.T) {
	host := openCore(t, "linux-host/intel-6.1")
	all := teach(t, host, OpenHost(host).Layout)
	for _, tt := range []struct {
		name   string
		change func(i int, v *learn.VMCS)
	}{
		{"the pages are those of other vCPUs", func(i int, v *learn.VMCS) { v.Page = all[(i+1)%len(all)].Page }},
		{"the pages are zeros", func(_ int, v *learn.VMCS) { v.Page = make([]byte, vmcs.PageSize) }},
		{"KVM's copies are of one vCPU", func(_ int, v *learn.VMCS) { v.Values = all[2].values }},
		{"KVM has no copies", func(_ int, v *learn.VMCS) { v.Values = nil }},
		{"the pages are older than the copies", func(_ int, v *learn.VMCS) {
			v.Values = slices.Clone(v.Values)
			for j := range v.Values {
				if v.Values[j].Field == vmcs.HostCR3 {
					v.Values[j].Want++
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var pages []learn.VMCS
			for i, v := range all {
				page := learn.VMCS{Page: v.Page, Values: v.values}
				if tt.change(i, &page); i != 2 || tt.name != "KVM's copies are of one vCPU" {
					pages = append(pages, page)
				}
			}
			if l := learn.Layout(pages); l != nil {
				t.Errorf("learnt %v", l.Entries)
			}
		})
	}
}

// overlaid is a core some of whose pages are others.
type overlaid struct {
	vmcore.Core
	pages map[uint64][]byte
}

func (o overlaid) ReadPhys(p []byte, addr uint64) (int, error) {
	n, err := o.Core.ReadPhys(p, addr)
	for at, page := range o.pages {
		if at < addr+uint64(n) && addr < at+vmcs.PageSize {
			if at >= addr {
				copy(p[at-addr:n], page)
			} else {
				copy(p[:n], page[addr-at:])
			}
		}
	}
	return n, err
}

// A host whose processor nobody knows, without a note: its guests' registers
// are those that a known layout gives, or unknown.
func TestLearntHost(t *testing.T) {
	core := openCore(t, "linux-host/intel-6.12")
	layout := OpenHost(openCore(t, "linux-host/intel-6.1")).Layout
	r := rand.New(rand.NewPCG(3, 4))
	to := shuffled(r, "unaligned", layout)
	other := overlaid{core, map[uint64][]byte{}}
	for _, v := range teach(t, core, layout) {
		other.pages[v.Addr] = moved(r, "random", &v.VMCS, to)
	}
	open := func(c vmcore.Core) *Host {
		h := OpenHost(c)
		if err := h.FindMachines(context.Background(), MachineSearch{}); err != nil || h.NoKVM != nil {
			t.Fatal(err, h.NoKVM)
		}
		return h
	}
	known, h := open(core), open(other)
	if known.LayoutFrom != LayoutTried || known.Found.Layout.Form != vmcs.FormBuiltin {
		t.Errorf("a layout that is built in, and that KVM's copies confirm: from %d, %v", known.LayoutFrom, known.Found.Layout.Form)
	}
	if h.LayoutFrom != LayoutLearnt {
		t.Fatalf("layout from %d", h.LayoutFrom)
	}
	check(t, to, h.Found.Layout, 29)
	if l, p, err := OpenHost(other).Learn(context.Background()); err != nil || l.Text(p) != h.Found.Layout.Text(p) || p.RevisionID != strange {
		t.Errorf("learnt %+v of %+v (%v)", l, p, err)
	}
	for i, m := range h.Machines {
		for j, v := range m.VCPUs {
			want := known.Machines[i].VCPUs[j]
			if mode := v.Mode(); mode != want.Mode() && mode != vmcs.ModeUnknown || !v.HasVMCS() {
				t.Errorf("machine %d, vCPU %d: %v mode, want %v", i, j, mode, want.Mode())
			}
			a, b := v.Regs, want.Regs
			for name, pair := range map[string][2]Register{
				"RIP": {a.RIP, b.RIP}, "RFLAGS": {a.RFLAGS, b.RFLAGS}, "CR0": {a.CR0, b.CR0}, "CR3": {a.CR3, b.CR3}, "CR4": {a.CR4, b.CR4},
				"RAX": {a.GPR[RAX], b.GPR[RAX]}, "EFER": {a.EFER, b.EFER}, "FS": {a.Seg[FS].Base, b.Seg[FS].Base}, "GS": {a.Seg[GS].Base, b.Seg[GS].Base},
			} {
				if !pair[0].Known() || pair[0].Value != pair[1].Value {
					t.Errorf("machine %d, vCPU %d: %s is %v, want %v", i, j, name, pair[0], pair[1])
				}
			}
			if rsp := a.GPR[RSP]; rsp.Known() && rsp.Value != b.GPR[RSP].Value {
				t.Errorf("machine %d, vCPU %d: RSP is %v, want %v", i, j, rsp, b.GPR[RSP])
			}
		}
	}

	// With --explain the search for VMCSs finds the same.
	explained := OpenHost(other)
	if err := explained.FindMachines(context.Background(), MachineSearch{Explain: true}); err != nil || explained.LayoutFrom != LayoutLearnt ||
		slices.ContainsFunc(explained.Disagreements, func(d Disagreement) bool { return d.What == "vCPU" || d.What == "machine" }) {
		t.Errorf("from %d, %v: %v", explained.LayoutFrom, explained.Disagreements, err)
	}

	// A file for the processor comes before what can be learnt.
	filed := OpenHost(other)
	filed.Files = func(vmcs.Processor) []*vmcs.Layout { return []*vmcs.Layout{to} }
	if err := filed.FindMachines(context.Background(), MachineSearch{}); err != nil || filed.LayoutFrom != LayoutOfFile {
		t.Errorf("with a file: from %d: %v", filed.LayoutFrom, err)
	}
}
