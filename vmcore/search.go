package vmcore

import (
	"bytes"
	"context"
	"encoding/binary"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
)

// searchChunk is how much memory is looked at at a time. Its size is a multiple
// of every page size.
const searchChunk = 1 << 20

// A Hit is a note found in memory.
type Hit struct {
	Addr uint64 // physical address of the note's header
	Note elfnote.Note
}

// SearchNote looks through memory for whole notes of that name and type, in the
// byte order given. A note counts where intact says so; what merely looks like
// one, in a program's text or in a freed page, is common. Equal notes count
// once, at their lowest address.
func SearchNote(ctx context.Context, m Memory, name string, typ uint32, order binary.ByteOrder, intact func(elfnote.Note) bool) ([]Hit, error) {
	head := elfnote.Note{Name: name, Type: typ}.Encode(order)
	needle := head[elfnote.HeaderSize:]
	s := searcher{m: m, head: head, name: name, typ: typ, order: order, intact: intact}
	buf := make([]byte, searchChunk+len(head))
	for _, r := range m.PhysRanges() {
		for addr, end := r.Addr, r.Addr+r.Size; addr < end; addr += searchChunk {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			// A note's header may lie across two chunks, so they overlap by one.
			b := buf[:min(end-addr, uint64(len(buf)))]
			if _, err := m.ReadPhys(b, addr); err != nil {
				return nil, errors.Wrap(err, "search")
			}
			for off := elfnote.HeaderSize; ; {
				i := bytes.Index(b[min(off, len(b)):], needle)
				if i < 0 {
					break
				}
				at := off + i - elfnote.HeaderSize
				s.look(addr+uint64(at), b[at:])
				off += i + 1
			}
		}
	}
	return s.hits, nil
}

type searcher struct {
	m      Memory
	head   []byte // of a note with an empty descriptor
	name   string
	typ    uint32
	order  binary.ByteOrder
	intact func(elfnote.Note) bool
	hits   []Hit
}

// look takes the note at addr, whose header b begins with, if it is one.
func (s *searcher) look(addr uint64, b []byte) {
	size := s.order.Uint32(b[4:])
	if addr%4 != 0 || size == 0 || size > elfnote.MaxBlob ||
		!bytes.Equal(b[:4], s.head[:4]) || !bytes.Equal(b[8:elfnote.HeaderSize], s.head[8:elfnote.HeaderSize]) {
		return
	}
	n := elfnote.Note{Name: s.name, Type: s.typ, Desc: make([]byte, size)}
	if _, err := s.m.ReadPhys(n.Desc, addr+uint64(len(s.head))); err != nil || !s.intact(n) {
		return
	}
	for _, h := range s.hits {
		if h.Note.Equal(n) {
			return
		}
	}
	s.hits = append(s.hits, Hit{addr, n})
}
