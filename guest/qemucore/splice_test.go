package qemucore

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
)

// spliced returns the notes with the splice applied.
func spliced(t testing.TB, s *elfnote.Segment, sp elfnote.Splice) *elfnote.Segment {
	t.Helper()
	var b []byte
	for i := range s.Notes {
		n, err := s.Note(i, maxVMCSNote)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, n.Encode(s.Order)...)
	}
	b = slices.Replace(b, int(sp.Off), int(sp.Off+sp.Del), sp.Ins...)
	out, err := elfnote.Parse(bytes.NewReader(b), int64(len(b)), s.Order)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAddNotes(t *testing.T) {
	note := func(name, desc string) elfnote.Note { return elfnote.Note{Name: name, Desc: []byte(desc)} }
	segment := func(notes ...elfnote.Note) *elfnote.Segment {
		var b []byte
		for _, n := range notes {
			b = append(b, n.Encode(binary.LittleEndian)...)
		}
		s, err := elfnote.Parse(bytes.NewReader(b), int64(len(b)), binary.LittleEndian)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	core, info, cpu, cpu2 := note("CORE", "abc"), note("VMCSINFO", "i"), note("VMCS", "1"), note("VMCS", "22")
	for _, tt := range []struct {
		name  string
		have  []elfnote.Note
		add   []elfnote.Note
		want  []elfnote.Note
		empty bool
		err   error
	}{
		{"to a process's notes", []elfnote.Note{core, core}, []elfnote.Note{info, cpu}, []elfnote.Note{core, core, info, cpu}, false, nil},
		{"to none", nil, []elfnote.Note{info, cpu}, []elfnote.Note{info, cpu}, false, nil},
		{"again", []elfnote.Note{core, info, cpu}, []elfnote.Note{info, cpu}, []elfnote.Note{core, info, cpu}, true, nil},
		{"others instead", []elfnote.Note{core, info, cpu}, []elfnote.Note{info, cpu2}, []elfnote.Note{core, info, cpu2}, false, nil},
		{"more instead", []elfnote.Note{core, info, cpu}, []elfnote.Note{info, cpu, cpu2}, []elfnote.Note{core, info, cpu, cpu2}, false, nil},
		{"fewer instead", []elfnote.Note{core, info, cpu, cpu2}, []elfnote.Note{info, cpu}, []elfnote.Note{core, info, cpu}, false, nil},
		{"others after", []elfnote.Note{info, cpu, core}, []elfnote.Note{info, cpu}, nil, true, errOtherNotes},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := segment(tt.have...)
			sp, err := AddNotes(s, tt.add)
			if !errors.Is(err, tt.err) || sp.Empty() != tt.empty {
				t.Fatalf("%+v, %v", sp, err)
			}
			if err != nil {
				return
			}
			got := spliced(t, s, sp)
			if len(got.Notes) != len(tt.want) {
				t.Fatalf("%d notes, want %d", len(got.Notes), len(tt.want))
			}
			for i, want := range tt.want {
				if n, err := got.Note(i, 100); err != nil || !n.Equal(want) {
					t.Errorf("note %d: %v, %v", i, n, err)
				}
			}
		})
	}
}
