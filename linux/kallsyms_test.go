package linux

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/internal/fakelinux"
)

// manySymbols adds symbols with names of all lengths and returns a long one.
func manySymbols(f *fakelinux.Kernel, n int) (long string) {
	for i := range n {
		f.Symbols[fmt.Sprintf("tok200_symbol_%d", i)] = fakeImage + 0x100000 + 16*uint64(i)
	}
	long = "long" + strings.Repeat("_x", 150)
	f.Symbols[long] = fakeImage + 0x90000
	return long
}

func TestSymbols(t *testing.T) {
	tests := []struct {
		name string
		form offsetForm
		old  bool // neither in VMCOREINFO nor in today's order
		n    int
	}{
		{name: "absolute per-CPU addresses, named by VMCOREINFO, as in 6.1", form: absolutePerCPU, n: 700},
		{name: "unsigned offsets, as in 6.16", form: fromBase, n: 700},
		{name: "relative to their place, as in 7.3", form: fromPlace, n: 700},
		{name: "searched for, as in 5.10", form: absolutePerCPU, old: true, n: 700},
		{name: "searched for, few symbols", form: absolutePerCPU, old: true, n: 300},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := fakelinux.New()
			long := manySymbols(f, test.n)
			if test.form == absolutePerCPU {
				f.Symbols["per_cpu"] = 0x1fbc0
			}
			f.Kallsyms(fakelinux.Form(test.form), test.old)
			k := openFake(t, f, f.Info())
			for name, want := range f.Symbols {
				if got, err := k.Symbol(name); got != want || err != nil {
					t.Fatalf("%s is at %#x (%v), want %#x", name, got, err, want)
				}
			}
			for _, want := range []Symbol{
				{Name: "tok200_symbol_17", Addr: fakeImage + 0x100110},
				{Name: "tok200_symbol_17", Addr: fakeImage + 0x100110, Offset: 15},
				{Name: long, Addr: fakeImage + 0x90000, Offset: 0x6ffff},
			} {
				if got, err := k.SymbolAt(want.Addr + want.Offset); got != want || err != nil {
					t.Errorf("%v (%v), want %v", got, err, want)
				}
			}
			if _, err := k.Symbol("no_such"); !errors.Is(err, ErrNoSymbol) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

func TestSymbolsMissing(t *testing.T) {
	tests := []struct {
		name string
		make func(*fakelinux.Kernel)
		err  error
	}{
		{"no tables", func(f *fakelinux.Kernel) {}, ErrNoKallsyms},
		{"digits that are no token table", func(f *fakelinux.Kernel) { f.Image("", digits) }, ErrNoKallsyms},
		{"more symbols than there can be", func(f *fakelinux.Kernel) {
			f.Kallsyms(fakelinux.FromBase, false)
			f.Put(infoSymbol(f, "kallsyms_num_syms"), fakelinux.LE32(1<<31))
		}, ErrCorrupt},
		{"names that end early", func(f *fakelinux.Kernel) {
			f.Kallsyms(fakelinux.FromBase, false)
			f.Put(infoSymbol(f, "kallsyms_num_syms"), fakelinux.LE32(maxSymbols))
		}, nil},
		{"a token beyond the table", func(f *fakelinux.Kernel) {
			f.Kallsyms(fakelinux.FromBase, false)
			f.Put(infoSymbol(f, "kallsyms_token_index"), []byte{0xff, 0xff})
		}, nil},
		{"an address that VMCOREINFO contradicts", func(f *fakelinux.Kernel) {
			f.Kallsyms(fakelinux.FromBase, false)
			f.Symbols["_stext"] += 16
		}, ErrCorrupt},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := fakelinux.New()
			test.make(f)
			_, err := openFake(t, f, f.Info()).Symbol("_stext")
			if err == nil || test.err != nil && !errors.Is(err, test.err) {
				t.Errorf("error is %v, want %v", err, test.err)
			}
		})
	}
}

// infoSymbol returns what VMCOREINFO states.
func infoSymbol(f *fakelinux.Kernel, name string) uint64 {
	addr, _ := parseInfo(strings.Join(f.Lines, "\n")).symbol(name)
	return addr
}

func TestOpen(t *testing.T) {
	for _, test := range []struct{ name, info, want string }{
		{"nothing", "", "swapper_pg_dir"},
		{"a user address", "SYMBOL(swapper_pg_dir)=1000\nNUMBER(phys_base)=0\n", "swapper_pg_dir"},
		{"no phys_base", "SYMBOL(swapper_pg_dir)=ffffffff82000000\n", "phys_base"},
		{"no number", "SYMBOL(swapper_pg_dir)=ffffffff82000000\nNUMBER(phys_base)=x\n", "phys_base"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Open(fakelinux.New(), test.info); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one about %s", err, test.want)
			}
		})
	}
}

// FuzzKallsyms changes bytes of the tables and of what is around.
func FuzzKallsyms(f *testing.F) {
	var kernels [2]*fakelinux.Kernel
	for i := range kernels {
		kernels[i] = fakelinux.New()
		manySymbols(kernels[i], 300)
		kernels[i].Kallsyms(fakelinux.AbsolutePerCPU, i == 1)
	}
	f.Add(uint32(0), []byte{0xff}, false)
	f.Add(uint32(8), []byte{0xff, 0xff, 0xff, 0x7f}, true)
	f.Fuzz(func(t *testing.T, at uint32, b []byte, old bool) {
		k := *kernels[0]
		if old {
			k = *kernels[1]
		}
		k.Pages = maps.Clone(k.Pages)
		for addr, page := range k.Pages {
			k.Pages[addr] = slices.Clone(page)
		}
		tables := uint64(fakeImage + 0x2000)
		k.Put(tables+uint64(at)%(k.Next-tables), b[:min(len(b), 4096)])
		linux := openFake(t, &k, k.Info())
		linux.Symbol("tok200_symbol_17")
		linux.SymbolAt(fakeImage + 0x100110)
	})
}

// Images that look like kallsyms everywhere. What is tried of them is bounded,
// so that the search ends soon.
func TestSearchBounded(t *testing.T) {
	tests := []struct {
		name string
		make func(*fakelinux.Kernel)
	}{
		{"digits everywhere", func(f *fakelinux.Kernel) { f.Image("", bytes.Repeat(digits, 1<<20/len(digits))) }},
		{"names that begin anywhere", func(f *fakelinux.Kernel) {
			// Each word is a name of three characters, and the number of
			// symbols.
			const num = 0xfff03
			var markers []byte
			for i := range uint32(num+markerEvery-1) / markerEvery {
				markers = append(markers, fakelinux.LE32(4*markerEvery*i)...)
			}
			f.Image("", append(bytes.Repeat(fakelinux.LE32(num), 6<<20/4), make([]byte, 2*maxRun)...))
			f.Image("", markers)
			tokens := append(make([]byte, '0'), digits...)
			tokens = append(tokens, make([]byte, 256-'9'-1)...)
			var index []byte
			for at, i := 0, 0; i < 256; i++ { // an empty token but for the digits
				index = binary.LittleEndian.AppendUint16(index, uint16(at))
				at += bytes.IndexByte(tokens[at:], 0) + 1
			}
			f.Image("", tokens)
			f.Image("", index)
			f.Image("", digits)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := fakelinux.New()
			test.make(f)
			finder := tableFinder{k: openFake(t, f, f.Finish())}
			_, err := finder.find()
			if !errors.Is(err, ErrNoKallsyms) {
				t.Errorf("error is %v", err)
			}
			if finder.digits <= maxDigits && finder.walked <= maxWalked || finder.digits > maxDigits+1 || finder.walked > 2*maxWalked {
				t.Errorf("%d places tried, %d names", finder.digits, finder.walked)
			}
		})
	}
}
