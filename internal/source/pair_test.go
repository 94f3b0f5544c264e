package source

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"vmcsnote/elfnote"
)

// TestNoteOfMemory: what counts as a note in a kernel's buffer, of which
// perhaps only the beginning could be read.
func TestNoteOfMemory(t *testing.T) {
	text := []byte("REVISION_ID=d\nFIELD(PIN_BASED_VM_EXEC_CONTROL)=01840180\n")
	whole := elfnote.Note{Name: elfnote.VMCSInfo, Desc: text}.Encode(binary.LittleEndian)
	page := func(b []byte) []byte { return append(bytes.Clone(b), make([]byte, 4096-len(b))...) }
	var records []byte // revision 0xd; GUEST_ES_SELECTOR, whose last bytes are zeros
	for _, v := range []uint32{0xd, 0x0800, 0x0500, 0} {
		records = binary.LittleEndian.AppendUint32(records, v)
	}
	for _, tc := range []struct {
		name string
		mem  []byte
		err  error
		of   string
		want []byte // the descriptor; nil for an error
	}{
		{"a note and zero fill", page(whole), nil, elfnote.VMCSInfo, text},
		{"a note, and then memory that is not there", page(whole), io.ErrUnexpectedEOF, elfnote.VMCSInfo, text},
		{"a note that ends where memory does", whole, io.ErrUnexpectedEOF, elfnote.VMCSInfo, text},
		{"a note cut off", whole[:len(whole)-8], io.ErrUnexpectedEOF, elfnote.VMCSInfo, nil},
		{"text and zero fill", page(text), nil, elfnote.VMCSInfo, text},
		{"text that may have been cut off", text[:40], io.ErrUnexpectedEOF, elfnote.VMCSInfo, nil},
		{"text, zero fill, and then memory that is not there", page(text), io.ErrUnexpectedEOF, elfnote.VMCSInfo, text},
		{"records, the last ending with zeros", page(records), nil, elfnote.VMCSInfo, records},
		{"records that may have been cut off", records[:13], io.ErrUnexpectedEOF, elfnote.VMCSInfo, nil},
		{"another name: only a complete note counts", []byte(strings.Repeat("whatever", 8)), nil, elfnote.VMCoreInfo, nil},
		{"nothing read", nil, io.ErrUnexpectedEOF, elfnote.VMCSInfo, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := Finder{Request: &Request{Name: tc.of}}
			n, err := f.note(tc.mem, tc.err)
			if tc.want == nil {
				if err == nil {
					t.Errorf("taken for a note: %q", n.Desc)
				}
				return
			}
			if err != nil || !bytes.Equal(n.Desc, tc.want) {
				t.Errorf("got %q, %v\nwant %q", n.Desc, err, tc.want)
			}
		})
	}
}
