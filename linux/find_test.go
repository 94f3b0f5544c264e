package linux

import (
	"fmt"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/fakelinux"
)

// TestFind finds kernels by page tables alone.
func TestFind(t *testing.T) {
	const junk = 0x3000 // a page that is no table
	tests := []struct {
		name   string
		levels int
		base   uint64 // of physical memory
		form   offsetForm
		old    bool // kallsyms in the order until 6.0
		seqs   bool
		roots  func(cr3 uint64, levels int) []Root
	}{
		{name: "today's kernel", levels: 4, form: fromPlace},
		{name: "of 6.4 to 6.14", levels: 4, form: absolutePerCPU},
		{name: "of 6.1 to 6.3", levels: 4, form: absolutePerCPU, old: true, seqs: true},
		{name: "of 5.10", levels: 4, form: absolutePerCPU, old: true},
		{name: "moved in physical memory", levels: 4, base: 3 << 30, form: fromBase},
		{name: "5 levels", levels: 5, form: fromBase},
		{name: "a vCPU in user mode under page-table isolation", levels: 4, form: fromBase, roots: func(cr3 uint64, levels int) []Root {
			return []Root{{cr3 | 1<<12, levels}}
		}},
		{name: "CR3 with a PCID", levels: 4, form: fromBase, roots: func(cr3 uint64, levels int) []Root {
			return []Root{{cr3 | 0x806, levels}}
		}},
		{name: "the second vCPU tells", levels: 4, form: fromBase, roots: func(cr3 uint64, levels int) []Root {
			return []Root{{junk, levels}, {cr3, levels}}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := fakelinux.Over(nil, test.base)
			cr3 := f.MapImage(test.levels)
			manySymbols(f, 700)
			f.KallsymsWith(fakelinux.Form(test.form), test.old, test.seqs)
			roots := []Root{{cr3, test.levels}}
			if test.roots != nil {
				roots = test.roots(cr3, test.levels)
			}
			k, err := Find(f, roots)
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range f.Symbols {
				if got, err := k.Symbol(name); got != want || err != nil {
					t.Fatalf("%s is at %#x (%v), want %#x", name, got, err, want)
				}
			}
			at := f.Alloc(8, 0, 0x1234)
			if got, err := k.Pointer(at); got != 0x1234 || err != nil {
				t.Errorf("the direct map has %#x (%v)", got, err)
			}
		})
	}
}

func TestFindFails(t *testing.T) {
	tests := []struct {
		name  string
		make  func(f *fakelinux.Kernel) []Root
		cause error
	}{
		{"no roots", func(f *fakelinux.Kernel) []Root { return nil }, ErrNoImage},
		{"tables without an image", func(f *fakelinux.Kernel) []Root { return []Root{{f.Symbols["swapper_pg_dir"] - imageStart, 4}} }, ErrNoImage},
		{"a root that is not in memory", func(f *fakelinux.Kernel) []Root { return []Root{{1 << 40, 4}} }, fakelinux.ErrMemory},
		{"an image without symbols", func(f *fakelinux.Kernel) []Root { return []Root{{f.MapImage(4), 4}} }, ErrNoKallsyms},
		{"symbols of an image that is elsewhere", func(f *fakelinux.Kernel) []Root {
			cr3 := f.MapImage(4)
			f.Symbols["_text"] += 4 << 20
			f.Kallsyms(fakelinux.FromBase, false)
			return []Root{{cr3, 4}}
		}, ErrNoKallsyms},
		{"more roots than are tried", func(f *fakelinux.Kernel) []Root {
			cr3 := f.MapImage(4)
			f.Kallsyms(fakelinux.FromBase, false)
			var roots []Root
			for i := range uint64(maxRoots) {
				roots = append(roots, Root{1<<40 + i<<13, 4})
			}
			return append(roots, Root{cr3, 4})
		}, fakelinux.ErrMemory},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := fakelinux.New()
			if _, err := Find(f, test.make(f)); !errors.Is(err, test.cause) {
				t.Errorf("error is %v, want %v", err, test.cause)
			}
		})
	}
}

// TestFindOwnInfo: VMCOREINFO that the kernel keeps is taken if it agrees with
// its page tables, and only then.
func TestFindOwnInfo(t *testing.T) {
	for _, test := range []struct {
		name, line, want string
	}{
		{"it agrees", "NUMBER(phys_base)=0", "6.99-fake"},
		{"of a kernel that lies elsewhere", "NUMBER(phys_base)=4096", "6.77-uts"},
		{"it names no base", "", "6.77-uts"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := fakelinux.New()
			cr3 := f.MapImage(4)
			text := []byte("OSRELEASE=6.99-fake\n" + test.line + fmt.Sprintf("\nSYMBOL(swapper_pg_dir)=%x\n", f.Symbols["swapper_pg_dir"]))
			data := f.Alloc(4096)
			f.Put(data, text)
			f.Image("vmcoreinfo_data", fakelinux.LE64(data))
			f.Image("vmcoreinfo_size", fakelinux.LE64(uint64(len(text))))
			uts := make([]byte, maxUTSOffset+6*utsField)
			copy(uts[4:], "Linux")
			copy(uts[4+utsField:], "fakehost")
			copy(uts[4+2*utsField:], "6.77-uts")
			f.Image("init_uts_ns", uts)
			manySymbols(f, 300)
			f.Kallsyms(fakelinux.FromBase, false)
			k, err := Find(f, []Root{{cr3, 4}})
			if err != nil {
				t.Fatal(err)
			}
			if k.Release() != test.want {
				t.Errorf("release is %q, want %q", k.Release(), test.want)
			}
			if u, err := k.UTS(); err != nil || u.Hostname != "fakehost" || u.Release != "6.77-uts" {
				t.Errorf("%+v, %v", u, err)
			}
		})
	}
}
