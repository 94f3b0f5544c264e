package physmem

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pkg/errors"

	"vmcsnote/internal/inputfile"
)

// Before Linux 4.11 /proc/kcore has p_paddr 0 in every PT_LOAD. Its loads for
// RAM are still one for each System RAM range of /proc/iomem, at that range's
// place in the direct map: p_vaddr is the physical address plus a base. The
// base cannot be taken from the kernel's version: since 4.8, and in older
// kernels of distributions that took KASLR over, it is random. But if all
// ranges have their loads, to the page, with one and the same base, then that
// base is the one. Where they have not, nothing is guessed.

// maxIomem bounds what is read of /proc/iomem. A line is some 40 bytes, a large
// machine has a few thousand.
const maxIomem = 1 << 20

// unplaced reports whether the loads are those of a kernel before 4.11. A later
// one has at least one load that is not RAM, of which it says that the address
// is unknown.
func unplaced(loads []load) bool {
	return len(loads) > 0 && !slices.ContainsFunc(loads, func(l load) bool { return l.paddr != 0 })
}

// placeLoads returns the loads that are RAM, with their p_paddr, by /proc/iomem
// below root.
func placeLoads(loads []load, root string) ([]load, error) {
	f, err := inputfile.Open(filepath.Join(root, "/proc/iomem"))
	if err != nil {
		return nil, errors.Wrap(ErrNoPaddr, err.Error())
	}
	defer f.Close()
	ram, err := readSystemRAM(f)
	if err != nil {
		return nil, errors.Wrap(ErrNoPaddr, err.Error())
	}
	if len(ram) < 2 { // one alone could match by chance
		return nil, errors.Wrapf(ErrNoPaddr, "found %d System RAM ranges, expected 2 or more", len(ram))
	}
	at := make(map[Range]load, len(loads))
	for _, l := range loads {
		at[Range{l.vaddr, l.size}] = l
	}
	var placed []load
	for s := range at {
		if s.Size != ram[0].Size {
			continue
		}
		if found := placeAt(at, ram, s.Addr-ram[0].Addr); found != nil {
			if placed != nil {
				return nil, errors.Wrap(ErrNoPaddr, "more than one base of the direct map fits")
			}
			placed = found
		}
	}
	if placed == nil {
		return nil, ErrNoPaddr
	}
	return placed, nil
}

// placeAt returns the loads of all ranges, placed, or nil if one of them has
// none at base. at has the loads by virtual address.
func placeAt(at map[Range]load, ram []Range, base uint64) []load {
	var placed []load
	for _, r := range ram {
		l, ok := at[Range{base + r.Addr, r.Size}]
		if !ok {
			return nil
		}
		l.paddr = r.Addr
		placed = append(placed, l)
	}
	return placed
}

// readSystemRAM returns the top-level "System RAM" ranges of /proc/iomem,
// without the pages that they cover only in part: those kernels made kcore's
// loads of the same. Without CAP_SYS_ADMIN all addresses there are 0, and there
// are no ranges.
func readSystemRAM(r io.Reader) ([]Range, error) {
	page := uint64(os.Getpagesize())
	var ram []Range
	lines := bufio.NewScanner(io.LimitReader(r, maxIomem))
	for lines.Scan() {
		ends, name, _ := strings.Cut(lines.Text(), " : ")
		if name != "System RAM" || strings.HasPrefix(ends, " ") {
			continue
		}
		first, last, _ := strings.Cut(ends, "-")
		start, err1 := strconv.ParseUint(first, 16, 63)
		end, err2 := strconv.ParseUint(last, 16, 63)
		if err1 != nil || err2 != nil {
			return nil, errors.Errorf("/proc/iomem: found %.64q, expected START-END in hexadecimal", ends)
		}
		if whole := Between(start, end+1).Pages(page); whole.Size > 0 {
			ram = append(ram, whole)
		}
	}
	return ram, errors.Wrap(lines.Err(), "/proc/iomem")
}
