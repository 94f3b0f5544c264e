package guest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"vmcsnote/elfnote"
	"vmcsnote/guest/internal/infer"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

const linuxGuests = "../testdata/cores/linux-guest"

// A host is one of the dumps of a host with a Linux guest, and what is known of
// the guest.
type host struct {
	core  vmcore.Core
	vmcs  *vmcs.VMCS
	truth map[string]uint64
	json  struct {
		Pages map[string]string
		VMCS  []struct {
			PA   string
			VCPU []struct {
				RegsPA string `json:"arch_regs_pa"`
			}
		} `json:"vmcs"`
		DirectMap string `json:"direct_map_base"`
	}
}

func hex(t testing.TB, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func openHost(t testing.TB, name string) *host {
	t.Helper()
	dir := filepath.Join(linuxGuests, name)
	h := &host{core: openCore(t, "linux-guest/"+name+"/host-thin"), truth: make(map[string]uint64)}
	b, err := os.ReadFile(filepath.Join(dir, "expected-thin.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &h.json); err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(filepath.Join(dir, "truth.txt")); err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		reg := ""
		for _, field := range strings.Fields(s.Text()) {
			name, value, ok := strings.Cut(field, "=")
			if !ok {
				reg = field + "."
			} else if n, err := strconv.ParseUint(value, 16, 64); err == nil {
				h.truth[reg+name] = n
			}
		}
	}
	layout := noteLayout(t, dir)
	h.vmcs = &vmcs.VMCS{Addr: hex(t, h.json.VMCS[0].PA), Page: make([]byte, vmcs.PageSize), Layout: layout}
	if _, err := h.core.ReadPhys(h.vmcs.Page, h.vmcs.Addr); err != nil {
		t.Fatal(err)
	}
	return h
}

// noteLayout reads the layout in dir.
func noteLayout(t testing.TB, dir string) *vmcs.Layout {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "vmcsinfo.note"))
	if err != nil {
		t.Fatal(err)
	}
	note, err := elfnote.FromBlob(b, elfnote.VMCSInfo, 0, binary.LittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := vmcs.ParseNote(note.Desc)
	if err != nil {
		t.Fatal(err)
	}
	return layout
}

func hostNames(t testing.TB) []string {
	t.Helper()
	dirs, err := filepath.Glob(linuxGuests + "/*/host-thin.elf.zst")
	if err != nil || len(dirs) != 2 {
		t.Fatal(dirs, err)
	}
	for i, d := range dirs {
		dirs[i] = filepath.Base(filepath.Dir(d))
	}
	return dirs
}

// machine finds the host's one guest as a user would, with its registers.
func (h *host) machine(t testing.TB) (*Machine, []*Registers) {
	t.Helper()
	found, err := vmcs.Find(context.Background(), h.core, vmcs.Search{Note: h.vmcs.Layout})
	if err != nil || len(found.VMCSs) != 1 {
		t.Fatal(found, err)
	}
	m := Machines(h.core, found.VMCSs)[0]
	regs, err := findRegisters(context.Background(), infer.Search{Mem: h.core}, []*vmcs.VMCS{&m.VCPUs[0].VMCS})
	if err != nil {
		t.Fatal(err)
	}
	return m, regs
}

// The registers equal what KVM_GET_REGS, KVM_GET_SREGS and KVM_GET_MSRS said.
func TestRegisters(t *testing.T) {
	for _, name := range hostNames(t) {
		t.Run(name, func(t *testing.T) {
			h := openHost(t, name)
			_, all := h.machine(t)
			r := all[0]
			inGuest := strings.Contains(name, "inguest")
			check := func(name string, reg Register, want uint64, origin Origin) {
				t.Helper()
				if reg.Value != want || reg.Origin != origin {
					t.Errorf("%s: got %#x from %v, want %#x from %v", name, reg.Value, reg.Origin, want, origin)
				}
			}
			for i, name := range GPRNames {
				origin := FromKVM
				if i == RSP {
					origin = FromVMCS
				}
				check(name, r.GPR[i], h.truth[name], origin)
			}
			rip, gs := FromKVMDirty, FromKVM
			if inGuest {
				rip, gs = FromVMCS, FromNowhere // the processor had it
			} else {
				check("msr_c0000102", r.KernelGSBase, h.truth["msr_c0000102"], gs)
			}
			check("rip", r.RIP, h.truth["rip"], rip)
			check("rflags", r.RFLAGS, h.truth["rflags"], FromVMCS)
			check("cr0", r.CR0, h.truth["cr0"], FromVMCS)
			check("cr2", r.CR2, h.truth["cr2"], FromKVM)
			check("cr3", r.CR3, h.truth["cr3"], FromVMCS)
			check("cr4", r.CR4, h.truth["cr4"], FromVMCS)
			check("cr8", r.CR8, h.truth["cr8"], FromAPIC)
			check("efer", r.EFER, h.truth["efer"], FromKVM)
			check("APIC ID", r.APICID, 0, FromAPIC)
			if inGuest && r.KernelGSBase.Known() {
				t.Errorf("KERNEL_GS_BASE: got %#x, want unknown", r.KernelGSBase.Value)
			}
			for i, name := range SegNames {
				s, name := r.Seg[i], strings.Replace(name, "LDTR", "LDT", 1)
				check(name+".sel", s.Selector, h.truth[name+".sel"], FromVMCS)
				check(name+".base", s.Base, h.truth[name+".base"], FromVMCS)
				check(name+".limit", s.Limit, h.truth[name+".limit"], FromVMCS)
				if got, want := s.Rights.Value>>16&1, h.truth[name+".unusable"]; got != want || !s.Rights.Known() {
					t.Errorf("%s unusable: %d, want %d", name, got, want)
				}
				if got, want := s.Rights.Value&0xf, h.truth[name+".type"]; got != want && h.truth[name+".unusable"] == 0 {
					t.Errorf("%s type: %#x, want %#x", name, got, want)
				}
			}
			check("GDT", r.GDTR.Base, h.truth["GDT.base"], FromVMCS)
			check("IDT", r.IDTR.Base, h.truth["IDT.base"], FromVMCS)
			want := Evidence{Held: ByPointer | ByWords, Array: hex(t, h.json.VMCS[0].VCPU[0].RegsPA), Pointers: 1, Words: 1, DirectMap: hex(t, h.json.DirectMap)}
			if r.Evidence != want || !r.LongMode {
				t.Errorf("evidence %+v, want %+v", r.Evidence, want)
			}
		})
	}
}
