// Package vmcore opens Linux crash dumps and changes the notes in them.
//
// A dump is a container: it holds notes (registers of each CPU, VMCOREINFO)
// and physical memory. [Open] tells the containers apart and reads their
// headers; the [Core] it returns lists the notes ([Core.Notes]) and reads
// memory by physical address ([physmem.Reader]).
//
// A change to the notes is an [elfnote.Splice]. It is planned before anything
// is written, and a plan is a value that can be printed:
//
//   - PlanInPlace returns the steps that change the file where it lies, in an
//     order such that at every moment, whatever dies, the file is the old core
//     or the new one.
//   - PlanCopy returns the [Layout] of a new file: the old one's bytes with the
//     notes enlarged where they are and all after them shifted by whole pages.
//     The same layout serves a copy, a clone that shares the blocks of the
//     file system, and a stream.
//
// [File] changes a file on disk: it locks the file, picks the cheapest way that
// is safe there, and carries it out. [Stream] changes a stream as it passes.
// [Writer] writes a new core.
//
// Everything read from a dump is hostile: no offset or size is used before it
// is checked, and nothing is allocated because a header says so.
package vmcore

import (
	"context"
	"io"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/flat"
	"vmcsnote/vmcore/internal/kdump"
)

// A Core is an open dump, in whichever container. It reads from its file when
// asked, and is safe for concurrent use where the underlying reader is.
type Core interface {
	// Memory is the physical memory that the dump holds. An error of ReadPhys
	// wraps [ErrExcluded] where the dump left the memory out, [ErrTruncated]
	// where the file ends before it, [ErrOtherPiece] where another piece of a
	// split dump may hold it, or [ErrNoMemory] where the dump has no such
	// memory.
	physmem.Memory
	physmem.Sparse

	// Format names the container, for people and for --json.
	Format() string
	// Notes returns the notes. Their offsets count from NotesOff, which is a
	// file offset in bytes.
	Notes() *elfnote.Segment
	NotesOff() int64
	// Incomplete reports whether makedumpfile marked the dump as unfinished.
	Incomplete() bool
	// Verify checks what readers need of a dump beyond what Open has checked.
	Verify() []Finding
	// PlanCopy plans a copy with the splice applied to the notes.
	PlanCopy(elfnote.Splice) (*Layout, error)
	// PlanInPlace plans to apply the splice where the dump lies, in the way
	// given. The error wraps [ErrNoPlace] where that way is not safe here.
	PlanInPlace(Placement, elfnote.Splice) (*InPlace, error)

	// Plain is the dump in plain form: another Core if the dump is flattened,
	// or is a [File].
	Plain() Core
	// PlainSize is the size of the plain form in bytes; for a stream it is the
	// largest int64.
	PlainSize() int64
	// Claimed is where the plain form ends by its headers.
	Claimed() int64
	// Used returns the parts of the plain form that something refers to. Left
	// out are the notes, and what each page's descriptor leads to.
	Used() ([]Extent, error)
}

// Open opens the dump in the first size bytes of r: it reads the headers, and
// walks the notes. It returns a [*FormatError] for a file that is not a dump;
// the error wraps [ErrNotCore] if the kind of file is unknown.
//
// A truncated dump opens if its headers and notes are whole.
func Open(r io.ReaderAt, size int64) (Core, error) {
	var c Core
	var err error
	switch {
	case flat.Is(r):
		c, err = openFlat(r, size, Open)
	case kdump.Is(r):
		var k *kdump.Dump
		k, err = kdump.Open(r, size)
		c = kdumpCore{k}
	default:
		var e *elfcore.ELF
		e, err = elfcore.Open(r, size)
		c = elfCore{e}
	}
	if err != nil {
		return nil, identified(r, err) // and not a Core that holds a nil pointer
	}
	return c, nil
}

// An elfCore is a Core in plain form.
type elfCore struct{ *elfcore.ELF }

func (c elfCore) Plain() Core { return c }

// A kdumpCore is a Core in plain form.
type kdumpCore struct{ *kdump.Dump }

func (c kdumpCore) Plain() Core { return c }

// truncated reports whether the dump's file ends before what its headers claim.
func truncated(c Core) bool { return c.Claimed() > c.PlainSize() }

// VerifyHead is Verify without what takes reading the whole dump: the page
// descriptors of a compressed one, and the records of a flattened one.
func VerifyHead(c Core) []Finding {
	if p, ok := c.Plain().(interface{ VerifyHead() []Finding }); ok {
		return p.VerifyHead()
	}
	return c.Plain().Verify()
}

// VerifyDeep is Verify, and also decompresses every page of a compressed dump.
// ctx can stop it.
func VerifyDeep(ctx context.Context, c Core) []Finding {
	found := c.Verify()
	if p, ok := c.Plain().(interface {
		VerifyPages(context.Context) []Finding
	}); ok {
		found = append(found, p.VerifyPages(ctx)...)
	}
	return found
}
