package elfnote

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"

	"github.com/pkg/errors"
)

// Bounds on what a segment may hold. A machine with 8,192 CPUs has as many
// NT_PRSTATUS notes, and twice as many in a dump by QEMU.
const (
	maxNotes = 1 << 16 // notes in a segment
	maxName  = 1 << 10 // bytes in a name; makedumpfile reads 15
)

// An Entry is a note in a segment: what its header says, and where it lies.
type Entry struct {
	Name     string
	NameSize int64 // n_namesz
	Type     uint32
	Off      int64 // of the header, in bytes from the start of the segment
	DescOff  int64 // of the descriptor, likewise
	DescSize int64 // bytes, without the padding
	End      int64 // of the padding after the descriptor, likewise
}

// A Segment is the notes of one PT_NOTE segment.
type Segment struct {
	Order binary.ByteOrder
	Align int64   // what notes are padded to, 4 or 8 bytes
	Size  int64   // p_filesz
	Notes []Entry // in file order
	// Fill is where zero fill begins: an all-zero header ends the notes, as in
	// the kernel's own buffers. It equals Size where there is none, as should
	// be: readers take the zeros for notes (readelf), warn of every 12 bytes
	// (crash), or lose what stands after them (libkdumpfile).
	Fill int64
	// Gaps are zeros between notes: the place of a CPU's note that was never
	// written. Only [ParseAligned] reads on after one.
	Gaps []Gap

	r io.ReaderAt
}

// A Gap is zeros between two notes.
type Gap struct {
	Off, Size int64 // bytes, Off from the start of the segment
}

// Parse walks the segment that the first size bytes of r are. It reads note
// headers and names only, never a descriptor, so that a segment with device
// dumps (NT_VMCOREDD) of any size costs little. Errors of format are of type
// [*FormatError], with offsets from the start of the segment.
func Parse(r io.ReaderAt, size int64, order binary.ByteOrder) (*Segment, error) {
	return walk(r, size, order, 4, false)
}

// ParseAligned is [Parse] for a segment whose program header has the given
// p_align. Notes may be padded to 8 only if p_align is 8, and most writers of 8
// pad to 4 all the same: so it tries 8 if 4 fails. If notes follow zeros, it
// reads on and lists the zeros as a [Gap].
func ParseAligned(r io.ReaderAt, size int64, order binary.ByteOrder, align uint64) (*Segment, error) {
	s, err := walk(r, size, order, 4, true)
	if err != nil && align == 8 {
		if s, err8 := walk(r, size, order, 8, true); err8 == nil {
			return s, nil
		}
	}
	return s, err
}

func walk(r io.ReaderAt, size int64, order binary.ByteOrder, align int64, gaps bool) (*Segment, error) {
	s := &Segment{Order: order, Align: align, Size: size, Fill: size, r: r}
	var gap error // of the first gap
	for off := int64(0); off < size; {
		e, err := s.entry(off)
		switch {
		case err != nil && gap != nil:
			return nil, gap // no note stands after it
		case err != nil:
			return nil, err
		}
		if e == nil {
			end, err := s.nonZero(off)
			if err != nil {
				return nil, err
			}
			if end == size {
				s.Fill = off
				return s, nil
			}
			if gap == nil {
				gap = &FormatError{off, "notes", "an all-zero note header with more after it", "a note, or zeros to the end of the segment"}
			}
			if !gaps {
				return nil, gap
			}
			end &^= align - 1
			s.Gaps = append(s.Gaps, Gap{off, end - off})
			off = end
			continue
		}
		if len(s.Notes) == maxNotes {
			return nil, &FormatError{off, "number of notes", "another note", "at most 65536 notes"}
		}
		s.Notes = append(s.Notes, *e)
		off = e.End
	}
	return s, nil
}

// entry reads the header and the name of the note at off. It returns nil at
// zero fill.
func (s *Segment) entry(off int64) (*Entry, error) {
	left := s.Size - off
	h := make([]byte, min(HeaderSize, left))
	if err := s.read(h, off); err != nil {
		return nil, err
	}
	if allZero(h) {
		return nil, nil
	}
	if left < HeaderSize {
		return nil, &FormatError{off, "note header", hex(left) + " bytes", "12 bytes, or zero fill"}
	}
	namesz := int64(s.Order.Uint32(h[0:]))
	descsz := int64(s.Order.Uint32(h[4:]))
	left -= HeaderSize
	if namesz > left {
		return nil, &FormatError{off, "n_namesz", hex(namesz), "at most " + hex(left) + ", the rest of the segment"}
	}
	if namesz > maxName {
		return nil, &FormatError{off, "n_namesz", hex(namesz), "at most " + hex(maxName)}
	}
	name := make([]byte, namesz)
	if err := s.read(name, off+HeaderSize); err != nil {
		return nil, err
	}
	desc := roundUp(HeaderSize+namesz, s.Align)
	left = max(s.Size-off-desc, 0)
	if descsz > left {
		return nil, &FormatError{off + 4, "n_descsz", hex(descsz), "at most " + hex(left) + ", the rest of the segment"}
	}
	e := &Entry{
		Name:     strings.TrimRight(string(name), "\x00"), // some writers round n_namesz up with more NULs
		NameSize: namesz,
		Type:     s.Order.Uint32(h[8:]),
		Off:      off,
		DescOff:  off + desc,
		DescSize: descsz,
	}
	// The last note of a segment may lack its padding.
	e.DescOff = min(e.DescOff, s.Size)
	e.End = min(off+roundUp(desc+descsz, s.Align), s.Size)
	return e, nil
}

// nonZero returns the offset of the first byte from off on that is not zero, or
// the segment's size.
func (s *Segment) nonZero(off int64) (int64, error) {
	buf := make([]byte, min(s.Size-off, 512))
	for off < s.Size {
		b := buf[:min(int64(len(buf)), s.Size-off)]
		if err := s.read(b, off); err != nil {
			return 0, err
		}
		if rest := bytes.TrimLeft(b, "\x00"); len(rest) > 0 {
			return off + int64(len(b)-len(rest)), nil
		}
		off += int64(len(b))
		if len(buf) < 64<<10 { // gaps may be many and short, or long
			buf = make([]byte, 2*len(buf))
		}
	}
	return s.Size, nil
}

// Find returns the index of the first note of that name and type.
func (s *Segment) Find(name string, typ uint32) (int, bool) {
	for i, e := range s.Notes {
		if e.Name == name && e.Type == typ {
			return i, true
		}
	}
	return 0, false
}

// Note reads note i whole. It fails where the descriptor is larger than limit
// bytes, and with the reader's error.
func (s *Segment) Note(i int, limit int64) (Note, error) {
	e := s.Notes[i]
	if e.DescSize > limit {
		return Note{}, &FormatError{e.Off + 4, "n_descsz", hex(e.DescSize), "at most " + hex(limit)}
	}
	n := Note{Name: e.Name, Type: e.Type, Desc: make([]byte, e.DescSize)}
	if err := s.read(n.Desc, e.DescOff); err != nil {
		return Note{}, err
	}
	return n, nil
}

// Get reads the first note of that name and type 0 whole. It is false if there
// is none, if its descriptor is larger than limit bytes, or if it cannot be
// read.
func (s *Segment) Get(name string, limit int64) (Note, bool) {
	i, ok := s.Find(name, 0)
	if !ok {
		return Note{}, false
	}
	n, err := s.Note(i, limit)
	return n, err == nil
}

// Desc returns a reader of note i's descriptor.
func (s *Segment) Desc(i int) *io.SectionReader {
	return io.NewSectionReader(s.r, s.Notes[i].DescOff, s.Notes[i].DescSize)
}

// read fills b from offset off of the segment.
func (s *Segment) read(b []byte, off int64) error {
	n, err := s.r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &FormatError{off + int64(n), "notes", "the end of the file", "the rest of the segment"}
	}
	return err
}

func allZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
