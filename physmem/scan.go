package physmem

import (
	"context"
	"io"
	"iter"
	"math"
	"runtime"
	"sync"
)

const (
	// page is what Scan asks for after an error. No processor has smaller
	// pages.
	page = 4096
	// defaultChunk stays in the processor's cache from the read to the look.
	defaultChunk = 256 << 10
	// maxWorkers bounds the workers, and with them the memory for their chunks.
	maxWorkers = 128
)

// ScanOptions say how [Scan] reads. The zero value is for most.
type ScanOptions struct {
	// Chunk is how many bytes are read at a time, a power of two of a page or
	// more; 0 means 256 KiB.
	Chunk int
	// Workers bounds how many goroutines read and look; 0 means one for each
	// CPU, 128 at most.
	Workers int
	// Progress, if not nil, is called with the bytes done so far, including
	// those skipped and lost. The last call has the [Size] of the memory. It is
	// called from one goroutine at a time, and should be quick.
	Progress func(done uint64)
	// Lost, if not nil, is called for each page that cannot be read, in no
	// order, with the reason. It is called from one goroutine at a time.
	Lost func(addr uint64, err error)
}

// A Sparse is a Memory that knows which of it is zeros because the file that it
// is read from has holes there. [Scan] does not read those.
type Sparse interface {
	// Data yields the parts of a range of the memory that may hold other bytes
	// than zeros, sorted by address and disjoint.
	Data(Range) iter.Seq[Range]
}

// Scan reads all memory once, and shows it to look in chunks that end at
// multiples of their size; several goroutines call look at a time, in no order.
// look must not keep b. Its first error ends the scan, and so does ctx.
//
// Pages that cannot be read are passed over. Memory known to be zeros
// ([Sparse]) is not shown.
func Scan(ctx context.Context, m Memory, opt ScanOptions, look func(addr uint64, b []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := scan{ScanOptions: opt, m: m, look: look}
	if s.Chunk == 0 {
		s.Chunk = defaultChunk
	}
	workers := min(runtime.GOMAXPROCS(0), maxWorkers)
	if s.Workers > 0 {
		workers = min(workers, s.Workers)
	}
	var turn sync.Mutex
	next, stop := iter.Pull(s.chunks(ctx))
	defer stop()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			buf := make([]byte, s.Chunk)
			for ctx.Err() == nil {
				turn.Lock()
				r, ok := next()
				turn.Unlock()
				if !ok {
					return
				}
				if err := s.chunk(ctx, buf[:r.Size], r.Addr); err != nil {
					cancel(err)
				}
				s.pass(r.Size)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// Size returns how many bytes there are in a memory.
func Size(m Memory) (size uint64) {
	for r := range m.Ranges() {
		size += r.Size
	}
	return size
}

type scan struct {
	ScanOptions
	m    Memory
	look func(addr uint64, b []byte) error

	mu   sync.Mutex // for Progress and Lost
	done uint64
}

// chunks yields the memory in chunks, until ctx ends. Workers take them by
// turns: a goroutine that handed them out would be woken for each.
func (s *scan) chunks(ctx context.Context) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		size := uint64(s.Chunk)
		sparse, _ := s.m.(Sparse)
		for r := range s.m.Ranges() {
			data := func(yield func(Range) bool) { yield(r) }
			if sparse != nil {
				data = sparse.Data(r)
			}
			at := r.Addr // all below is handed out, or skipped
			for d := range data {
				// Whole pages: a page may begin in a hole.
				end := d.End() + min(-d.End()%page, math.MaxUint64-d.End())
				if d = Between(d.Addr&^(page-1), end).Intersect(Between(at, r.End())); d.Size == 0 {
					continue
				}
				s.pass(d.Addr - at)
				for at = d.Addr; at < d.End(); {
					n := min(d.End()-at, size-at%size)
					if !yield(Range{at, n}) {
						return
					}
					at += n
				}
			}
			s.pass(r.End() - at)
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// pass reports progress.
func (s *scan) pass(n uint64) {
	if s.Progress == nil || n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done += n
	s.Progress(s.done)
}

// chunk looks at the memory at addr, which it reads to b. If a page cannot be
// read, others beside it often cannot either, and to ask for many to get none
// costs: after a loss it asks for one page, then for twice as many each time.
func (s *scan) chunk(ctx context.Context, b []byte, addr uint64) error {
	for ask := len(b); len(b) > 0 && ctx.Err() == nil; ask *= 2 {
		ask = min(ask, len(b))
		n, err := s.m.ReadPhys(b[:ask], addr)
		short := n < ask
		if short {
			n = max(n-int((addr+uint64(n))%page), 0) // a page is there as a whole or not at all
		}
		if n > 0 {
			if err := s.look(addr, b[:n]); err != nil {
				return err
			}
			b, addr = b[n:], addr+uint64(n)
		}
		if short {
			s.lost(addr, err)
			skip := min(int(page-addr%page), len(b))
			b, addr = b[skip:], addr+uint64(skip)
			ask = page / 2
		}
	}
	return nil
}

func (s *scan) lost(addr uint64, err error) {
	if s.Lost == nil {
		return
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Lost(addr, err)
}
