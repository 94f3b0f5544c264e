package vmcs

import (
	"fmt"
	"math/bits"
)

// The kernel patches of 2012 located fields by filling a VMCS page with 16-bit
// little-endian cells, each saying where it lies, and publishing what VMREAD
// then returned. The cell at an even offset has the offset's bits 11:7 in its
// high byte and bits 6:0 in its low byte, both shifted left by one; bit 0 is 1
// in the high byte and 0 in the low one. That parity shows a value that VMREAD
// has moved by a byte.

// decodeCells returns the offset that the first of the cells in v tells, and
// the bytes that all of them cover. A fault says what is wrong with a value
// that is not made of consecutive cells; no cell is zero, so zero digits in
// front are an extension.
func decodeCells(v uint64) (offset, width int, fault string) {
	if v == 0 {
		return 0, 0, "value 0 is no cell"
	}
	width = (bits.Len64(v) + 15) / 16 * 2
	for i := range width / 2 {
		cell := v >> (16 * i) & 0xffff
		hi, lo := cell>>8, cell&0xff
		if hi&1 == 0 || lo&3 != 0 || hi >= 0x40 {
			return 0, 0, fmt.Sprintf("cell %#04x breaks parity: expected an odd high byte below 0x40, a low byte that 4 divides", cell)
		}
		switch at := int(hi>>1<<7 | lo>>1); {
		case i == 0:
			offset = at
		case at != offset+2*i:
			return 0, 0, fmt.Sprintf("cell %#04x lies at %#x, expected %#x, after the cell at %#x", cell, at, offset+2*i, offset)
		}
	}
	return offset, width, ""
}

// placeCells adds f where the cells in v say it lies.
func (b *builder) placeCells(place string, f Field, known bool, v uint64) {
	if known && f.Rights() {
		b.placeRights(place, f, v)
		return
	}
	offset, got, fault := decodeCells(v)
	if fault != "" {
		b.warn(place, "%s: %s", f.Name, fault)
		return
	}
	width := got
	if known && !(f.Natural() && got == 4) { // 4: a 32-bit kernel's VMREAD
		width = f.Width()
		if got != width && !(width == 8 && got == 4) {
			b.warn(place, "%s: %d bytes of cells, expected %d", f.Name, got, width)
		}
	}
	b.place(place, f, known, offset, width)
}
