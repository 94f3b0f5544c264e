package qemucore

import (
	"bytes"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
)

// errOtherNotes means that the core has notes after VMCS or VMCSINFO notes,
// where this program never writes them.
var errOtherNotes = errors.New("other notes stand after the core's VMCS notes")

// ProcessNotes returns the notes to add to a core of the process that ran the
// vCPUs: VMCSINFO, which says how to read them, then the vCPUs' own.
func ProcessNotes(info elfnote.Note, cpus []*CPU) []elfnote.Note {
	notes := []elfnote.Note{info}
	for _, c := range cpus {
		notes = append(notes, c.note())
	}
	return notes
}

// AddNotes returns the splice that puts notes after all others of a process's
// core, in place of those that an earlier run put there. It is empty if these
// are the same. It fails if others stand after those, or if s cannot be read.
func AddNotes(s *elfnote.Segment, notes []elfnote.Note) (elfnote.Splice, error) {
	sp := s.Append(notes[0])
	for _, n := range notes[1:] {
		sp.Ins = append(sp.Ins, s.Encode(n)...)
	}
	ours := func(e elfnote.Entry) bool {
		return (e.Name == NoteName || e.Name == elfnote.VMCSInfo) && e.Type == 0
	}
	first := len(s.Notes)
	for first > 0 && ours(s.Notes[first-1]) {
		first--
	}
	for _, e := range s.Notes[:first] {
		if ours(e) {
			return elfnote.Splice{}, errors.Wrapf(errOtherNotes, "note %s at %#x", e.Name, e.Off)
		}
	}
	if first == len(s.Notes) {
		return sp, nil
	}
	start := s.Notes[first].Off
	sp = elfnote.Splice{Off: start, Del: s.Size - start}
	same := len(notes) == len(s.Notes)-first
	for i, n := range notes {
		if same {
			old, err := s.Note(first+i, int64(len(n.Desc)))
			same = err == nil && old.Name == n.Name && bytes.Equal(old.Desc, n.Desc)
		}
		sp.Ins = append(sp.Ins, s.Encode(n)...)
	}
	if same {
		return elfnote.Splice{}, nil
	}
	return sp, nil
}
