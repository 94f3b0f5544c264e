package vmcore

import (
	"context"
	"debug/elf"
	"sort"
	"sync"
	"unsafe"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
	"vmcsnote/internal/atomicfile"
	"vmcsnote/internal/inputfile"
	"vmcsnote/physmem"
	"vmcsnote/vmcore/internal/plan"
)

// A Writer writes a new ELF64 core: little-endian, for x86-64, with the notes
// first and a PT_LOAD for each piece of memory. Pages of zeros become holes in
// the file. Call [Writer.Copy], then [Writer.Finish], and in any case
// [Writer.Discard].
type Writer struct {
	out   *atomicfile.File
	name  string
	mem   physmem.Memory
	data  int64           // file offset of the memory
	room  int64           // bytes that the notes may take
	segs  []physmem.Range // memory that the file has room for, one after the other
	offs  []int64         // where in the file each begins
	total uint64          // bytes of the ranges

	mu    sync.Mutex
	holes []physmem.Range // of segs: what is in no range or could not be read, in no order
	zeros uint64          // bytes of holes given up
}

// An Alias is a range of physical memory that has a virtual address.
type Alias struct {
	Vaddr uint64
	physmem.Range
}

const (
	// createChunk is how much memory is read at a time.
	createChunk = 1 << 20
	// createWorkers bounds the workers, and with them the memory for chunks. Most
	// of the work is to decompress pages.
	createWorkers = 16
)

// Create begins a core in the file out, with mode 0600: memory holds secrets.
// Its notes may take notesSize bytes. The file appears when it is complete;
// until then there is nothing of it.
func Create(out string, notesSize int64, overwrite bool) (*Writer, error) {
	f, err := atomicfile.Create(out, atomicfile.Options{Mode: 0o600, Overwrite: overwrite})
	if err != nil {
		return nil, err
	}
	return &Writer{out: f, name: out, room: notesSize, data: plan.RoundUp(headSize(newProgs)+notesSize, plan.PageSize)}, nil
}

// Discard removes what was written, unless the core is finished.
func (w *Writer) Discard() { w.out.Discard() }

// Copy writes all of m, in whole pages. It goes through m's ranges twice.
// Memory that cannot be read becomes a hole between PT_LOADs, and is reported
// to opt.Lost. see, if not nil, is shown all memory as it is written, a few
// pages at a time; it must not keep b. One goroutine at a time calls opt.Lost
// or see.
func (w *Writer) Copy(ctx context.Context, m physmem.Memory, opt physmem.ScanOptions, see func(addr uint64, b []byte)) error {
	w.mem = m
	err := w.plan(ctx)
	if err == nil {
		err = w.memory(ctx, opt, see)
	}
	return inputfile.About(w.name, err)
}

// Size returns how many bytes of memory there are to copy, once [Writer.Copy]
// has begun.
func (w *Writer) Size() uint64 { return w.total }

// Finish writes the notes, then a PT_LOAD for each alias that is within a piece
// of the memory written, 16 at most, and gives the file its name. The error
// wraps [ErrNoMemory] if no memory was written. zeros is the number of pages
// that PT_LOADs show as zeros although they are between the ranges, or could
// not be read: if there are more holes than PT_LOADs can go around, the
// smallest are filled with zeros.
func (w *Writer) Finish(notes []elfnote.Note, aliases []Alias) (zeros uint64, err error) {
	defer w.Discard() // closes a finished core
	loads := w.loads()
	err = errors.Wrap(ErrNoMemory, "nothing to write")
	if len(loads) > 0 {
		err = w.head(notes, append(loads, within(loads, aliases)...))
	}
	if err == nil {
		err = w.out.Finish()
	}
	return w.zeros / plan.PageSize, inputfile.About(w.name, err)
}

// headSize returns the size of an ELF header and as many program headers.
func headSize(progs int) int64 {
	return int64(unsafe.Sizeof(elf.Header64{})) + int64(progs)*int64(unsafe.Sizeof(elf.Prog64{}))
}

// A part is a piece of memory to write, and where in the file.
type part struct {
	physmem.Range
	off   int64
	vaddr uint64 // 0, but for aliases
}

// memory writes all memory, and sets how long the file is.
func (w *Writer) memory(ctx context.Context, opt physmem.ScanOptions, see func(addr uint64, b []byte)) error {
	size := w.data
	w.offs = make([]int64, len(w.segs))
	for i, s := range w.segs {
		w.offs[i] = size
		size += int64(s.Size)
	}
	if err := w.out.Truncate(size); err != nil {
		return err
	}
	left, lost := w.total, opt.Lost
	opt.Chunk, opt.Workers = createChunk, createWorkers
	opt.Lost = func(addr uint64, why error) {
		if lost != nil {
			w.mu.Lock()
			lost(addr, why)
			w.mu.Unlock()
		}
		w.lack(physmem.Range{Addr: addr, Size: plan.PageSize})
	}
	err := physmem.Scan(ctx, physmem.With(w.mem, w.again(&left)), opt, func(addr uint64, b []byte) error {
		if see != nil {
			w.mu.Lock()
			see(addr, b)
			w.mu.Unlock()
		}
		return w.put(addr, b)
	})
	if err == nil && left != 0 {
		err = errors.Wrap(ErrChanged, "the memory to write")
	}
	return err
}

// put writes the memory at addr, whole pages, to its place.
func (w *Writer) put(addr uint64, b []byte) error {
	i := sort.Search(len(w.segs), func(i int) bool { return w.segs[i].End() > addr })
	if i == len(w.segs) || !w.segs[i].Contains(addr) {
		return errors.Wrapf(ErrChanged, "physical address %#x", addr)
	}
	return w.write(b, w.offs[i]+int64(addr-w.segs[i].Addr))
}

// write writes whole pages but for those that are zero.
func (w *Writer) write(b []byte, off int64) error {
	for start, at := 0, 0; ; at += plan.PageSize {
		if at < len(b) && !physmem.AllZero(b[at:at+plan.PageSize]) {
			continue
		}
		if at > start {
			if _, err := w.out.WriteAt(b[start:at], off+int64(start)); err != nil {
				return err
			}
		}
		if start = at + plan.PageSize; at >= len(b) {
			return nil
		}
	}
}
