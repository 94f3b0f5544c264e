// Package physmap maps physical memory to the bytes of a file, by segments such
// as an ELF core's PT_LOADs.
package physmap

import (
	"debug/elf"
	"io"
	"iter"
	"slices"
	"sort"

	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/plan"
)

// A run is physical memory that lies in the file in one piece.
type run struct {
	physmem.Range
	off int64
}

// A Map is all runs, sorted by address and disjoint. PT_LOADs overlap: the
// kernel's text is mapped twice (x86), and QEMU's -p writes one for each
// mapping of a page; the first that holds a byte counts.
type Map struct {
	r    io.ReaderAt
	runs []run
	// Once is the memory of the runs, but each byte of the file once. Whoever
	// reads all memory reads this: 65,533 PT_LOADs of the same 256 MiB would be
	// 16 TiB.
	Once []physmem.Range
	// filed is the memory that PT_LOADs claim to have in the file (p_filesz),
	// known all memory that they claim (p_memsz).
	filed, known []physmem.Range
}

// New maps the PT_LOADs among progs, cut at the end of r, which has size bytes.
func New(r io.ReaderAt, size int64, progs []elf.ProgHeader) *Map {
	loads := make([]run, 0, len(progs))
	for _, p := range progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		n := plan.Extent{Off: p.Off, Size: p.Filesz}.Clip(size)
		if n == 0 || p.Paddr+n < p.Paddr {
			continue
		}
		loads = append(loads, run{physmem.Range{Addr: p.Paddr, Size: n}, int64(p.Off)})
	}
	sort.SliceStable(loads, func(i, j int) bool { return loads[i].Addr < loads[j].Addr })
	m := &Map{r: r, runs: loads[:0]}
	var covered uint64 // everything below is mapped, or will never be
	for _, l := range loads {
		rest := physmem.Between(max(l.Addr, covered), l.End())
		if rest.Size == 0 {
			continue
		}
		covered = rest.End()
		m.runs = append(m.runs, run{rest, l.off + int64(rest.Addr-l.Addr)})
	}
	m.runs = slices.Clone(m.runs)
	m.Once = onceOnly(m.runs)
	m.filed = claimed(progs, func(p *elf.ProgHeader) uint64 { return p.Filesz })
	m.known = claimed(progs, func(p *elf.ProgHeader) uint64 { return p.Memsz })
	return m
}

// claimed returns the memory that the PT_LOADs claim, by one of their sizes. It
// clones the result to free the rest: Union may have made one range of 65,000.
func claimed(progs []elf.ProgHeader, size func(*elf.ProgHeader) uint64) []physmem.Range {
	all := make([]physmem.Range, 0, len(progs))
	for i := range progs {
		if p := &progs[i]; p.Type == elf.PT_LOAD {
			all = append(all, physmem.Range{Addr: p.Paddr, Size: size(p)})
		}
	}
	return slices.Clone(physmem.Union(all))
}

// onceOnly returns the memory of the runs, but each byte of the file once.
func onceOnly(runs []run) []physmem.Range {
	byOff := slices.Clone(runs)
	sort.SliceStable(byOff, func(i, j int) bool { return byOff[i].off < byOff[j].off })
	once := make([]physmem.Range, 0, len(runs))
	var covered int64 // all bytes of the file below are in it, or in no run
	for _, r := range byOff {
		skip := max(covered-r.off, 0)
		if uint64(skip) >= r.Size {
			continue
		}
		once = append(once, physmem.Between(r.Addr+uint64(skip), r.End()))
		covered = r.off + int64(r.Size)
	}
	return slices.Clone(physmem.Union(once))
}

// contains reports whether addr is in one of the ranges, which are sorted.
func contains(rs []physmem.Range, addr uint64) bool {
	i := sort.Search(len(rs), func(i int) bool { return rs[i].End() > addr })
	return i < len(rs) && rs[i].Contains(addr)
}

// find returns the run that holds addr.
func (m *Map) find(addr uint64) (run, bool) {
	i := sort.Search(len(m.runs), func(i int) bool { return m.runs[i].End() > addr })
	if i == len(m.runs) || !m.runs[i].Contains(addr) {
		return run{}, false
	}
	return m.runs[i], true
}

// ReadPhys implements [physmem.Memory].
func (m *Map) ReadPhys(p []byte, addr uint64) (n int, err error) {
	for n < len(p) {
		at := addr + uint64(n)
		r, ok := m.find(at)
		if !ok || at < addr {
			return n, &plan.AddressError{Addr: at, Err: m.WhyNot(at)}
		}
		skip := at - r.Addr
		part := p[n:]
		part = part[:min(uint64(len(part)), r.Size-skip)]
		k, err := m.r.ReadAt(part, r.off+int64(skip))
		n += k
		if k < len(part) {
			return n, &plan.AddressError{Addr: at + uint64(k), Err: plan.NoEOF(err)}
		}
	}
	return n, nil
}

// Ranges implements [physmem.Memory]. If memory at several addresses shares
// bytes of the file, it yields one of them; ReadPhys reads all.
func (m *Map) Ranges() iter.Seq[physmem.Range] { return slices.Values(m.Once) }

// Data implements [physmem.Sparse], by the file's holes.
func (m *Map) Data(r physmem.Range) iter.Seq[physmem.Range] {
	return func(yield func(physmem.Range) bool) {
		i := sort.Search(len(m.runs), func(i int) bool { return m.runs[i].End() > r.Addr })
		for ; i < len(m.runs) && m.runs[i].Addr < r.End(); i++ {
			run := m.runs[i]
			part := r.Intersect(run.Range)
			off := run.off + int64(part.Addr-run.Addr)
			for e := range plan.Data(m.r, off, int64(part.Size)) {
				if !yield(physmem.Range{Addr: part.Addr + e.Off - uint64(off), Size: e.Size}) {
					return
				}
			}
		}
	}
}

// Shared returns how many bytes of memory share bytes of the file with memory
// at another address.
func (m *Map) Shared() (n uint64) {
	for _, r := range m.runs {
		n += r.Size
	}
	for _, r := range m.Once {
		n -= r.Size
	}
	return n
}

// WhyNot returns the reason why the dump has no byte for a physical address.
func (m *Map) WhyNot(addr uint64) error {
	switch {
	case contains(m.filed, addr):
		return plan.ErrTruncated
	case contains(m.known, addr):
		return plan.ErrExcluded
	}
	return plan.ErrNoMemory
}
