package linux

import (
	"fmt"

	"github.com/pkg/errors"

	"vmcsnote/internal/x86"
	"vmcsnote/physmem"
)

// ErrNoImage means that page tables map nothing where Linux has its image.
var ErrNoImage = errors.New("no kernel image is mapped")

// A Root is page tables that a processor used: its CR3, and how many levels
// they have, 4 or 5.
type Root struct {
	CR3    uint64
	Levels int
}

// maxRoots bounds how many page tables Find goes through.
const maxRoots = 16

// Find finds the kernel that page tables map, without its VMCOREINFO: that of a
// guest, by the CR3 of its processors. It takes the first of the roots that
// leads to a kernel. mem is the guest's physical memory. What the kernel costs
// is bounded; when it is spent, every read fails.
//
// With page-table isolation, CR3 of a processor in user mode maps next to
// nothing of the kernel. The kernel's own tables are the other page of the pair
// then: bit 12 of CR3 is clear (kernel_to_user_pgdp).
//
// The error wraps [ErrNoImage] if no root maps an image, [ErrNoKallsyms], or
// the reader's if the tables cannot be read.
func Find(mem physmem.Reader, roots []Root) (*Kernel, error) {
	m := &meter{maxCost, maxRoom}
	mem = metered{mem, m}
	err := ErrNoImage
	tried := map[Root]bool{}
	for _, r := range roots {
		for _, cr3 := range []uint64{r.CR3 &^ (1 << 12), r.CR3} {
			try := Root{cr3 & x86.AddrMask, r.Levels}
			if tried[try] {
				continue
			}
			if len(tried) == maxRoots {
				return nil, err
			}
			tried[try] = true
			k, ferr := findBy(mem, m, try)
			if ferr == nil {
				return k, nil
			}
			if errors.Is(ferr, ErrNoKallsyms) || errors.Is(err, ErrNoImage) {
				err = ferr
			}
		}
	}
	return nil, err
}

// findBy finds the kernel that one root maps.
func findBy(mem physmem.Reader, m *meter, root Root) (*Kernel, error) {
	k := &Kernel{mem: mem, meter: m, levels: root.Levels, tables: x86.NewTables(mem, x86.Pages(root.Levels), root.CR3)}
	start, err := k.mapImage()
	if err != nil {
		return nil, err
	}
	// Until VMCOREINFO is found this is what is known of it: kallsyms must
	// have the start of the image where the page tables have it.
	k.info = info{"SYMBOL(_text)": fmt.Sprintf("%x", start)}
	if _, err := k.kallsyms(); err != nil {
		return nil, err
	}
	k.adopt()
	if k.Release() == "" {
		if u, err := k.UTS(); err == nil {
			k.info["OSRELEASE"] = u.Release
		}
	}
	return k, nil
}

// physicalStart is CONFIG_PHYSICAL_START's default: where the image is linked
// to begin, from imageStart on.
const physicalStart = 16 << 20

// imageAlign is the least that the image is aligned to, in virtual and in
// physical memory (CONFIG_PHYSICAL_ALIGN).
const imageAlign = 2 << 20

// mapImage finds the image in the page tables, and returns its first address.
// The image lies in physical memory as it does in virtual memory.
func (k *Kernel) mapImage() (start uint64, err error) {
	var constants, others []span
	var unread error
	for m, err := range k.tables.MappingsIn(imageStart, imageStart+maxImage-1) {
		if err != nil {
			unread = err
			continue
		}
		if start == 0 {
			start = m.Addr &^ (imageAlign - 1)
			k.physBase = m.Phys - (m.Addr - imageStart)
			if start-imageStart >= physicalStart {
				k.offset = start - imageStart - physicalStart
			}
		}
		if !k.inImage(m.Addr) {
			break
		}
		if m.Phys != k.imagePhys(m.Addr) {
			continue
		}
		// kallsyms is in .rodata, which is neither written to nor
		// executed.
		to := &others
		if m.Entry&x86.Write == 0 && m.Entry&noExecute != 0 {
			to = &constants
		}
		*to = appendSpan(*to, m.Addr, min(m.Size, imageStart+k.offset+imageSize-m.Addr))
	}
	switch {
	case start == 0 && unread != nil:
		return 0, errors.WithMessage(unread, "the kernel's page tables")
	case start == 0:
		return 0, ErrNoImage
	}
	k.image = append(constants, others...)
	return start, nil
}

// noExecute is the bit XD of a page table entry.
const noExecute = 1 << 63

// A span is a part of the image.
type span struct{ addr, size uint64 }

// appendSpan adds a span after the last one.
func appendSpan(all []span, addr, size uint64) []span {
	if n := len(all); n > 0 && all[n-1].addr+all[n-1].size == addr {
		all[n-1].size += size
		return all
	}
	return append(all, span{addr, size})
}

// adopt takes what the kernel's own VMCOREINFO states, if it is there and
// agrees with what the page tables say. It goes on with the kernel's reference
// page tables: those of a process, which led here, may lack what was mapped
// since.
func (k *Kernel) adopt() {
	pgd, err := k.Symbol("init_top_pgt")
	if errors.Is(err, ErrNoSymbol) {
		pgd, err = k.Symbol("init_level4_pgt") // before 4.13
	}
	if err != nil || !k.inImage(pgd) {
		return
	}
	swapper := x86.NewTables(k.mem, x86.Pages(k.levels), k.imagePhys(pgd))
	text, _ := k.info.symbol("_text")
	if m, err := swapper.Translate(text); err == nil && m.Phys+(text-m.Addr) == k.imagePhys(text) {
		k.tables = swapper
	}
	stated, err := k.readInfo()
	if err != nil {
		return
	}
	own := parseInfo(stated)
	l5, _ := own.number("pgtable_l5_enabled")
	base, ok := own.number("phys_base")
	if top, _ := own.symbol("swapper_pg_dir"); top != pgd || !ok || base != k.physBase || (l5 != 0) != (k.levels == 5) {
		return
	}
	k.info, k.own = own, stated
	k.offset, _ = own.hex("KERNELOFFSET")
}

// VMCoreInfo returns the text of the VMCOREINFO that a kernel of [Find] keeps
// for the day it crashes, if it agrees with the page tables; otherwise "".
func (k *Kernel) VMCoreInfo() string { return k.own }

// readInfo returns the text of the kernel's VMCOREINFO.
func (k *Kernel) readInfo() (string, error) {
	l := layout{k: k}
	data := l.read(l.symbol("vmcoreinfo_data"), 8)
	size := l.read(l.symbol("vmcoreinfo_size"), 8)
	if l.err != nil {
		return "", l.err
	}
	if size > pageSize {
		return "", corrupt("VMCOREINFO has %d bytes", size)
	}
	b := make([]byte, size)
	_, err := k.Read(b, data)
	return string(b), err
}
