package linux_test

import (
	"context"
	"debug/elf"
	"flag"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"vmcsnote/guest"
	"vmcsnote/internal/sparse"
	"vmcsnote/linux"
	"vmcsnote/physmem"
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
	// Of a guest whose kernel is found by its page tables.
	keepOfGuest = strings.Fields("_text init_top_pgt vmcoreinfo_data vmcoreinfo_size")
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
	var patched []patch
	prune := func(k *linux.Kernel, symbols []string, searched bool, host func(gpa uint64) uint64) {
		patches, err := k.Prune(keepStructs, symbols, searched)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range patches {
			for len(p.Data) > 0 {
				phys, size, err := k.Phys(p.Addr)
				if err != nil {
					t.Fatal(err)
				}
				n := min(uint64(len(p.Data)), 4096-phys%4096, size)
				phys = host(phys)
				patched = append(patched, patch{phys, p.Data[:n]})
				pages[phys&^4095] = true
				p.Addr += n
				p.Data = p.Data[n:]
			}
		}
	}
	h := inferred(t, rec)
	rec.pages = nil
	prune(k, keepSymbols, false, func(phys uint64) uint64 { return phys })
	for m := range h.All() {
		if !m.OwnKVM {
			continue
		}
		own, err := m.Linux()
		if err != nil {
			t.Fatal(err)
		}
		mem, _ := m.Memory()
		prune(own, slices.Concat(keepSymbols, keepOfGuest), true, func(gpa uint64) uint64 {
			at, err := mem.Translate(gpa)
			if err != nil {
				t.Fatal(err)
			}
			return at.Phys + gpa - at.Addr
		})
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "thin"))
	if err != nil {
		t.Fatal(err)
	}
	out.Truncate(st.Size())
	copyAt := func(off int64, n int64) {
		if _, err := io.Copy(io.NewOffsetWriter(out, off), io.NewSectionReader(src, off, n)); err != nil {
			t.Fatal(err)
		}
	}
	place := places(t, src, st.Size(), pages)
	copyAt(0, place.data)
	for _, off := range place.pages {
		copyAt(off, 4096)
	}
	for _, p := range patched {
		if _, err := out.WriteAt(p.data, place.pages[p.phys&^4095]+int64(p.phys%4096)); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Sync(); err != nil {
		t.Fatal(err)
	}
	if mem, info, err = openDump(out, st.Size()); err != nil {
		t.Fatal(err)
	}
	if k, err = linux.Open(mem, info); err != nil {
		t.Fatal(err)
	}
	if err := report(&thin, k); err != nil || thin.String() != full.String() {
		t.Fatalf("the thinned dump tells less: %v\n%s", err, thin.String())
	}
	to := filepath.Join("../testdata/cores/linux-host", *thinName+".sparse.gz")
	packed, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := sparse.Pack(packed, out); err != nil {
		t.Fatal(err)
	}
	st, _ = packed.Stat()
	t.Logf("%d pages, %d bytes", len(pages), st.Size())
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

// A layout is where a dump's file has pages, and where the first page is:
// everything before is no memory.
type layout struct {
	pages map[uint64]int64
	data  int64
}

// places finds pages in a dump, whatever its form, if it is not compressed: a
// page's place is what the dump's reader reads last. From the last page to the
// first, for the reader reads ahead in the other direction.
func places(t *testing.T, src io.ReaderAt, size int64, pages map[uint64]bool) layout {
	rec := &fileRecorder{r: src}
	core, err := vmcore.Open(rec, size)
	if err != nil {
		t.Fatal(err)
	}
	l := layout{pages: map[uint64]int64{}}
	page := make([]byte, 4096)
	sorted := slices.Sorted(maps.Keys(pages))
	for _, phys := range slices.Backward(sorted) {
		if _, err := core.ReadPhys(page, phys); err != nil || rec.n != 4096 {
			t.Fatalf("page at %#x: the file is read at %#x for %#x bytes (%v)", phys, rec.off, rec.n, err)
		}
		l.pages[phys] = rec.off
	}
	// /proc/vmcore has the kernel's image twice: not all segments are read.
	if f, err := elf.NewFile(src); err == nil {
		l.data = size
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD {
				l.data = min(l.data, int64(p.Off))
			}
		}
		return l
	}
	for phys := uint64(0); ; phys += 4096 {
		if _, err := core.ReadPhys(page, phys); err == nil {
			l.data = rec.off
			return l
		} else if phys > sorted[0] {
			t.Fatal(err)
		}
	}
}

// A fileRecorder remembers the last read.
type fileRecorder struct {
	r   io.ReaderAt
	off int64
	n   int
}

func (r *fileRecorder) ReadAt(p []byte, off int64) (int, error) {
	r.off, r.n = off, len(p)
	return r.r.ReadAt(p, off)
}

// A recorder remembers the pages that were read.
type recorder struct {
	mem   physmem.Reader
	lock  sync.Mutex
	pages map[uint64]bool
}

func (r *recorder) ReadPhys(p []byte, addr uint64) (int, error) {
	n, err := r.mem.ReadPhys(p, addr)
	r.lock.Lock()
	defer r.lock.Unlock()
	for at := addr &^ 4095; r.pages != nil && n > 0 && at < addr+uint64(n); at += 4096 {
		r.pages[at] = true
	}
	return n, err
}
