// Package elfnote reads and writes ELF notes the way crash dumps keep them.
//
// A note is a name, a type and a descriptor. In a file it is
//
//	n_namesz  4 bytes, the name's length with its NUL
//	n_descsz  4 bytes
//	n_type    4 bytes
//	name      n_namesz bytes, padded to 4
//	desc      n_descsz bytes, padded to 4
//
// in the byte order of the core. The padding is 4 in ELF64 too: the gABI asks
// for 8, but the kernel (append_elf_note), kexec-tools, makedumpfile and QEMU
// have always written 4, and so read crash, makedumpfile, drgn and readelf.
// [ParseAligned] reads segments of the few writers that pad to 8.
//
// A [Note] is one note as a value. A [Segment] is the notes of a PT_NOTE as
// they lie in it; it tells where each one is, and what bytes to put where to
// add, replace or remove one (a [Splice]). [FromBlob] takes the one note out
// of a buffer as the kernel keeps it. The package is pure: bytes in, bytes out.
package elfnote

import (
	"bytes"
	"encoding/binary"
)

// HeaderSize is the size in bytes of n_namesz, n_descsz and n_type.
const HeaderSize = 12

// The names of the notes that this project is about.
const (
	VMCoreInfo = "VMCOREINFO" // the kernel's own description, since Linux 2.6.24
	VMCSInfo   = "VMCSINFO"   // where each VMCS field lies, 2012 patch set
)

// A Note is one note.
type Note struct {
	Name string // without the terminating NUL; empty for n_namesz 0
	Type uint32
	Desc []byte
}

// Size returns the number of bytes that the note takes, padding included.
func (n Note) Size() int64 {
	return HeaderSize + roundUp(n.nameSize(), 4) + roundUp(int64(len(n.Desc)), 4)
}

// Encode returns the note as bytes, padded with zeros to a multiple of 4.
// The name and the descriptor must be shorter than 4 GiB.
func (n Note) Encode(order binary.ByteOrder) []byte {
	return n.encode(order, 4)
}

// encode is Encode for notes padded to a multiple of align.
func (n Note) encode(order binary.ByteOrder, align int64) []byte {
	desc := roundUp(HeaderSize+n.nameSize(), align)
	b := make([]byte, roundUp(desc+int64(len(n.Desc)), align))
	order.PutUint32(b[0:], uint32(n.nameSize()))
	order.PutUint32(b[4:], uint32(len(n.Desc)))
	order.PutUint32(b[8:], n.Type)
	copy(b[HeaderSize:], n.Name)
	copy(b[desc:], n.Desc)
	return b
}

// nameSize is n_namesz: the NUL counts, but a note without a name has none.
func (n Note) nameSize() int64 {
	if n.Name == "" {
		return 0
	}
	return int64(len(n.Name)) + 1
}

// roundUp rounds n up to a multiple of align, a power of two.
func roundUp(n, align int64) int64 {
	return (n + align - 1) &^ (align - 1)
}

// Equal reports whether two notes are the same in name, type and descriptor.
func (n Note) Equal(m Note) bool {
	return n.Name == m.Name && n.Type == m.Type && bytes.Equal(n.Desc, m.Desc)
}
