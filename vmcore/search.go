package vmcore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
)

const (
	// searchChunk is how much memory a worker looks at at a time: whole pages of
	// any size, so that none is read twice.
	searchChunk = 1 << 20
	// maxWorkers bounds the workers, and with them the memory for their chunks.
	maxWorkers = 8
	// maxLooks bounds how many headers are followed to a whole note, which memory
	// may be made full of.
	maxLooks = 4096
	// maxHits bounds the notes that are kept of memory full of different ones.
	maxHits = 16
)

// A Hit is a note found in memory.
type Hit struct {
	Addr uint64 // physical address of the note's header
	Note elfnote.Note
}

// SearchNote looks through memory for whole notes of that name and type, in the
// byte order given. A note counts where intact says so; what merely looks like
// one, in a program's text or in a freed page, is common. Equal notes count
// once, at their lowest address; the hits are sorted by it, and at most 16.
// Several workers read at a time.
func SearchNote(ctx context.Context, m Memory, name string, typ uint32, order binary.ByteOrder, intact func(elfnote.Note) bool) ([]Hit, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := searcher{m: m, head: elfnote.Note{Name: name, Type: typ}, order: order, intact: intact}
	chunks := make(chan Range)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), maxWorkers) {
		wg.Go(func() {
			buf := make([]byte, searchChunk)
			for r := range chunks {
				if err := s.chunk(ctx, buf[:r.Size], r.Addr); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := eachChunk(ctx, m.PhysRuns(), chunks)
	close(chunks)
	wg.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Wrap(err, "search")
	}
	slices.SortFunc(s.hits, func(a, b Hit) int { return cmp.Compare(a.Addr, b.Addr) })
	return s.hits, nil
}

// eachChunk hands out the ranges in chunks that end at multiples of their size.
func eachChunk(ctx context.Context, ranges iter.Seq[Range], chunks chan<- Range) error {
	for r := range ranges {
		for addr, left := r.Addr, r.Size; left > 0; {
			n := min(left, searchChunk-addr%searchChunk)
			select {
			case chunks <- Range{addr, n}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			addr, left = addr+n, left-n
		}
	}
	return nil
}

type searcher struct {
	m      Memory
	head   elfnote.Note // name and type
	order  binary.ByteOrder
	intact func(elfnote.Note) bool

	looks atomic.Int64
	mu    sync.Mutex
	hits  []Hit
}

// chunk looks for notes that begin in the memory at addr, which it reads to b.
func (s *searcher) chunk(ctx context.Context, b []byte, addr uint64) error {
	n, err := s.m.ReadPhys(b, addr)
	if err != nil && !errors.Is(err, ErrTruncated) { // a cut dump is searched as far as it goes
		return err
	}
	b = b[:n]
	head := s.head.Encode(s.order)
	name := head[elfnote.HeaderSize:]
	for off := 0; ; off++ {
		i := bytes.Index(b[off:], name)
		if i < 0 {
			break
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		off += i
		if off >= elfnote.HeaderSize {
			s.look(addr + uint64(off) - elfnote.HeaderSize)
		}
	}
	if s.looks.Load() > maxLooks {
		return errors.Errorf("more than %d headers of %s notes", maxLooks, s.head.Name)
	}
	// A header that reaches into the next chunk: whatever begins like one.
	for off := max(0, len(b)-len(head)+1); off < len(b); off++ {
		if tail := b[off:]; bytes.Equal(tail[:min(4, len(tail))], head[:min(4, len(tail))]) {
			s.look(addr + uint64(off))
		}
	}
	return nil
}

// look takes the note at addr, if it is one.
func (s *searcher) look(addr uint64) {
	head := s.head.Encode(s.order)
	b := make([]byte, len(head))
	if n, _ := s.m.ReadPhys(b, addr); addr%4 != 0 || n < len(b) {
		return
	}
	size := s.order.Uint32(b[4:])
	copy(head[4:], b[4:8])
	if size == 0 || size > elfnote.MaxBlob || !bytes.Equal(b, head) {
		return
	}
	if s.looks.Add(1) > maxLooks {
		return
	}
	n := elfnote.Note{Name: s.head.Name, Type: s.head.Type, Desc: make([]byte, size)}
	if k, _ := s.m.ReadPhys(n.Desc, addr+uint64(len(head))); k < len(n.Desc) || !s.intact(n) {
		return
	}
	s.add(Hit{addr, n})
}

// add keeps a hit, of equal ones the one at the lowest address.
func (s *searcher) add(h Hit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.hits, func(k Hit) bool { return k.Note.Equal(h.Note) })
	switch {
	case i >= 0:
		s.hits[i].Addr = min(s.hits[i].Addr, h.Addr)
	case len(s.hits) < maxHits:
		s.hits = append(s.hits, h)
	}
}
