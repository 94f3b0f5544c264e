package vmcore

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/plan"
)

// fakeMemory has a page wherever has says so, filled with its number; pages
// whose number is a multiple of 7 are zero.
type fakeMemory struct{ has func(pfn uint64) bool }

func (m fakeMemory) page(pfn uint64) []byte {
	b := make([]byte, plan.PageSize)
	if pfn%7 != 0 {
		binary.LittleEndian.PutUint32(b, uint32(pfn))
		for n := 4; n < len(b); n *= 2 {
			copy(b[n:], b[:n])
		}
	}
	return b
}

func (m fakeMemory) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		if !m.has(at / plan.PageSize) {
			return n, errors.Wrapf(ErrExcluded, "%#x", at)
		}
		n += copy(p[n:], m.page(at / plan.PageSize)[at%plan.PageSize:])
	}
	return n, nil
}

// every returns n ranges of a page each, step bytes apart.
func every(step uint64, n int) (rs []physmem.Range) {
	for i := range uint64(n) {
		rs = append(rs, physmem.Range{Addr: i * step, Size: plan.PageSize})
	}
	return rs
}

// written writes a core with room for a page of notes.
func written(ctx context.Context, out string, m physmem.Memory, overwrite bool, notes []elfnote.Note, aliases ...Alias) error {
	w, err := Create(out, plan.PageSize, overwrite)
	if err != nil {
		return err
	}
	defer w.Discard()
	if err := w.Copy(ctx, m, physmem.ScanOptions{}, nil); err != nil {
		return err
	}
	_, err = w.Finish(notes, aliases)
	return err
}

func TestCreate(t *testing.T) {
	note := elfnote.Note{Name: "TEST", Type: 1, Desc: []byte("12345")}
	all := func(uint64) bool { return true }
	for _, tt := range []struct {
		name   string
		has    func(pfn uint64) bool
		ranges []physmem.Range
		loads  int
		lost   int
		zeros  int
	}{
		{"in one piece", all, []physmem.Range{{Addr: 0, Size: 5 << 20}}, 1, 0, 0},
		{"with a hole between ranges", all, []physmem.Range{{Addr: 0, Size: 0x9f000}, {Addr: 0x100000, Size: 3 << 20}}, 2, 0, 0},
		{"far up", all, []physmem.Range{{Addr: 1 << 40, Size: 0x1000}}, 1, 0, 0},
		{"pages missing inside", func(n uint64) bool { return n%100 != 50 }, []physmem.Range{{Addr: 0, Size: 600 * plan.PageSize}}, 7, 6, 0},
		{"missing at both ends", func(n uint64) bool { return n > 2 && n < 300 }, []physmem.Range{{Addr: 0, Size: 400 * plan.PageSize}}, 1, 3 + 100, 0},
		{"a range that is missing", func(n uint64) bool { return n >= 256 }, []physmem.Range{{Addr: 0, Size: 16 * plan.PageSize}, {Addr: 256 * plan.PageSize, Size: plan.PageSize}}, 1, 16, 0},
		{"more holes than were foreseen", func(n uint64) bool { return n%2 == 0 }, []physmem.Range{{Addr: 0, Size: 4096 * plan.PageSize}}, 2048, 2048, 0},
		{"more holes than PT_LOADs: the first", func(n uint64) bool { return n%2 == 0 }, []physmem.Range{{Addr: 0, Size: 20000 * plan.PageSize}}, maxLoads, 10000, 10001 - maxLoads},
		{"more holes than PT_LOADs: the biggest", func(n uint64) bool { return n%2 == 0 && n%100 != 98 }, []physmem.Range{{Addr: 0, Size: 20000 * plan.PageSize}}, maxLoads - 1, 10200, 10200 - 600 - (maxLoads - 1 - 200)},
		{"more ranges than PT_LOADs", all, every(2*plan.PageSize, 10000), maxLoads, 0, 9999 - maxLoads + 1},
		{"and the first half missing", func(n uint64) bool { return n >= 10000 }, every(2*plan.PageSize, 10000), 1, 5000, 4999},
		{"more ranges than there is room for, far apart", all, every(1<<20, 2*maxLoads), maxLoads, 0, maxLoads * 255},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := fakeMemory{tt.has}
			out := filepath.Join(t.TempDir(), "core")
			lost, zeros := 0, 0
			var last, total int64
			w, err := Create(out, 4096, false)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Discard()
			err = w.Copy(t.Context(), physmem.With(m, slices.Values(tt.ranges)), physmem.ScanOptions{
				Progress: func(done uint64) { last, total = int64(done), int64(w.Size()) },
				Lost: func(addr uint64, err error) {
					lost++
					if !errors.Is(err, ErrExcluded) || tt.has(addr/plan.PageSize) {
						t.Errorf("lost %#x: %v", addr, err)
					}
				}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			pages, err := w.Finish([]elfnote.Note{note}, nil)
			if err != nil {
				t.Fatal(err)
			}
			zeros = int(pages)
			if last != total || last == 0 {
				t.Errorf("progress ended with %d of %d", last, total)
			}
			if lost != tt.lost || zeros != tt.zeros {
				t.Errorf("%d pages lost, %d zeros, expected %d, %d", lost, zeros, tt.lost, tt.zeros)
			}
			f, err := OpenFile(out)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			c := f.Core.(elfCore).ELF
			if len(c.Progs) != tt.loads+1 {
				t.Errorf("%d PT_LOADs, expected %d", len(c.Progs)-1, tt.loads)
			}
			if got, err := c.Notes().Note(0, 100); err != nil || !got.Equal(note) {
				t.Errorf("note %v, %v", got, err)
			}
			if bad := c.Verify(); len(bad) > 0 {
				t.Errorf("faults: %v", bad)
			}
			b := make([]byte, plan.PageSize)
			shown := 0
			for _, r := range tt.ranges {
				for addr := r.Addr; addr < r.Addr+r.Size; addr += plan.PageSize * uint64(1+len(tt.ranges)/64+tt.loads/64) {
					n, _ := c.ReadPhys(b, addr)
					switch has := tt.has(addr / plan.PageSize); {
					case has && n != plan.PageSize || !has && n > 0 && !physmem.AllZero(b):
						t.Fatalf("page at %#x: %d bytes", addr, n)
					case has && !bytes.Equal(b, m.page(addr/plan.PageSize)):
						t.Fatalf("page at %#x differs", addr)
					case !has && n > 0:
						shown++
					}
				}
			}
			if shown > 0 && tt.zeros == 0 {
				t.Errorf("%d pages shown that are missing", shown)
			}
			size := uint64(0)
			for _, p := range c.Progs[1:] {
				size += p.Memsz
			}
			if want := total + int64(zeros-lost)*plan.PageSize; size != uint64(want) {
				t.Errorf("PT_LOADs of %#x bytes, expected %#x", size, want)
			}
			st := statT(f.info)
			if f.info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v", f.info.Mode())
			}
			if zeros := int64(total / 7); tt.lost == 0 && total > 1<<20 && st.Blocks*512 > f.info.Size()-zeros/2 {
				t.Errorf("%d bytes on disk of %d: zeros are no holes", st.Blocks*512, f.info.Size())
			}
		})
	}
}

// Holes are many in little memory, and those that lie together are one.
func TestCreateHoles(t *testing.T) {
	for _, tt := range []struct {
		name         string
		step         uint64
		holes, zeros uint64
	}{
		{"in one stretch, told in no order", plan.PageSize, 1, 0},
		{"each by itself", 2 * plan.PageSize, 1000, 3*keptHoles - 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &Writer{}
			for i := range uint64(3 * keptHoles) {
				w.lack(physmem.Range{Addr: (i ^ 1) * tt.step, Size: plan.PageSize}) // neighbours come the other way round
				if len(w.holes) > keptHoles {
					t.Fatalf("%d holes", len(w.holes))
				}
			}
			w.keep(1000)
			if uint64(len(w.holes)) != tt.holes || w.zeros != tt.zeros*plan.PageSize {
				t.Errorf("%d holes, %d pages of zeros, expected %d, %d", len(w.holes), w.zeros/plan.PageSize, tt.holes, tt.zeros)
			}
		})
	}
}

// What says another time that there is other memory is found out.
func TestCreateChanged(t *testing.T) {
	for _, then := range [][]physmem.Range{nil, {{Addr: 0, Size: 0x1000}}, {{Addr: 0, Size: 0x3000}}, {{Addr: 0x1000, Size: 0x2000}}, {{Addr: 0, Size: 0x2000}, {Addr: 0x1000, Size: 0x1000}}, {{Addr: 0, Size: 0x1800}}, {{Addr: 1 << 30, Size: 0x2000}}} {
		times := 0
		m := physmem.With(fakeMemory{func(uint64) bool { return true }}, func(yield func(physmem.Range) bool) {
			if times++; times == 1 {
				yield(physmem.Range{Addr: 0, Size: 0x2000})
			} else {
				slices.Values(then)(yield)
			}
		})
		if err := written(t.Context(), filepath.Join(t.TempDir(), "x"), m, false, nil); !errors.Is(err, ErrChanged) {
			t.Errorf("%#x: %v", then, err)
		}
	}
}

// Aliases are PT_LOADs after all others; one that is not all there is left out.
func TestCreateAliases(t *testing.T) {
	m := fakeMemory{func(pfn uint64) bool { return pfn != 20 }}
	const v = 0xffffffff82000000
	out := filepath.Join(t.TempDir(), "core")
	aliases := []Alias{{v, physmem.Range{Addr: 0x7000, Size: 0x1000}}, {v + 1, physmem.Range{Addr: 0x4000, Size: 0x1000}}, {v + 2, physmem.Range{Addr: 20 << 12, Size: 0x1000}},
		{v + 3, physmem.Range{Addr: 19 << 12, Size: 0x2000}}, {v + 4, physmem.Range{Addr: 21 << 12, Size: 0x2000}}, {v + 5, physmem.Range{Addr: 0x104000, Size: 0x2000}}}
	if err := written(t.Context(), out, physmem.With(m, slices.Values([]physmem.Range{{Addr: 0x5000, Size: 0x100000}})), false, nil, aliases...); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	progs := f.Core.(elfCore).ELF.Progs
	if len(progs) != 5 || progs[3].Vaddr != v || progs[4].Vaddr != v+4 || progs[1].Vaddr != 0 {
		t.Fatalf("%+v", progs)
	}
	b := make([]byte, plan.PageSize)
	for _, p := range progs[3:] {
		if _, err := f.f.ReadAt(b, int64(p.Off)); err != nil || !bytes.Equal(b, m.page(p.Paddr/plan.PageSize)) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func TestCreateLeavesNothing(t *testing.T) {
	all := fakeMemory{func(uint64) bool { return true }}
	none := fakeMemory{func(uint64) bool { return false }}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	big := []elfnote.Note{{Name: "TEST", Desc: make([]byte, 5000)}}
	for _, tt := range []struct {
		name  string
		ctx   context.Context
		mem   physmem.Reader
		rs    []physmem.Range
		notes []elfnote.Note
		want  error // nil for any
	}{
		{"nothing can be read", context.Background(), none, []physmem.Range{{Addr: 0, Size: 1 << 20}}, nil, ErrNoMemory},
		{"nothing is asked for", context.Background(), all, nil, nil, ErrNoMemory},
		{"interrupted", cancelled, all, []physmem.Range{{Addr: 0, Size: 1 << 30}}, nil, context.Canceled},
		{"more notes than were announced", context.Background(), all, []physmem.Range{{Addr: 0, Size: 1 << 20}}, big, nil},
		{"ranges that overlap", context.Background(), all, []physmem.Range{{Addr: 0, Size: 1 << 20}, {Addr: 0x1000, Size: 0x1000}}, nil, nil},
		{"a range that wraps around", context.Background(), all, []physmem.Range{{Addr: 1<<64 - 4096, Size: 8192}}, nil, nil},
		{"a range of half a page", context.Background(), all, []physmem.Range{{Addr: 0, Size: 2048}}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			err := written(tt.ctx, filepath.Join(dir, "core"), physmem.With(tt.mem, slices.Values(tt.rs)), false, tt.notes)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("error %v, expected %v", err, tt.want)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestCreateKeepsFiles(t *testing.T) {
	out := filepath.Join(t.TempDir(), "core")
	if err := os.WriteFile(out, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	m := physmem.With(fakeMemory{func(uint64) bool { return true }}, slices.Values([]physmem.Range{{Addr: 0, Size: 1 << 20}}))
	if err := written(t.Context(), out, m, false, nil); !errors.Is(err, ErrExists) {
		t.Errorf("error %v", err)
	}
	if b, _ := os.ReadFile(out); string(b) != "precious" {
		t.Errorf("%q", b)
	}
	if err := written(t.Context(), out, m, true, nil); err != nil {
		t.Error(err)
	}
	if f, err := OpenFile(out); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
}
