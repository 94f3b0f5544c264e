package vmcore

import (
	"debug/elf"
	"iter"
	"slices"

	"github.com/pkg/errors"
)

// A physRun is physical memory that lies in the file in one piece.
type physRun struct {
	addr, size uint64
	off        int64
}

// A physMap is all runs, sorted by address and disjoint. PT_LOADs overlap: the
// kernel's text is mapped twice (x86), and QEMU's -p writes one for each
// mapping of a page; the first to give a byte is taken for it.
type physMap struct {
	runs []physRun
}

// mapPhys makes the map out of the PT_LOADs, cut at the end of the file.
func (c *ELF) mapPhys() *physMap {
	loads := make([]physRun, 0, len(c.Progs))
	for _, p := range c.Progs {
		size := extent{p.Off, p.Filesz}.clip(c.Size)
		if p.Type != elf.PT_LOAD || size == 0 || p.Paddr+size < p.Paddr {
			continue
		}
		loads = append(loads, physRun{p.Paddr, size, int64(p.Off)})
	}
	slices.SortStableFunc(loads, func(a, b physRun) int {
		switch {
		case a.addr < b.addr:
			return -1
		case a.addr > b.addr:
			return 1
		}
		return 0
	})
	m := &physMap{runs: loads[:0]}
	var covered uint64 // everything below is mapped, or will never be
	for _, l := range loads {
		if l.addr+l.size <= covered {
			continue
		}
		if skip := covered - l.addr; l.addr < covered {
			l = physRun{l.addr + skip, l.size - skip, l.off + int64(skip)}
		}
		covered = l.addr + l.size
		m.runs = append(m.runs, l)
	}
	return m
}

// find returns the run that holds addr.
func (m *physMap) find(addr uint64) (physRun, bool) {
	i, found := slices.BinarySearchFunc(m.runs, addr, func(r physRun, a uint64) int {
		switch {
		case r.addr < a:
			return -1
		case r.addr > a:
			return 1
		}
		return 0
	})
	if found {
		return m.runs[i], true
	}
	if i > 0 && addr-m.runs[i-1].addr < m.runs[i-1].size {
		return m.runs[i-1], true
	}
	return physRun{}, false
}

// ReadPhys implements [Memory].
func (c *ELF) ReadPhys(p []byte, addr uint64) (n int, err error) {
	m := c.phys()
	for n < len(p) {
		at := addr + uint64(n)
		r, ok := m.find(at)
		if !ok || at < addr {
			return n, errors.Wrapf(c.whyNot(at), "physical address %#x", at)
		}
		skip := at - r.addr
		part := p[n:]
		if uint64(len(part)) > r.size-skip {
			part = part[:r.size-skip]
		}
		k, err := c.r.ReadAt(part, r.off+int64(skip))
		n += k
		if k < len(part) {
			return n, errors.Wrapf(noEOF(err), "physical address %#x", at+uint64(k))
		}
	}
	return n, nil
}

// PhysRuns implements [Memory].
func (c *ELF) PhysRuns() iter.Seq[Range] {
	return func(yield func(Range) bool) {
		var run Range
		for _, r := range c.phys().runs {
			if run.Size > 0 && run.Addr+run.Size == r.addr {
				run.Size += r.size
				continue
			}
			if run.Size > 0 && !yield(run) {
				return
			}
			run = Range{r.addr, r.size}
		}
		if run.Size > 0 {
			yield(run)
		}
	}
}

// whyNot says why the dump has no byte for a physical address.
func (c *ELF) whyNot(addr uint64) error {
	why := ErrNoMemory
	for _, p := range c.Progs {
		if p.Type != elf.PT_LOAD || addr < p.Paddr {
			continue
		}
		switch d := addr - p.Paddr; {
		case d < p.Filesz:
			return ErrTruncated
		case d < p.Memsz:
			why = ErrExcluded
		}
	}
	return why
}
