package plan

import (
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"vmcsnote/elfnote"
)

// A Layout says what a changed copy of a core consists of, in the order of its
// bytes. It depends on the core and the change alone, so that every copy, clone
// and stream of the same core comes out the same on every machine.
//
// The notes stay where they are and grow into the zero bytes after them. If
// there are too few, everything after the notes shifts by as few whole pages of
// the machine as will do. If notes shrink and leave a page or more of zeros, an
// earlier shift made those zeros, because no writer leaves a whole page of its
// own machine. Then everything shifts back, so removing a note undoes injecting
// it, byte for byte.
type Layout struct {
	// Shift is by how many bytes what stands after the notes moves: whole
	// pages, less than 0 towards the front.
	Shift int64
	// Joined says that the copy undoes a Split: what stands after the notes
	// does not move, but the first pages of memory come back from the end.
	Joined bool
	// Size is that of the copy, in bytes.
	Size int64

	Splice elfnote.Splice // of a flattened dump: what is done to the notes
	Pieces []Piece
	End    int64 // where the original ends, by tables that have passed in a stream
}

// A Piece is some bytes of the copy: literal ones, zeros, or bytes of the
// original, of which a table may need mending entry by entry. Or it stands for
// pieces that are known only once all before it has been read.
type Piece struct {
	Lit  []byte
	Zero int64

	Src, N int64 // original bytes; n may reach to the end of the stream
	Entry  int64 // size of a table entry to be mended, otherwise 0
	Mend   func([]byte)
	From   io.ReaderAt // nil, or the source of N bytes that are out of the original's order

	Later func() []Piece

	Err error // why the copy cannot go on here
}

// All yields the pieces in order. It asks for later pieces only after the
// caller has handled all before them.
func (l *Layout) All() iter.Seq[Piece] {
	return func(yield func(Piece) bool) {
		for _, p := range l.Pieces {
			ps := []Piece{p}
			if p.Later != nil {
				ps = p.Later()
			}
			for _, p := range ps {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// Size is how many bytes of the copy the piece is.
func (p Piece) Size() int64 {
	return int64(len(p.Lit)) + p.Zero + p.N
}

// A Fix is a table of the original and how its entries change.
type Fix struct {
	Extent
	Entry int64
	Mend  func([]byte)
}

// Add appends the original's bytes from off to end. The tables of fixes among
// them become pieces of their own.
func (l *Layout) Add(fixes []Fix, off, end int64) {
	for _, f := range fixes {
		at := int64(f.Off)
		if f.Size == 0 || at < off || at >= end {
			continue
		}
		l.Pieces = append(l.Pieces,
			Piece{Src: off, N: at - off},
			Piece{Src: at, N: int64(f.Size), Entry: f.Entry, Mend: f.Mend})
		off = at + int64(f.Size)
	}
	l.Pieces = append(l.Pieces, Piece{Src: off, N: max(end-off, 0)})
}

// AddNotes appends the notes, size bytes at off of r, with the splice applied.
func (l *Layout) AddNotes(r io.ReaderAt, off, size int64, sp elfnote.Splice) {
	rest := sp.Off + sp.Del
	l.Pieces = append(l.Pieces,
		Piece{From: r, Src: off, N: sp.Off},
		Piece{Lit: sp.Ins},
		Piece{From: r, Src: off + rest, N: size - rest})
}

// DropEmpty removes pieces without bytes.
func (l *Layout) DropEmpty() {
	l.Pieces = slices.DeleteFunc(l.Pieces, func(p Piece) bool { return p.Size() == 0 })
}

// String lists the layout for --dry-run, a line each.
func (l *Layout) String() string {
	var b strings.Builder
	at := int64(0)
	for p := range l.All() {
		what := ""
		switch {
		case p.Err != nil:
			what = "nothing: " + p.Err.Error()
		case len(p.Lit) > 0:
			what = "the new note"
		case p.Zero > 0:
			what = "zeros, to the next whole page"
		case p.Mend != nil:
			what = fmt.Sprintf("from %#x, offsets mended", p.Src)
		default:
			what = fmt.Sprintf("from %#x, as it is", p.Src)
		}
		fmt.Fprintf(&b, "%#x: %#x bytes, %s\n", at, p.Size(), what)
		at += p.Size()
	}
	return b.String()
}
