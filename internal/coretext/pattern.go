package coretext

import "encoding/binary"

// patternMark is in the upper bits of every word of the pattern, where no
// physical address reaches.
const patternMark = 0xc0de << 48

// Pattern fills p with what a load holds at the physical address paddr. No two
// aligned 8-byte words of physical memory are the same: each is its own
// address, exclusive-or 0xc0de in the upper 16 bits, and big endian in every
// core, so that a hex dump can be read: c0de000000001238 stands at 0x1238.
func Pattern(p []byte, paddr uint64) {
	for i := range p {
		var word [8]byte
		at := paddr + uint64(i)
		binary.BigEndian.PutUint64(word[:], (at&^7)^patternMark)
		p[i] = word[at&7]
	}
}
