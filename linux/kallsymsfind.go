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
//	since 6.4   num_syms, names, markers, token_table, token_index, offsets, relative_base
//
// In between another table lies before token_table. These kernels, and those
// after 6.4, need no search but in tests. 7.x has no relative_base.
//
// The token table has each character that names use, so "0" to "9" in a row;
// the token index agrees with it entry by entry; markers is the offset of each
// 256th name and agrees with names.

const (
	findPiece   = 1 << 20
	markerEvery = 256
	// maxRun bounds how far apart two tables are that follow each other.
	maxRun = 64
	// maxDigits and maxWalked bound the search of a hostile image: a kernel
	// has digits in a row at a few places, and its names are walked twice.
	maxDigits = 256
	maxWalked = 8 << 20
)

// digits is the tokens of the digits in the token table. The one before, "/",
// is no token as a rule and stands as an empty string or another token.
var digits = []byte("0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00")

// A tableFinder looks for kallsyms' tables. It counts what it tried.
type tableFinder struct {
	k      *Kernel
	digits int // places that have the tokens of the digits
	walked int // names
}

// findKallsyms looks for the tables in the image.
func (k *Kernel) findKallsyms() (kallsymsPlace, error) {
	return (&tableFinder{k: k}).find()
}

func (f *tableFinder) find() (kallsymsPlace, error) {
	k := f.k
	image := make([]byte, 0, findPiece+len(digits))
	// The image may have holes: memory that was freed after init.
	base := uint64(imageStart) + k.offset
	for off := uint64(0); off < imageSize; off += findPiece {
		keep := min(len(image), len(digits)-1)
		copy(image, image[len(image)-keep:])
		start := base + off - uint64(keep)
		piece := image[keep : keep+findPiece]
		n := k.readPages(piece, base+off)
		image = image[:keep+findPiece]
		if n == 0 {
			image = image[:0]
			continue
		}
		for rest := image; ; {
			i := bytes.Index(rest, digits)
			if i < 0 {
				break
			}
			if f.digits++; f.digits > maxDigits || f.walked > maxWalked {
				return kallsymsPlace{}, errors.WithMessage(ErrNoKallsyms, "the image has too much that looks like it")
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
	b := make([]byte, around+maxTokens/2)
	f.k.readPages(b, digit&^(pageSize-1)-around)
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
	size := (4*p.num + 7) &^ 7
	// Offsets are before or after the rest; what they lead to decides.
	for _, offsets := range []uint64{numSyms - 8 - size, p.tokenIndex + 2*tokens} {
		p.offsets, p.relativeBase = offsets, offsets+size
		if _, err := f.k.readKallsyms(p); err == nil {
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

// names finds the names, which end before the markers that end before the token
// table.
func (f *tableFinder) names(tokenTable uint64) (names, numSyms, num uint64, ok bool) {
	// Markers rise from 0 and are 4 bytes each since Linux 4.20.
	b := make([]byte, 4*maxSymbols/markerEvery+pageSize)
	f.k.readPages(b, tokenTable-uint64(len(b)))
	marker := func(off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
	end := len(b)
	for end > len(b)-maxRun && marker(end-4) == 0 { // alignment
		end -= 4
	}
	first := end - 4
	for first > 0 && marker(first) > marker(first-4) {
		first -= 4
	}
	if first <= 0 || marker(first) != 0 || first == end-4 {
		return 0, 0, 0, false
	}
	markers := make([]uint32, (end-first)/4)
	for i := range markers {
		markers[i] = marker(first + 4*i)
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
	b := make([]byte, (int(last)+markerEvery*(2+maxName)+maxRun)&^(pageSize-1)+pageSize)
	start := end - uint64(len(b))
	f.k.readPages(b, start)
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
