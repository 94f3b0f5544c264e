// Package x86 translates addresses as x86 processors do, by paging structures
// that are read from memory.
//
// A [Format] says how the tables of a kind look: how many levels there are, how
// wide an entry is, and what an entry says. [Tables] are tables of a format in
// somebody's memory. They translate single addresses ([Tables.Translate]) and
// list what is mapped ([Tables.Mappings]). Page tables, EPT and NPT differ in
// their format only.
//
// Tables come from dumps and are hostile: they point to themselves, to each
// other and to memory that does not exist. Every walk is bounded.
package x86

import (
	"fmt"

	"github.com/pkg/errors"
)

var (
	// ErrNotCanonical means that the processor has no such virtual address.
	ErrNotCanonical = errors.New("not a canonical address")
	// ErrNotMapped means that an entry says "not present".
	ErrNotMapped = errors.New("not mapped")
	// ErrMMIO means that an EPT entry is misconfigured on purpose: KVM does so
	// for addresses whose accesses it emulates.
	ErrMMIO = errors.New("MMIO")
	// ErrSwapped means that Linux has the page in its swap, or is moving it.
	ErrSwapped = errors.New("swapped out")
	// ErrReserved means that an entry has a reserved bit set.
	ErrReserved = errors.New("reserved bits are set")
	// ErrTableAgain means that a table was met before at another address,
	// as in tables that point to themselves.
	ErrTableAgain = errors.New("the table is in use elsewhere")
	// ErrTooManyTables means that a walk stopped because it read too many
	// tables.
	ErrTooManyTables = errors.New("too many tables")
)

// An EntryError is an entry that a walk could not follow.
type EntryError struct {
	Format string // for example "page table"
	Level  int    // of the table, 1 is the lowest
	Addr   uint64 // of the entry
	Entry  uint64 // its value; 0 if it could not be read
	Err    error
}

// Error names the table, its level, the address and value of the entry, and the
// fault.
func (e *EntryError) Error() string {
	return fmt.Sprintf("%s level %d, entry at %#x (%#x): %v", e.Format, e.Level, e.Addr, e.Entry, e.Err)
}

// Unwrap returns Err.
func (e *EntryError) Unwrap() error { return e.Err }

// A Mapping is a stretch of addresses that one entry maps, or leaves unmapped.
type Mapping struct {
	Addr  uint64 // of the first byte
	Phys  uint64 // what Addr is mapped to; 0 if it is not
	Size  uint64 // in bytes: what an entry of this level covers
	Entry uint64 // the entry itself; 0 if it could not be read
	Level int    // of the entry's table, 1 is the lowest
}
