package guest

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/vmcore"
	"vmcsnote/vmcs"
)

// noted is a core whose only note is another.
type noted struct {
	vmcore.Core
	note elfnote.Note
}

func (c noted) Notes() *elfnote.Segment { return segment(c.note) }

// segment is notes as a dump has them.
func segment(notes ...elfnote.Note) *elfnote.Segment {
	var b []byte
	for _, n := range notes {
		b = append(b, n.Encode(binary.LittleEndian)...)
	}
	s, err := elfnote.Parse(bytes.NewReader(b), int64(len(b)), binary.LittleEndian)
	if err != nil {
		panic(err)
	}
	return s
}

// The layout that a caller gives precedes the dump's note, and this one those
// in memory. A note that is of no use leaves the built-in layouts.
func TestHostLayout(t *testing.T) {
	note := noteLayout(t, "../testdata/cores/vmx/hsw-default")
	for _, tt := range []struct {
		name  string
		own   []byte // descriptor of the dump's VMCSINFO
		given *vmcs.Layout
		from  LayoutSource
		bad   bool // NoteError
	}{
		{name: "a note in memory", from: LayoutOfMemory},
		{name: "the dump's note", own: layoutNote(note).Desc, from: LayoutOfDump},
		{name: "given", given: note, from: LayoutGiven},
		{name: "given, and the dump's note", own: layoutNote(note).Desc, given: note, from: LayoutGiven},
		{name: "a note that is of no use", own: []byte("VMCSINFO"), from: LayoutTried, bad: true},
		{name: "given in place of such a note", own: []byte("VMCSINFO"), given: note, from: LayoutGiven},
	} {
		t.Run(tt.name, func(t *testing.T) {
			core := openCore(t, "vmx/hsw-default/mini")
			if tt.own != nil {
				core = noted{core, elfnote.Note{Name: elfnote.VMCSInfo, Desc: tt.own}}
			}
			h := OpenHost(core)
			if tt.given != nil {
				h.SetLayout(tt.given, nil)
			}
			seen := uint64(0)
			err := h.FindMachines(context.Background(), MachineSearch{Progress: func(m *Machine, done, total uint64) {
				if m != nil || done > total {
					t.Errorf("%d of %d bytes, machine %v", done, total, m)
				}
				seen = done
			}})
			if err != nil {
				t.Fatal(err)
			}
			ids := ""
			for m := range h.All() {
				if ids != "" {
					ids += " "
				}
				ids += m.ID()
				if h.Machine(m.ID()) != m {
					t.Errorf("machine %s is another", m.ID())
				}
			}
			if h.LayoutFrom != tt.from || ids != "0 1 2 3" || seen == 0 || (h.NoteError != nil) != tt.bad {
				t.Errorf("layout from %d, machines %q, %v, want from %d", h.LayoutFrom, ids, h.NoteError, tt.from)
			}
			if n, ok := h.VMCSInfo(); !ok || tt.from == LayoutOfDump && !bytes.Equal(n.Desc, tt.own) {
				t.Errorf("VMCSINFO: %v, %d bytes", ok, len(n.Desc))
			}
			if h.Machine("7") != nil || h.Machine("0.0") != nil || h.Machine("") != nil {
				t.Error("a machine that is not there")
			}
		})
	}
}

// Memory without VMCSs and without VMCSINFO is an error of its own type.
func TestHostNoVMCS(t *testing.T) {
	raw := make([]byte, 1<<20)
	core, err := vmcore.OpenRaw(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	err = OpenHost(core).FindMachines(context.Background(), MachineSearch{})
	var none *NoVMCSError
	if !errors.As(err, &none) || none.Found.Pages != 256 {
		t.Errorf("error %v", err)
	}
}
