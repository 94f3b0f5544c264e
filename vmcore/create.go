package vmcore

import (
	"context"
	"os"
	"sync"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/atomicfile"
	"vmcsnote/internal/inputfile"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/elfcore"
	"vmcsnote/vmcore/internal/plan"
)

// A NewELF describes an ELF64 core to be written: little-endian, for x86-64,
// with the notes first and a PT_LOAD for each piece of memory in one piece.
type NewELF struct {
	// Mem is the memory, in whole pages. Its ranges are gone through twice. What
	// it cannot read becomes a hole between PT_LOADs.
	Mem physmem.Memory
	// See, where not nil, is shown all memory as it is written, a few pages at
	// a time, from one goroutine at a time. It must not keep b.
	See func(addr uint64, b []byte)
	// Lost, where not nil, is told of each page that could not be read, and why;
	// in no order, from one goroutine at a time.
	Lost func(addr uint64, err error)
	// Zeros, where not nil, is told in the end how many pages the PT_LOADs have
	// as zeros that could not be read, or are between ranges: those in the
	// smallest holes, of more than there may be PT_LOADs around.
	Zeros func(pages uint64)
	// Notes gives the notes, once all memory has been seen. They may take
	// NotesSize bytes.
	Notes     func() []elfnote.Note
	NotesSize int64
	// Aliases, where not nil, gives more PT_LOADs, after Notes: memory by a
	// virtual address too, 16 at most. One that is not within a piece of the
	// memory written is left out.
	Aliases func() []Alias
}

// An Alias is a range of physical memory that has a virtual address.
type Alias struct {
	Vaddr uint64
	physmem.Range
}

const (
	// createChunk is how much memory is read at a time.
	createChunk = 1 << 20
	// createWorkers bounds the workers, and with them the memory for chunks.
	createWorkers = 4
)

// Create writes a new core to the file out, with mode 0600: memory holds
// secrets. Pages of zeros become holes in the file. Of the options Overwrite and
// Progress count. The file appears when it is complete; after an error, or if
// ctx is done, nothing is left of it. The error wraps [ErrNoMemory] where there
// was nothing to write.
func Create(ctx context.Context, out string, n NewELF, opt Options) error {
	p, err := atomicfile.Create(out, atomicfile.Options{Mode: 0o600, Overwrite: opt.Overwrite})
	if err != nil {
		return err
	}
	defer p.Discard()
	w := &creator{NewELF: &n, f: p.File, data: plan.RoundUp(headSize(newProgs)+n.NotesSize, plan.PageSize)}
	if err := w.plan(ctx); err != nil {
		return inputfile.About(out, err)
	}
	if err := w.memory(ctx, opt); err != nil {
		return inputfile.About(out, err)
	}
	loads := w.loads()
	if len(loads) == 0 {
		return inputfile.About(out, errors.Wrap(ErrNoMemory, "nothing to write"))
	}
	if w.Zeros != nil && w.zeros > 0 {
		w.Zeros(w.zeros / plan.PageSize)
	}
	notes := n.Notes()
	if err := w.head(notes, append(loads, w.aliases(loads)...)); err != nil {
		return inputfile.About(out, err)
	}
	return p.Finish()
}

// headSize is that of an ELF header and so many program headers.
func headSize(progs int) int64 {
	return int64(elfcore.Layout64.Ehsize) + int64(progs)*int64(elfcore.Layout64.Phentsize)
}

// A creator writes one core.
type creator struct {
	*NewELF
	f    *os.File
	data int64 // file offset of the memory

	segs  []physmem.Range // memory that the file has room for, one after the other
	total uint64          // bytes of the ranges

	mu    sync.Mutex
	holes []physmem.Range // of segs: what is in no range or could not be read, in no order
	zeros uint64          // bytes of holes given up
}

// A part is a piece of memory to write, and where in the file.
type part struct {
	physmem.Range
	off   int64
	vaddr uint64 // 0, but for aliases
}

// memory writes all memory, and sets how long the file is.
func (w *creator) memory(ctx context.Context, opt Options) error {
	size := w.data
	for _, s := range w.segs {
		size += int64(s.Size)
	}
	if err := w.f.Truncate(size); err != nil {
		return err
	}
	left := w.total
	err := physmem.Scan(ctx, physmem.With(w.Mem, w.again(&left)), physmem.ScanOptions{
		Chunk:   createChunk,
		Workers: createWorkers,
		Progress: func(done uint64) {
			if opt.Progress != nil {
				opt.Progress(int64(done), int64(w.total))
			}
		},
		Lost: func(addr uint64, why error) {
			if w.Lost != nil {
				w.Lost(addr, why)
			}
			w.lack(physmem.Range{Addr: addr, Size: plan.PageSize})
		},
	}, w.put)
	if err == nil && left != 0 {
		err = errors.Wrap(ErrChanged, "the memory to write")
	}
	return err
}

// put shows the memory at addr, whole pages, and writes it to its place.
func (w *creator) put(addr uint64, b []byte) error {
	if w.See != nil {
		w.mu.Lock()
		w.See(addr, b)
		w.mu.Unlock()
	}
	off := w.data
	for _, s := range w.segs {
		if s.Contains(addr) {
			return w.write(b, off+int64(addr-s.Addr))
		}
		off += int64(s.Size)
	}
	return errors.Wrapf(ErrChanged, "physical address %#x", addr)
}

// write writes whole pages but for those that are zero.
func (w *creator) write(b []byte, off int64) error {
	for start, at := 0, 0; ; at += plan.PageSize {
		if at < len(b) && !physmem.AllZero(b[at:at+plan.PageSize]) {
			continue
		}
		if at > start {
			if _, err := w.f.WriteAt(b[start:at], off+int64(start)); err != nil {
				return err
			}
		}
		if start = at + plan.PageSize; at >= len(b) {
			return nil
		}
	}
}
