package elfnote

// A Splice is a change to a segment: at Off, Ins replaces Del bytes. The rest
// stays as it is. Off and Del are in bytes, within the segment.
type Splice struct {
	Off, Del int64
	Ins      []byte
}

// Grow returns by how many bytes the splice makes the segment larger; less
// than zero where it shrinks.
func (s Splice) Grow() int64 {
	return int64(len(s.Ins)) - s.Del
}

// Empty reports whether the splice changes nothing.
func (s Splice) Empty() bool {
	return s.Del == 0 && len(s.Ins) == 0
}

// Encode returns the note as bytes, padded as the segment's notes are.
func (s *Segment) Encode(n Note) []byte { return n.encode(s.Order, s.Align) }

// Insert returns the splice that adds a note: directly after VMCOREINFO, where
// people look for it, or as the last note where there is none.
func (s *Segment) Insert(n Note) Splice {
	i, ok := s.Find(VMCoreInfo, 0)
	if !ok || i == len(s.Notes)-1 {
		return s.Append(n)
	}
	return Splice{Off: s.Notes[i].End, Ins: s.Encode(n)}
}

// Append returns the splice that adds a note after all others, in the place of
// zero fill.
func (s *Segment) Append(n Note) Splice {
	// A last note without its padding gets it now.
	lack := make([]byte, roundUp(s.Fill, s.Align)-s.Fill)
	return Splice{Off: s.Fill, Del: s.Size - s.Fill, Ins: append(lack, s.Encode(n)...)}
}

// Replace returns the splice that puts n where note i is.
func (s *Segment) Replace(i int, n Note) Splice {
	sp := s.Remove(i)
	sp.Ins = s.Encode(n)
	return sp
}

// Remove returns the splice that takes note i out.
func (s *Segment) Remove(i int) Splice {
	e := s.Notes[i]
	return Splice{Off: e.Off, Del: e.End - e.Off}
}
