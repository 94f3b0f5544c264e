package vmcore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"vmcsnote/elfnote"
	"vmcsnote/physmem"
)

const (
	// maxLooks bounds the headers inside of pages that are followed to a whole
	// note: any program can fill its memory with headers. Those at the start of
	// a page, where a kernel's buffer begins, are all followed.
	maxLooks = 1 << 16
	// maxHits bounds the notes that are kept of memory full of different ones.
	maxHits = 16
	// notePage is the smallest page a kernel has.
	notePage = 4096
)

// A Hit is a note found in memory.
type Hit struct {
	Addr uint64 // physical address of the note's header
	Note elfnote.Note
	// Trust is what [NoteSearch.Trust] says of the address.
	Trust int
}

// A NoteSearch says which notes to look for in memory.
type NoteSearch struct {
	Name  string
	Type  uint32
	Order binary.ByteOrder
	// Intact says whether a note counts: what merely looks like one, in a
	// program's text or in a freed page, is common.
	Intact func(elfnote.Note) bool
	// Trust, if not nil, says how far the memory at an address is to be
	// trusted, more if it is higher. It is called for one note at a time.
	Trust func(addr uint64) int
}

// before is less than 0 if a is to be preferred to b: by trust, then if it is
// at the start of a page, then by the lower address.
func (a Hit) before(b Hit) int {
	inside := func(h Hit) int { return min(int(h.Addr%notePage), 1) }
	return cmp.Or(cmp.Compare(b.Trust, a.Trust), cmp.Compare(inside(a), inside(b)), cmp.Compare(a.Addr, b.Addr))
}

// A NoteFinder looks for whole notes in memory that its caller scans. Equal
// notes count once, at the address preferred: the most trusted, then the start
// of a page, then the lowest.
//
// Its time is bounded by the size of memory: what has the header of another
// note inside does not count as a note, so no byte is in two notes.
type NoteFinder struct {
	NoteSearch
	m    physmem.Reader
	head []byte // of a note with an empty descriptor

	looks atomic.Int64
	mu    sync.Mutex
	hits  []Hit
	more  int
}

// NewNoteFinder returns a finder of notes in m.
func NewNoteFinder(m physmem.Reader, n NoteSearch) *NoteFinder {
	return &NoteFinder{NoteSearch: n, m: m, head: elfnote.Note{Name: n.Name, Type: n.Type}.Encode(n.Order)}
}

// Hits returns the notes found, the one preferred first: 16 at most, and how
// many more there were.
func (s *NoteFinder) Hits() (hits []Hit, more int) {
	s.cut()
	return s.hits, s.more
}

// Look looks for notes that begin in b, the memory at addr. Several goroutines
// may call it at a time. It never fails.
func (s *NoteFinder) Look(addr uint64, b []byte) error {
	head, name := s.head, s.head[elfnote.HeaderSize:]
	eachName(addr, b, name, func(off int) {
		if off >= elfnote.HeaderSize {
			s.look(addr + uint64(off) - elfnote.HeaderSize)
		}
	})
	// A header that reaches into the next chunk: whatever begins like one.
	for off := max(0, len(b)-len(head)+1); off < len(b); off++ {
		if tail := b[off:]; bytes.Equal(tail[:min(4, len(tail))], head[:min(4, len(tail))]) {
			s.look(addr + uint64(off))
		}
	}
	return nil
}

// look takes the note at addr, if it is one.
func (s *NoteFinder) look(addr uint64) {
	b := make([]byte, len(s.head))
	if n, _ := s.m.ReadPhys(b, addr); addr%4 != 0 || n < len(b) {
		return
	}
	size := s.Order.Uint32(b[4:])
	if size == 0 || size > elfnote.MaxBlob || !bytes.Equal(b[:4], s.head[:4]) || !bytes.Equal(b[8:], s.head[8:]) {
		return
	}
	if addr%notePage != 0 && s.looks.Add(1) > maxLooks {
		return
	}
	desc, ok := s.desc(addr+uint64(len(b)), int(size))
	if n := (elfnote.Note{Name: s.Name, Type: s.Type, Desc: desc}); ok && s.Intact(n) {
		s.add(Hit{Addr: addr, Note: n})
	}
}

// desc reads a descriptor. It is false where memory ends, and where the header
// of another such note is inside. It reads twice as much as before each time,
// so that headers in a row cost no more than they are long.
func (s *NoteFinder) desc(addr uint64, size int) ([]byte, bool) {
	var desc []byte
	for len(desc) < size {
		seen := len(desc)
		b := make([]byte, min(size-seen, max(seen, 64)))
		if n, _ := s.m.ReadPhys(b, addr+uint64(seen)); n < len(b) {
			return nil, false
		}
		desc = append(desc, b...)
		if bytes.Contains(desc[max(0, seen-len(s.head)):], s.head[elfnote.HeaderSize:]) {
			return nil, false
		}
	}
	return desc, true
}

// add keeps a hit, of equal ones the preferred one.
func (s *NoteFinder) add(h Hit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Trust != nil {
		h.Trust = s.Trust(h.Addr)
	}
	if i := slices.IndexFunc(s.hits, func(k Hit) bool { return k.Note.Equal(h.Note) }); i < 0 {
		s.hits = append(s.hits, h)
	} else if h.before(s.hits[i]) < 0 {
		s.hits[i] = h
	}
	if len(s.hits) >= 2*maxHits {
		s.cut()
	}
}

// cut sorts the hits, and keeps the preferred ones.
func (s *NoteFinder) cut() {
	sort.Slice(s.hits, func(i, j int) bool { return s.hits[i].before(s.hits[j]) < 0 })
	if n := len(s.hits) - maxHits; n > 0 {
		s.hits, s.more = s.hits[:maxHits], s.more+n
	}
}
