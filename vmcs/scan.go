package vmcs

import (
	"context"
	"io"
	"iter"
	"runtime"
	"sync"

	"vmcsnote/physmem"
)

const (
	// scanChunk is how much memory a worker reads at a time, whole pages. It
	// stays in the processor's cache from the read to the look.
	scanChunk = 256 << 10
	// maxWorkers bounds the workers, and with them the memory for their chunks.
	maxWorkers = 8
	// maxPhys is where physical addresses end: no processor has more bits.
	maxPhys = 1 << 52
)

// A scan reads memory page by page.
type scan struct {
	r    physmem.Reader
	look func(addr uint64, page []byte) // called by several workers at a time

	mu    sync.Mutex
	pages uint64 // looked at
	lost  uint64 // that could not be read
	at    uint64 // address of the first of these
	err   error  // and why
}

// span is memory from addr to end.
type span struct{ addr, end uint64 }

// run looks at all whole pages in the ranges. Pages that cannot be read are
// counted. progress is told how many bytes have been handed out.
func (s *scan) run(ctx context.Context, ranges iter.Seq[physmem.Range], progress func(uint64)) error {
	chunks := make(chan span)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), maxWorkers) {
		wg.Go(func() {
			buf := make([]byte, scanChunk)
			for c := range chunks {
				s.chunk(buf[:c.end-c.addr], c.addr)
			}
		})
	}
	err := eachChunk(ctx, ranges, func(c span) error {
		select {
		case chunks <- c:
			if progress != nil {
				progress(c.end - c.addr)
			}
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(chunks)
	wg.Wait()
	return err
}

// eachChunk cuts the ranges into chunks of whole pages, small ranges that touch
// taken together.
func eachChunk(ctx context.Context, ranges iter.Seq[physmem.Range], do func(span) error) error {
	var c span
	flush := func(all bool) error {
		c.addr = (c.addr + PageSize - 1) &^ (PageSize - 1)
		for c.addr+PageSize <= c.end {
			n := min((c.end-c.addr)&^(PageSize-1), scanChunk-c.addr%scanChunk)
			if !all && n < scanChunk-c.addr%scanChunk {
				return nil
			}
			if err := do(span{c.addr, c.addr + n}); err != nil {
				return err
			}
			c.addr += n
		}
		return nil
	}
	for r := range ranges {
		addr, size := r.Addr, r.Size
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if addr >= maxPhys {
			break
		}
		end := addr + min(size, maxPhys-addr)
		if addr != c.end || c.end == 0 {
			if err := flush(true); err != nil {
				return err
			}
			c.addr = addr
		}
		c.end = end
		if err := flush(false); err != nil {
			return err
		}
	}
	return flush(true)
}

// chunk looks at the pages from addr on, which it reads to b.
func (s *scan) chunk(b []byte, addr uint64) {
	var pages uint64
	for len(b) > 0 {
		n, err := s.r.ReadPhys(b, addr)
		whole := min(max(n, 0), len(b)) &^ (PageSize - 1)
		for off := 0; off < whole; off += PageSize {
			s.look(addr+uint64(off), b[off:off+PageSize:off+PageSize])
		}
		pages += uint64(whole / PageSize)
		if b, addr = b[whole:], addr+uint64(whole); len(b) > 0 {
			s.miss(addr, err)
			b, addr = b[PageSize:], addr+PageSize
		}
	}
	s.mu.Lock()
	s.pages += pages
	s.mu.Unlock()
}

// miss counts a page that could not be read.
func (s *scan) miss(addr uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	if s.lost++; s.err == nil || addr < s.at {
		s.at, s.err = addr, err
	}
}
