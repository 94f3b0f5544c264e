package physmem

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"math"
	"path/filepath"
	"slices"
	"sort"

	"github.com/pkg/errors"
)

// KCore reads the running kernel's RAM through /proc/kcore.
type KCore struct {
	path  string
	f     file
	loads []load // largest first
}

// OpenKCore opens /proc/kcore below root, which is "/" on a real machine, and
// reads its program headers: 65,534 at most. It needs CAP_SYS_RAWIO and a
// kernel that is not locked down to confidentiality. An error is an *Error; it
// wraps ErrNoPaddr if the kernel is older than 4.11 and its memory could not be
// placed.
//
// The headers are those of the moment: memory added later is not seen.
func OpenKCore(root string) (*KCore, error) {
	path := filepath.Join(root, "/proc/kcore")
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	loads, err := readLoads(f)
	if err == nil && unplaced(loads) {
		loads, err = placeLoads(loads, root)
	}
	if err != nil {
		f.Close()
		return nil, newError(path, OpHeader, 0, err)
	}
	// On x86 the kernel's image has a load of its own besides the RAM it lies
	// in. Parts of it (what was only needed to boot) are given back and
	// unmapped there, and would read as zeros whoever owns them now; so RAM,
	// which is larger, comes first.
	loads = slices.DeleteFunc(loads, func(l load) bool { return !l.usable() })
	sort.SliceStable(loads, func(i, j int) bool { return loads[i].size > loads[j].size })
	return &KCore{path: path, f: f, loads: loads}, nil
}

// ReadPhys implements Reader. The error wraps ErrNoLoad if the running kernel
// has no RAM at an address.
func (k *KCore) ReadPhys(p []byte, addr uint64) (int, error) {
	if err := checkRange(addr, len(p)); err != nil {
		return 0, newError(k.path, OpRead, addr, err)
	}
	n := 0
	for n < len(p) {
		a := addr + uint64(n)
		i := slices.IndexFunc(k.loads, func(l load) bool { return Range{l.paddr, l.size}.Contains(a) })
		if i < 0 {
			return n, newError(k.path, OpRead, a, ErrNoLoad)
		}
		skip := a - k.loads[i].paddr
		part := p[n:][:min(uint64(len(p)-n), k.loads[i].size-skip)]
		m, err := k.f.ReadAt(part, int64(k.loads[i].off+skip))
		n += m
		if m < len(part) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return n, newError(k.path, OpRead, addr+uint64(n), err)
		}
	}
	return n, nil
}

// Close closes the file.
func (k *KCore) Close() error {
	return k.f.Close()
}

// load is one PT_LOAD.
type load struct {
	off   uint64 // p_offset
	vaddr uint64 // p_vaddr
	paddr uint64 // p_paddr: all ones for what is no RAM (vmalloc, modules, vsyscall); 0 for all loads before Linux 4.11
	size  uint64 // p_filesz; p_memsz is the same
}

// usable reports whether the load has a physical address, and pread can reach
// it: all ones is no address below 2^63, and on some architectures the offset
// of loads other than RAM wraps.
func (l load) usable() bool {
	return l.size <= math.MaxInt64 && l.off <= math.MaxInt64-l.size && l.paddr <= math.MaxInt64-l.size
}

// readLoads reads the PT_LOADs of an ELF64 core of either byte order.
// elf.NewFile would refuse the whole file for one p_offset beyond 2^63, which
// loads other than RAM may have.
func readLoads(r io.ReaderAt) ([]load, error) {
	var eh elf.Header64
	head := make([]byte, binary.Size(eh))
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return nil, errors.Wrapf(err, "ELF header: found %d bytes, expected %d", n, len(head))
	}
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) || elf.Class(head[elf.EI_CLASS]) != elf.ELFCLASS64 {
		return nil, errors.Errorf("e_ident at offset 0: found % x, expected that of an ELF64 file", head[:elf.EI_NIDENT])
	}
	var order binary.ByteOrder
	switch data := elf.Data(head[elf.EI_DATA]); data {
	case elf.ELFDATA2LSB:
		order = binary.LittleEndian
	case elf.ELFDATA2MSB:
		order = binary.BigEndian
	default:
		return nil, errors.Errorf("e_ident[EI_DATA] at offset %d: found %d, expected 1 or 2", elf.EI_DATA, data)
	}
	var ph elf.Prog64
	size := binary.Size(ph)
	if _, err := binary.Decode(head, order, &eh); err != nil {
		return nil, errors.Wrap(err, "ELF header")
	}
	switch {
	case elf.Type(eh.Type) != elf.ET_CORE:
		return nil, errors.Errorf("e_type: found %v, expected %v", elf.Type(eh.Type), elf.ET_CORE)
	case int(eh.Phentsize) != size:
		return nil, errors.Errorf("e_phentsize: found %d, expected %d", eh.Phentsize, size)
	case eh.Phnum == pnXNum:
		return nil, errors.Errorf("e_phnum: found PN_XNUM (%d), which the kernel does not write here", eh.Phnum)
	case eh.Phoff > math.MaxInt64-uint64(eh.Phnum)*uint64(size):
		return nil, errors.Errorf("e_phoff: found %#x, beyond any file", eh.Phoff)
	}
	var loads []load
	table := bufio.NewReader(io.NewSectionReader(r, int64(eh.Phoff), int64(eh.Phnum)*int64(size)))
	for i := range eh.Phnum {
		if err := binary.Read(table, order, &ph); err != nil {
			return nil, errors.Wrapf(err, "program header %d of %d at offset %#x", i, eh.Phnum, eh.Phoff+uint64(i)*uint64(size))
		}
		if elf.ProgType(ph.Type) == elf.PT_LOAD {
			loads = append(loads, load{off: ph.Off, vaddr: ph.Vaddr, paddr: ph.Paddr, size: ph.Filesz})
		}
	}
	return loads, nil
}

// pnXNum is PN_XNUM, which debug/elf does not have: the true number of program
// headers is in section header 0.
const pnXNum = 0xffff
