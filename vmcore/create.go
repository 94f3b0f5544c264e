package vmcore

import (
	"cmp"
	"context"
	"encoding/binary"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/pkg/errors"

	"vmcsnote/elfnote"
)

// A PhysReader reads physical memory, as [Memory] does.
type PhysReader interface {
	ReadPhys(p []byte, addr uint64) (n int, err error)
}

// A NewELF describes an ELF64 core to be written: little-endian, for x86-64,
// with the notes first and a PT_LOAD for each piece of memory in one piece.
type NewELF struct {
	// Mem is the memory, read by several goroutines at a time.
	Mem PhysReader
	// Ranges is what of it to write: page-aligned, sorted by address, disjoint.
	// What Mem does not have of it becomes a hole between PT_LOADs.
	Ranges []Range
	// See, where not nil, is shown all memory as it is written, a few pages at
	// a time, from one goroutine at a time. It must not keep b.
	See func(addr uint64, b []byte)
	// Lost, where not nil, is told of each page that could not be read, and why;
	// in no order, from one goroutine at a time.
	Lost func(addr uint64, err error)
	// Notes gives the notes, once all memory has been seen. They may take
	// NotesSize bytes.
	Notes     func() []elfnote.Note
	NotesSize int64
	// Aliases, where not nil, gives more PT_LOADs, after Notes: memory by a
	// virtual address too. One that is not within a piece of the memory written
	// is left out.
	Aliases func() []Alias
}

// An Alias is a range of physical memory that has a virtual address.
type Alias struct {
	Vaddr uint64
	Range
}

const (
	// createChunk is how much memory is read at a time.
	createChunk = 1 << 20
	// createWorkers bounds the workers, and with them the memory for chunks.
	createWorkers = 4
	// spareProgs is how many more program headers there is room for than there
	// are ranges, for memory with holes in it.
	spareProgs = 512
	// MaxRanges bounds the pieces of memory of a new core; as many program
	// headers take 56 MB.
	MaxRanges   = 1 << 20
	maxNewProgs = MaxRanges
	// maxLost bounds the holes that are kept before those next to each other,
	// which may have come from several workers, are made one: 32 MB of them.
	maxLost = 2 * maxNewProgs
)

// ErrFragmented: the memory to write has more holes than a core can have
// program headers for.
var ErrFragmented = errors.New("memory in too many pieces")

// Create writes a new core to the file out, with mode 0600: memory holds
// secrets. Pages of zeros become holes in the file. Of the options Overwrite and
// Progress count. The file appears when it is complete; after an error, or if
// ctx is done, nothing is left of it. The error wraps [ErrNoMemory] where there
// was nothing to write, and [ErrFragmented].
func Create(ctx context.Context, out string, n NewELF, opt Options) error {
	if err := n.check(); err != nil {
		return err
	}
	for spare := spareProgs; ; {
		progs, err := n.create(ctx, out, len(n.Ranges)+spare, opt)
		if !errors.Is(err, errMoreProgs) {
			return err
		}
		if progs > maxNewProgs {
			return errors.Wrapf(ErrFragmented, "%d pieces, expected at most %d", progs, maxNewProgs)
		}
		spare = progs - len(n.Ranges)
		n.Lost = nil // it has been told
	}
}

// errMoreProgs: the program headers do not fit in the room made for them.
var errMoreProgs = errors.New("more program headers than there is room for")

func (n *NewELF) check() error {
	next := uint64(0)
	for i, r := range n.Ranges {
		end := r.Addr + r.Size
		if r.Addr%pageSize != 0 || r.Size%pageSize != 0 || r.Size == 0 || r.Addr < next || end < r.Addr {
			return errors.Errorf("range %d: %#x bytes at %#x, expected whole pages at or above %#x", i, r.Size, r.Addr, next)
		}
		next = end
	}
	if len(n.Ranges) >= MaxRanges {
		return errors.Wrapf(ErrFragmented, "%d ranges, expected fewer than %d", len(n.Ranges), MaxRanges)
	}
	return nil
}

// create writes the core with room for so many program headers, and fails with
// errMoreProgs and the number needed where that is too few.
func (n *NewELF) create(ctx context.Context, out string, room int, opt Options) (progs int, err error) {
	p, err := openOutput(out, 0o600, nil, opt)
	if err != nil {
		return 0, err
	}
	defer p.discard()
	if p.device {
		return 0, &fs.PathError{Op: "create", Path: out, Err: errors.New("a core is written to a regular file alone")}
	}
	w := &creator{NewELF: n, f: p.f, data: roundUp(headSize(room)+n.NotesSize, pageSize)}
	if err := w.memory(ctx, opt); err != nil {
		return 0, errors.Wrap(err, out)
	}
	loads := w.loads()
	if len(loads) == 0 {
		return 0, errors.Wrapf(ErrNoMemory, "%s: nothing to write", out)
	}
	notes, aliases := n.Notes(), w.aliases(loads)
	if progs = 1 + len(loads) + len(aliases); progs > room {
		return progs, errMoreProgs
	}
	if err := w.head(notes, append(loads, aliases...)); err != nil {
		return 0, errors.Wrap(err, out)
	}
	return progs, p.finish()
}

// headSize is that of an ELF header, so many program headers, and the section
// header that the number of them may take.
func headSize(progs int) int64 {
	return int64(layout64.ehsize) + int64(progs)*int64(layout64.phentsize) + int64(layout64.shentsize)
}

// A creator writes one core.
type creator struct {
	*NewELF
	f    *os.File
	data int64 // file offset of the memory

	mu   sync.Mutex
	lost []Range // memory that could not be read, in no order
	done int64
}

// A part is a piece of memory to write, and where in the file.
type part struct {
	Range
	off   int64
	vaddr uint64 // 0, but for aliases
}

// memory writes all memory, and says how long the file is.
func (w *creator) memory(ctx context.Context, opt Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	total := int64(0)
	for _, r := range w.Ranges {
		total += int64(r.Size)
	}
	if err := w.f.Truncate(w.data + total); err != nil {
		return err
	}
	parts := make(chan part)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0)+1, createWorkers) {
		wg.Go(func() {
			buf := make([]byte, createChunk)
			for p := range parts {
				if err := w.part(buf[:p.Size], p); err != nil {
					cancel(err)
				}
				w.mu.Lock()
				if w.done += int64(p.Size); opt.Progress != nil {
					opt.Progress(w.done, total)
				}
				w.mu.Unlock()
			}
		})
	}
	off := w.data
feed:
	for _, r := range w.Ranges {
		for addr, left := r.Addr, r.Size; left > 0; {
			n := min(left, createChunk)
			select {
			case parts <- part{Range: Range{addr, n}, off: off}:
			case <-ctx.Done():
				break feed
			}
			addr, left, off = addr+n, left-n, off+int64(n)
		}
	}
	close(parts)
	wg.Wait()
	return context.Cause(ctx)
}

// part copies one part through b. Where a page cannot be read others beside it
// often cannot either, and to ask for many to get none costs: after a loss it
// asks for one page, then for twice as many each time.
func (w *creator) part(b []byte, p part) error {
	var lost []Range
	for done, ask := 0, len(b); done < len(b); ask *= 2 {
		ask = min(ask, len(b)-done)
		n, err := w.Mem.ReadPhys(b[done:done+ask], p.Addr+uint64(done))
		n &^= pageSize - 1 // a page is there as a whole or not at all
		if err := w.write(b[done:done+n], p.off+int64(done)); err != nil {
			return err
		}
		short := n < ask
		w.passed(p.Addr+uint64(done), b[done:done+n], err, short)
		if done += n; short {
			lost = addLost(lost, Range{p.Addr + uint64(done), pageSize})
			done += pageSize
			ask = pageSize / 2
		}
	}
	return w.lose(lost)
}

// passed shows and tells of memory read at addr and, if it ends too early, of the
// page behind it that was not.
func (w *creator) passed(addr uint64, b []byte, why error, short bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.See != nil && len(b) > 0 {
		w.See(addr, b)
	}
	if short && w.Lost != nil {
		w.Lost(addr+uint64(len(b)), why)
	}
}

// lose keeps account of what a part lacks. Parts next to each other are
// many where nothing of a large stretch is there, a device's memory or what
// makedumpfile leaves out: they count as one.
func (w *creator) lose(lost []Range) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range lost {
		w.lost = addLost(w.lost, r)
	}
	if len(w.lost) < maxLost {
		return nil
	}
	slices.SortFunc(w.lost, byAddr)
	merged := w.lost[:0]
	for _, r := range w.lost {
		merged = addLost(merged, r)
	}
	if w.lost = merged; len(merged) > maxNewProgs {
		return ErrFragmented
	}
	return nil
}

// addLost adds r, to the last of the ranges where it goes on there.
func addLost(lost []Range, r Range) []Range {
	if i := len(lost) - 1; i >= 0 && lost[i].Addr+lost[i].Size == r.Addr {
		lost[i].Size += r.Size
		return lost
	}
	return append(lost, r)
}

func byAddr(a, b Range) int { return cmp.Compare(a.Addr, b.Addr) }

// write writes whole pages but for those that are zero.
func (w *creator) write(b []byte, off int64) error {
	for start, at := 0, 0; ; at += pageSize {
		if at < len(b) && !isZero(b[at:at+pageSize]) {
			continue
		}
		if at > start {
			if _, err := w.f.WriteAt(b[start:at], off+int64(start)); err != nil {
				return err
			}
		}
		if start = at + pageSize; at >= len(b) {
			return nil
		}
	}
}

// isZero reports whether a page is all zeros.
func isZero(b []byte) bool {
	for ; len(b) >= 32; b = b[32:] {
		if binary.LittleEndian.Uint64(b)|binary.LittleEndian.Uint64(b[8:])|
			binary.LittleEndian.Uint64(b[16:])|binary.LittleEndian.Uint64(b[24:]) != 0 {
			return false
		}
	}
	return true
}
