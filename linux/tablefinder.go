package linux

import (
	"bytes"
	"encoding/binary"

	"github.com/pkg/errors"
)

// Before Linux 6.0 VMCOREINFO does not name kallsyms' tables. They are found in
// the image as vmlinux-to-elf does. scripts/kallsyms.c writes them in this
// order, each aligned to 8 bytes, or 4:
//
//	until 6.0   offsets, relative_base, num_syms, names, markers, token_table, token_index
//	6.1 to 6.3  the same, with seqs_of_names before token_table
//	since 6.4   num_syms, names, markers, token_table, token_index, offsets, relative_base
//
// 7.x has no relative_base. A guest's kernel is found without VMCOREINFO, so
// its tables are searched for whatever its version.
//
// The token table has each character that names use, so "0" to "9" in a row;
// the token index agrees with it entry by entry; markers is the offset of each
// 256th name and agrees with names.

const (
	findPiece   = 1 << 20
	markerEvery = 256
	// maxRun bounds how far apart two tables are that follow each other.
	maxRun = 64
	// maxDigits, maxWalked and maxAround bound the search of a hostile image: a
	// kernel has digits in a row at a few places, and its names are walked
	// twice.
	maxDigits = 256
	maxWalked = 8 << 20
	maxAround = 192 << 20
)

// digits is the tokens of the digits in the token table. The one before, "/",
// is no token as a rule and stands as an empty string or another token.
var digits = []byte("0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00")

// A tableFinder looks for kallsyms' tables. It counts what it tried.
type tableFinder struct {
	k      *Kernel
	digits int // places that have the tokens of the digits
	walked int // names
	read   int // bytes around such places
	found  *kallsyms
}

// find looks for the tables in the image.
func (f *tableFinder) find() (kallsymsPlace, error) {
	spans := f.k.image
	if spans == nil {
		spans = []span{{imageStart + f.k.offset, imageSize}}
	}
	for _, s := range spans {
		if p, err := f.within(s); !errors.Is(err, ErrNoKallsyms) || f.spent() {
			return p, err
		}
	}
	return kallsymsPlace{}, ErrNoKallsyms
}

// spent reports whether the search has tried all that it may.
func (f *tableFinder) spent() bool {
	return f.digits > maxDigits || f.walked > maxWalked || f.read > maxAround
}

// take reads n bytes around a place, 0 for what cannot be read. It is false if
// that is too much in all.
func (f *tableFinder) take(n int, addr uint64) ([]byte, bool) {
	// They are gone through, word by word.
	if f.read += n; f.spent() || f.k.meter.spend(n) != nil {
		return nil, false
	}
	b := make([]byte, n)
	f.k.readPages(b, addr)
	return b, true
}

// within looks for the tables in a part of the image, whose size is in pages.
func (f *tableFinder) within(s span) (kallsymsPlace, error) {
	k := f.k
	image := make([]byte, 0, findPiece+len(digits))
	// The image may have holes: memory that was freed after init.
	for off := uint64(0); off < s.size; off += findPiece {
		keep := min(len(image), len(digits)-1)
		copy(image, image[len(image)-keep:])
		start := s.addr + off - uint64(keep)
		size := min(findPiece, s.size-off)
		piece := image[keep : keep+int(size)]
		n := k.readPages(piece, s.addr+off)
		image = image[:keep+int(size)]
		if n == 0 {
			image = image[:0]
			continue
		}
		for rest := image; ; {
			i := bytes.Index(rest, digits)
			if i < 0 {
				break
			}
			if f.digits++; f.spent() {
				return kallsymsPlace{}, errors.WithMessage(ErrNoKallsyms, "too many places in the image look like it")
			}
			at := start + uint64(len(image)-len(rest)+i)
			if p, ok := f.around(at); ok {
				return p, nil
			}
			rest = rest[i+1:]
		}
	}
	return kallsymsPlace{}, ErrNoKallsyms
}

// readPages reads what can be read, page by page if need be; other pages are
// zeros. It returns the number of bytes read.
func (k *Kernel) readPages(p []byte, addr uint64) (good int) {
	clear(p)
	if n, err := k.Read(p, addr); err == nil {
		return n
	}
	for off := 0; off < len(p); off += pageSize {
		page := p[off : off+pageSize]
		if n, err := k.Read(page, addr+uint64(off)); err != nil {
			clear(page[n:])
			good += n
		} else {
			good += pageSize
		}
	}
	return good
}

// around takes the address of the digits' tokens for what they seem and finds
// the tables around them.
func (f *tableFinder) around(digit uint64) (p kallsymsPlace, ok bool) {
	// The token table is before and after the digits, the index after it.
	const around = 16 << 10
	b, ok := f.take(around+maxTokens/2, digit&^(pageSize-1)-around)
	if !ok {
		return p, false
	}
	at := around + int(digit%pageSize)
	table, index, ok := findTokens(b, at)
	if !ok {
		return p, false
	}
	p.tokenTable = digit - uint64(at-table)
	p.tokenIndex = digit + uint64(index-at)
	var numSyms uint64
	if p.names, numSyms, p.num, ok = f.names(p.tokenTable); !ok {
		return p, false
	}
	s, err := f.k.readSymbolNames(p)
	if err != nil {
		return p, false
	}
	size := (4*p.num + 7) &^ 7
	// Offsets are before or after the rest; what they lead to decides.
	for _, offsets := range []uint64{numSyms - 8 - size, p.tokenIndex + 2*tokens} {
		p.offsets, p.relativeBase = offsets, offsets+size
		if s.setOffsets(f.k, p) == nil {
			f.found = s
			return p, true
		}
	}
	return p, false
}

// findTokens returns where the token table and its index lie in b, in which the
// digits' tokens are at at.
func findTokens(b []byte, at int) (table, index int, ok bool) {
	for index = at + len(digits); index+2*tokens <= len(b); index++ {
		// The index starts with 0; its entry of "0" says where the
		// table starts.
		if b[index] != 0 || b[index+1] != 0 {
			continue
		}
		table = at - int(binary.LittleEndian.Uint16(b[index+2*'0':]))
		if table >= 0 && agree(b[table:index], b[index:]) {
			return table, index, true
		}
	}
	return 0, 0, false
}

// agree reports whether index is that of the tokens in table.
func agree(table, index []byte) bool {
	at := 0
	for i := range tokens {
		if int(binary.LittleEndian.Uint16(index[2*i:])) != at {
			return false
		}
		n := bytes.IndexByte(table[min(at, len(table)):], 0)
		if n < 0 {
			return false
		}
		at += n + 1
	}
	return len(table)-at < maxRun
}

// names finds the names, which end before the markers. These end before the
// token table, or in 6.1 to 6.3 before kallsyms_seqs_of_names.
func (f *tableFinder) names(tokenTable uint64) (names, numSyms, num uint64, ok bool) {
	// Markers rise from 0 and are 4 bytes each since Linux 4.20.
	size := (4*maxSymbols/markerEvery+seqSize*maxSymbols)&^(pageSize-1) + pageSize
	b, ok := f.take(size, tokenTable-uint64(size))
	if !ok {
		return 0, 0, 0, false
	}
	if names, numSyms, num, ok = f.markersBefore(b, len(b), tokenTable); ok {
		return
	}
	// There is an entry of seqs_of_names for each symbol, and a marker for
	// each 256.
	for first := len(b) - 4; first >= 0; first -= 4 {
		if marker(b, first) != 0 || first+8 > len(b) || marker(b, first+4) == 0 {
			continue
		}
		end := first + 4
		for end < len(b) && marker(b, end) > marker(b, end-4) {
			end += 4
		}
		// The sequences may go on as if they were markers: as many
		// symbols as there is room for decide.
		room := (len(b) - first) * markerEvery / (4 + seqSize*markerEvery)
		n := (room + markerEvery - 1) / markerEvery
		for _, n := range []int{n, n + 1, n - 1} {
			if n < 2 || first+4*n > end {
				continue
			}
			if names, numSyms, num, ok = f.markersBefore(b, first+4*n, tokenTable); ok {
				return
			}
		}
	}
	return 0, 0, 0, false
}

// seqSize is the size of an entry of kallsyms_seqs_of_names.
const seqSize = 3

func marker(b []byte, off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }

// markersBefore takes what ends at end in b for the markers. b ends at the
// token table.
func (f *tableFinder) markersBefore(b []byte, end int, tokenTable uint64) (names, numSyms, num uint64, ok bool) {
	for bound := end - maxRun; end > bound && end > 4 && marker(b, end-4) == 0; { // alignment
		end -= 4
	}
	first := end - 4
	for first >= 4 && marker(b, first) > marker(b, first-4) {
		first -= 4
	}
	if first <= 0 || marker(b, first) != 0 || first == end-4 {
		return 0, 0, 0, false
	}
	markers := make([]uint32, (end-first)/4)
	for i := range markers {
		markers[i] = marker(b, first+4*i)
	}
	return f.namesBefore(tokenTable-uint64(len(b)-first), markers)
}

// namesBefore finds names that markers belong to, and which end at end. The
// number of symbols is stored before them.
func (f *tableFinder) namesBefore(end uint64, markers []uint32) (names, numSyms, num uint64, ok bool) {
	last := markers[len(markers)-1]
	if last > maxNames {
		return 0, 0, 0, false
	}
	// After the last marker there are 1 to 256 names more.
	size := (int(last)+markerEvery*(2+maxName)+maxRun)&^(pageSize-1) + pageSize
	start := end - uint64(size)
	b, ok := f.take(size, start)
	if !ok {
		return 0, 0, 0, false
	}
	s := &kallsyms{names: b}
	for at := (len(b) - int(last)) &^ 3; at >= 4; at -= 4 {
		num := uint64(binary.LittleEndian.Uint32(b[at-4:]))
		if (num+markerEvery-1)/markerEvery != uint64(len(markers)) {
			continue
		}
		for _, names := range []int{at, at + 4} {
			if f.marked(s, names, num, markers) {
				return start + uint64(names), start + uint64(at-4), num, true
			}
		}
	}
	return 0, 0, 0, false
}

// marked reports whether the names from at on are num and are where markers
// say.
func (f *tableFinder) marked(s *kallsyms, at int, num uint64, markers []uint32) bool {
	next := at
	for i := range num {
		if i%markerEvery == 0 && f.k.meter.spend(16*markerEvery) != nil {
			return false
		}
		if f.walked++; f.walked > maxWalked {
			return false
		}
		if i%markerEvery == 0 && next-at != int(markers[i/markerEvery]) {
			return false
		}
		name, end := s.compressed(next)
		if len(name) == 0 {
			return false
		}
		next = end
	}
	return len(s.names)-next < maxRun
}
