package vmcore

import (
	"bytes"
	"encoding/binary"
)

// eachName calls found with the offset of each place in b, the memory at addr,
// that holds the name and is at a multiple of 4 bytes, as names of notes are.
// The name is padded to such a multiple.
//
// [bytes.Index] takes twice as long where all bytes are about as common: it
// stops at each byte that is the name's first.
func eachName(addr uint64, b, name []byte, found func(off int)) {
	const word, block = 4, 64
	le := binary.LittleEndian
	first := le.Uint32(name)
	look := func(from, to int) {
		for off := max(from, int(-addr%word)); off < to && off+len(name) <= len(b); off += word {
			if le.Uint32(b[off:]) == first && bytes.HasPrefix(b[off:], name) {
				found(off)
			}
		}
	}
	if len(name) < 2*word {
		look(0, len(b))
		return
	}
	// Of the name's first two words one is at a multiple of 8 bytes. So it is
	// enough to look at every second word, and at the bits that both have.
	same := ^(first ^ le.Uint32(name[word:]))
	want := first & same
	at := int(-addr % (2 * word))
	for ; at+block <= len(b); at += block {
		p := (*[block]byte)(b[at:])
		if le.Uint32(p[0:])&same == want || le.Uint32(p[8:])&same == want ||
			le.Uint32(p[16:])&same == want || le.Uint32(p[24:])&same == want ||
			le.Uint32(p[32:])&same == want || le.Uint32(p[40:])&same == want ||
			le.Uint32(p[48:])&same == want || le.Uint32(p[56:])&same == want {
			look(at-word, at+block-word)
		}
	}
	look(at-word, len(b))
}
