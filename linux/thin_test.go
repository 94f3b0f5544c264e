package linux_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"vmcsnote/guest"
	"vmcsnote/guest/inside"
	"vmcsnote/internal/testcores"
	"vmcsnote/internal/x86"
	"vmcsnote/linux"
	"vmcsnote/vmcore"
)

var (
	thinHost = flag.String("thin", "", "make testdata/cores/linux-host/NAME of this dump, by -name")
	thinName = flag.String("name", "", "see -thin")
	// Pages that other packages' tests read and this one's do not: the VMCBs of
	// a kernel whose kvm_amd has no BTF.
	thinPages = flag.String("pages", "", "see -thin: keep these pages, too, by physical address: 0x1000,0x2000...")
)

// What the pruned BTF and kallsyms of a thinned dump keep.
var (
	keepStructs = strings.Fields(`task_struct mm_struct cgroup_subsys_state kernfs_node module mod_kallsyms btf_module btf css_set
		cgroup signal_struct pid xarray xa_node idr rb_node rb_root rb_root_cached list_head kvm kvm_vcpu kvm_memslots
		kvm_memory_slot kvm_mmu kvm_lapic kvm_run kvm_svm vcpu_svm vmcb kvm_vmcb_info kvm_vmx vcpu_vmx loaded_vmcs vmcs vmcs12
		kvm_x86_ops`)
	keepSymbols = strings.Fields("linux_banner init_task modules btf_modules init_uts_ns init_pid_ns")
	// The same for the kernels of guests, which are searched for, besides the
	// functions on vCPUs' stacks.
	guestStructs = strings.Fields(`task_struct mm_struct module orc_entry timekeeper tk_data seqcount_raw_spinlock seqcount
		vm_area_struct maple_tree file path dentry qstr rb_node rb_root list_head cgroup_subsys_state kernfs_node css_set cgroup signal_struct
		printk_ringbuffer prb_desc_ring prb_desc printk_info prb_data_ring prb_data_blk_lpos dev_printk_info atomic_long_t mod_kallsyms`)
	guestSymbols = strings.Fields(`_text _etext _sinittext _einittext init_top_pgt vmcoreinfo_data vmcoreinfo_size init_uts_ns tk_core
		timekeeper_data panic_cpu __per_cpu_offset nr_cpu_ids current_task pcpu_hot modules prb init_task
		__start_orc_unwind_ip __stop_orc_unwind_ip __start_orc_unwind`)
)

// TestThin makes a golden dump out of a host's: the pages that report reads
// and, in place of the whole of BTF and kallsyms, what it needs of them. It
// does so for developers; without -thin there is nothing to do.
func TestThin(t *testing.T) {
	if *thinHost == "" {
		return
	}
	src, err := os.Open(*thinHost)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	st, err := src.Stat()
	if err != nil {
		t.Fatal(err)
	}
	mem, info, err := openDump(src, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{mem: mem}
	k, err := linux.Open(rec, info)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(info, "kallsyms_names") {
		// The search reads all of the image; Prune adds what it must
		// find.
		if _, err := k.Symbols(); err != nil {
			t.Fatal(err)
		}
	}
	pages := map[uint64]bool{}
	rec.pages = pages
	var full, thin strings.Builder
	if err := report(&full, k); err != nil {
		t.Fatal(err)
	}
	if *thinPages != "" {
		for addr := range strings.SplitSeq(*thinPages, ",") {
			page, err := strconv.ParseUint(addr, 0, 64)
			if err != nil {
				t.Fatal(err)
			}
			pages[page&^4095] = true
		}
	}
	host := inferred(t, rec)
	rec.pages = nil
	keepOlder(t, pages)
	patches, err := k.Prune(keepStructs, keepSymbols, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	patched := splitPatches(t, patches, k.Phys)
	again := inferred(t, rec) // whose tables are not in memory yet
	for m := range host.All() {
		rec.pages = pages
		patched = append(patched, pruneGuest(t, m, again.Machine(m.ID()), rec)...)
		rec.pages = nil
	}
	fullGuests := looks(host)
	for _, p := range patched {
		pages[p.phys&^4095] = true
	}
	out := writeThin(t, src, st.Size(), pages, patched)
	if mem, info, err = openDump(out, st.Size()); err != nil {
		t.Fatal(err)
	}
	if k, err = linux.Open(mem, info); err != nil {
		t.Fatal(err)
	}
	if err := report(&thin, k); err != nil || thin.String() != full.String() {
		t.Fatalf("the thinned dump tells less: %v\n%s", err, thin.String())
	}
	if thin := looks(inferred(t, &recorder{mem: mem})); thin != fullGuests {
		t.Fatalf("the thinned dump tells of its guests\n%s\nwant\n%s", thin, fullGuests)
	}
	packThin(t, out, filepath.Join("../testdata/cores/linux-host", *thinName+".sparse.gz"))
}

// inferred reads what package guest does, the search for VMCSs included, but
// for the passes over all of memory.
func inferred(t *testing.T, rec *recorder) *guest.Host {
	ctx := context.Background()
	h := guest.OpenHost(recordedCore{rec.mem.(vmcore.Core), rec})
	for _, explain := range []bool{false, true} {
		if explain && h.Machines[0].VCPUs[0].Vendor == guest.AMD {
			break // a search for VMCSs finds none
		}
		if err := h.FindMachines(ctx, guest.MachineSearch{Explain: explain}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.FindRegisters(ctx, nil); err != nil {
		t.Fatal(err)
	}
	for _, d := range h.Disagreements {
		t.Errorf("%s: by KVM %s, by VMCSs %s", d.What, d.KVM, d.VMCS)
	}
	for m := range h.All() {
		if _, err := m.Memory(); err != nil {
			t.Log(m.ID(), err)
		}
		if m.Within == nil {
			continue
		}
		for _, v := range m.VCPUs { // the code that it runs
			mem, err := m.Virtual(v)
			if err == nil {
				_, err = mem.ReadPhys(make([]byte, 1), v.RIP().Value)
			}
			if err != nil {
				t.Log(m.ID(), err)
			}
		}
	}
	return h
}

// keepOlder has pages be those of the golden dump of this name, if there is
// one.
func keepOlder(t *testing.T, pages map[uint64]bool) {
	image, err := testcores.Load("../testdata/cores", "linux-host/"+*thinName)
	if err != nil {
		t.Log(err)
		return
	}
	older, _, err := openDump(image, image.Size())
	if err != nil {
		t.Fatal(err)
	}
	clear(pages)
	page := make([]byte, 4096)
	for r := range older.(vmcore.Core).Ranges() {
		for at := r.Addr &^ 4095; at < r.Addr+r.Size; at += 4096 {
			if n, _ := older.ReadPhys(page, at); n == 4096 && slices.ContainsFunc(page, func(b byte) bool { return b != 0 }) {
				pages[at] = true
			}
		}
	}
}

// looks tells what runs in the machines.
func looks(h *guest.Host) string {
	var b strings.Builder
	for m := range h.All() {
		s := inside.Look(m, inside.Options{Backtrace: true})
		err := s.Err
		s.Kernel, s.Err = nil, nil
		fmt.Fprintf(&b, "%s: %+v, %v\n", m.ID(), s, err)
	}
	return b.String()
}

// pruneGuest returns what is left of a machine's kernel, by the host's physical
// addresses: its BTF, kallsyms and ORC tables. It reads by again, the same
// machine, what else a look reads, but for the search through the image.
func pruneGuest(t *testing.T, m, again *guest.Machine, rec *recorder) []patch {
	pages := rec.pages
	rec.pages = nil
	k, err := m.Linux()
	if err != nil {
		t.Log(m.ID(), err)
		return nil
	}
	s := inside.Ask(k, m, inside.Options{Backtrace: true})
	rec.pages = pages
	mem, err := again.Memory()
	if err != nil {
		t.Fatal(err)
	}
	k.ReadBy(mem)
	for _, v := range m.VCPUs { // the page tables that lead to the image
		format := x86.Pages(k.Levels())
		for range x86.NewTables(mem, format, v.Regs.CR3.Value&x86.AddrMask).MappingsIn(0xffffffff80000000, 0xffffffffbfffffff) {
		}
	}
	inside.Ask(k, m, inside.Options{Backtrace: true})
	if k.Release() != "" {
		k.CString(must(k.Pointer(must(k.Symbol("vmcoreinfo_data")))), 4096)
		k.Pointer(must(k.Symbol("vmcoreinfo_size")))
	}
	rec.pages = nil
	full, err := m.Memory()
	if err != nil {
		t.Fatal(err)
	}
	k.ReadBy(full)
	structs, symbols := guestStructs, slices.Clone(guestSymbols)
	if m.OwnKVM {
		structs, symbols = append(slices.Clone(structs), keepStructs...), append(symbols, keepSymbols...)
	}
	onStacks, addrs := framesOf(s)
	patches, err := k.Prune(structs, append(symbols, onStacks...), nil, true)
	if err != nil {
		t.Fatal(err)
	}
	orc, err := k.PruneORC(addrs)
	if err != nil {
		t.Fatal(err)
	}
	rec.pages = pages
	return splitPatches(t, append(patches, orc...), func(addr uint64) (uint64, uint64, error) {
		phys, size, err := k.Phys(addr)
		if err != nil {
			return 0, 0, err
		}
		to, err := mem.Translate(phys)
		skip := phys - to.Addr
		return to.Phys + skip, min(size, to.Size-skip), err
	})
}

// framesOf returns the functions that vCPUs were in, and the addresses that
// their backtraces asked ORC tables for.
func framesOf(s *inside.System) (symbols []string, addrs []uint64) {
	for _, v := range s.VCPUs {
		for _, f := range v.Backtrace {
			symbols = append(symbols, f.Symbol.Name)
			addrs = append(addrs, f.Addr, f.Addr-1)
		}
		name, _, _ := strings.Cut(v.Symbol, "+")
		symbols = append(symbols, name)
	}
	return symbols, addrs
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// splitPatches splits patches at pages and translates them.
func splitPatches(t *testing.T, patches []linux.Patch, translate func(uint64) (phys, size uint64, err error)) (all []patch) {
	for _, p := range patches {
		for len(p.Data) > 0 {
			phys, size, err := translate(p.Addr)
			if err != nil {
				t.Fatal(err)
			}
			n := min(uint64(len(p.Data)), 4096-phys%4096, size)
			all = append(all, patch{phys, p.Data[:n]})
			p.Addr += n
			p.Data = p.Data[n:]
		}
	}
	return all
}

// A recordedCore has a recorder see what is read, but for what is read in big
// pieces.
type recordedCore struct {
	vmcore.Core
	rec *recorder
}

func (c recordedCore) ReadPhys(p []byte, addr uint64) (int, error) {
	if len(p) > 16<<10 {
		return c.Core.ReadPhys(p, addr)
	}
	return c.rec.ReadPhys(p, addr)
}

// A patch is a part of a page that is to be something else.
type patch struct {
	phys uint64
	data []byte
}
