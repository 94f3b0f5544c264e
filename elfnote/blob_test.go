package elfnote

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/pkg/errors"
)

func TestFromBlob(t *testing.T) {
	text := []byte("REVISION_ID=d\nFIELD(GUEST_ES_SELECTOR)=0500\n")
	note := Note{VMCSInfo, 0, text}
	kernel := append(note.Encode(le), make([]byte, 8192-note.Size())...)
	info := Note{VMCoreInfo, 0, []byte("OSRELEASE=6.1\n")}
	for _, tc := range []struct {
		name  string
		blob  []byte
		of    string
		order binary.ByteOrder
		want  Note
		err   string
	}{
		{name: "as the kernel keeps it", blob: kernel, want: note},
		{name: "without the fill", blob: note.Encode(le), want: note},
		{name: "text alone", blob: text, want: note},
		{name: "text alone, with the buffer's fill", blob: append(bytes.Clone(text), make([]byte, 100)...), want: note},
		{name: "of the other byte order", blob: note.Encode(be), want: note},
		{name: "for a big-endian core", blob: note.Encode(be), order: be, want: note},
		{name: "another name", blob: info.Encode(le), of: VMCoreInfo, want: info},
		{name: "another name, descriptor alone", blob: info.Desc, of: VMCoreInfo, err: "n_namesz at offset 0x0"},
		{name: "text, zeros, and more", blob: []byte("REVISION_ID=d\nFIELD(X)=05\x00\x00junk"), err: "text of 25 bytes with more than zeros after it"},
		{name: "another name, and it is another's note", blob: kernel, of: VMCoreInfo, err: `named "VMCSINFO", expected "VMCOREINFO"`},
		{name: "empty", err: "0 bytes, all zero"},
		{name: "all zero", blob: make([]byte, 4096), err: "4096 bytes, all zero"},
		{name: "longer than 1 MiB", blob: make([]byte, MaxBlob+1), err: "1048577 bytes, expected at most 1048576"},
		{name: "two notes", blob: append(note.Encode(le), note.Encode(le)...), err: `2 notes ("VMCSINFO" at offset 0x0, "VMCSINFO" at offset 0x44)`},
		{name: "wrong name", blob: info.Encode(le), err: `named "VMCOREINFO", expected "VMCSINFO"`},
		{name: "wrong type", blob: Note{VMCSInfo, 1, text}.Encode(le), err: "of type 0x1, expected 0x0"},
		{name: "empty note", blob: Note{VMCSInfo, 0, nil}.Encode(le), err: "is empty"},
		{name: "zeros before the note", blob: append(make([]byte, 16), kernel...), err: "all-zero note header with more after it"},
		{name: "other text", blob: []byte("hello, world, this is no note\n"), err: "n_namesz at offset 0x0: found 0x6c6c6568"},
		{name: "cut", blob: note.Encode(le)[:40], err: "n_descsz at offset 0x4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.of == "" {
				tc.of = VMCSInfo
			}
			if tc.order == nil {
				tc.order = le
			}
			got, err := FromBlob(tc.blob, tc.of, 0, tc.order)
			if tc.err != "" {
				if !errors.Is(err, ErrBlob) || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error is %v, want ErrBlob with %q", err, tc.err)
				}
				return
			}
			if err != nil || !got.Equal(tc.want) {
				t.Fatalf("got %v, %v", got, err)
			}
		})
	}
}

func TestWrap(t *testing.T) {
	info := Note{VMCoreInfo, 0, []byte("OSRELEASE=6.1\n\x00\x00")}
	for _, tc := range []struct {
		name, of string
		blob     []byte
		want     Note
		err      string
	}{
		{name: "descriptor alone, its zeros kept", of: VMCoreInfo, blob: info.Desc, want: info},
		{name: "a complete note", of: VMCoreInfo, blob: info.Encode(le), want: info},
		{name: "another's note", of: "OTHER", blob: info.Encode(le), err: `named "VMCOREINFO", expected "OTHER"`},
		{name: "VMCSINFO is never taken for granted", of: VMCSInfo, blob: []byte("whatever this is, it is long enough"), err: "n_namesz"},
		{name: "all zero", of: "OTHER", blob: make([]byte, 8), err: "all zero"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Wrap(tc.blob, tc.of, 0, le)
			if tc.err != "" {
				if !errors.Is(err, ErrBlob) || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error is %v, want ErrBlob with %q", err, tc.err)
				}
				return
			}
			if err != nil || !got.Equal(tc.want) {
				t.Fatalf("got %v, %v", got, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(segment(le, Note{"CORE", 1, make([]byte, 20)}, Note{VMCoreInfo, 0, []byte("A=1\n")}), false)
	f.Add(segment(be, Note{"LINUX\x00\x00", 0x700, []byte("x")}), true)
	f.Add(make([]byte, 30), false)
	f.Fuzz(func(t *testing.T, b []byte, big bool) {
		order := binary.ByteOrder(le)
		if big {
			order = be
		}
		s, err := parse(b, order)
		if err != nil {
			if s != nil {
				t.Error("an error, and a segment")
			}
			return
		}
		// The notes lie one after the other, and cover all but the fill.
		off := int64(0)
		for i, e := range s.Notes {
			if e.Off != off || e.DescOff < off || e.DescOff+e.DescSize > e.End || e.End > s.Size {
				t.Fatalf("note %d: %+v, expected at %d of %d", i, e, off, s.Size)
			}
			off = e.End
			if _, err := s.Note(i, s.Size); err != nil {
				t.Fatal(err)
			}
		}
		if off != s.Fill {
			t.Errorf("notes end at %d, fill begins at %d", off, s.Fill)
		}
		n := Note{VMCSInfo, 0, []byte("REVISION_ID=d\n")}
		after, err := parse(apply(b, s.Insert(n)), order)
		if err != nil {
			t.Fatal(err)
		}
		if len(after.Notes) != len(s.Notes)+1 {
			t.Errorf("%d notes, then %d", len(s.Notes), len(after.Notes))
		}
	})
}

func FuzzFromBlob(f *testing.F) {
	n := Note{VMCSInfo, 0, []byte("REVISION_ID=d\n")}
	f.Add(n.Encode(le))
	f.Add(append(n.Encode(be), make([]byte, 64)...))
	f.Add(n.Desc)
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := FromBlob(b, VMCSInfo, 0, le)
		if err != nil {
			if n.Name != "" || n.Desc != nil {
				t.Error("an error, and a note")
			}
			return
		}
		if n.Name != VMCSInfo || n.Type != 0 || len(n.Desc) == 0 {
			t.Errorf("got %+v", n)
		}
		if m, err := FromBlob(n.Encode(le), VMCSInfo, 0, le); err != nil || !m.Equal(n) {
			t.Errorf("again: %+v, %v", m, err)
		}
	})
}
