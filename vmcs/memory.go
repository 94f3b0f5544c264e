package vmcs

import "iter"

// A Reader reads physical memory: a host's out of its dump (vmcore.Core is
// one), or a guest's through its EPT.
type Reader interface {
	// ReadPhys fills p with the memory at physical address addr, in bytes. It
	// returns n < len(p) only with an error, and never makes up zeros. It is
	// safe for concurrent use.
	ReadPhys(p []byte, addr uint64) (n int, err error)
}

// Ranges yields the memory there is: address and size in bytes, sorted by
// address, disjoint.
type Ranges = iter.Seq2[uint64, uint64]
