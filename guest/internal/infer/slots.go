package infer

import (
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"vmcsnote/internal/x86"
)

const pageSize = x86.PageSize

// A Mapper is tables that map addresses, and whatever they map.
type Mapper interface {
	Mappings() iter.Seq2[x86.Mapping, error]
}

// A Process is the user half of the address space of the process that runs a
// guest.
type Process interface {
	Mapper
	// Translate finds what maps an address. With an error the mapping is the
	// stretch for which the error holds.
	Translate(hva uint64) (x86.Mapping, error)
	// End is the first address that is not in the user half.
	End() uint64
}

// A Slot is guest-physical memory that lies in one piece in the process.
type Slot struct {
	GPA, HVA uint64 // of the first byte
	Size     uint64 // bytes
	// Pages are the 4 KiB pages that EPT maps to where the process has them:
	// what the slot was inferred from, and verified by. 0 for RAM from 0 on
	// that goes by the memory above it.
	Pages uint64
}

// Memory slots are inferred without debug information: KVM fills EPT from the
// process's page tables. So if EPT maps a guest page, and the process maps the
// same host page in one place only, the two addresses belong together. HVA -
// GPA, the delta, tells the slot.
//
// One host page in many places is the zero page or one merged by KSM. It has no
// vote, but belongs to a slot that others voted for.
//
// First a sample of EPT's mappings votes. Then all of EPT's mappings are gone
// through: a delta explains a piece of memory if the process maps the same host
// page there, and the piece extends a run of that delta. Pieces that no delta
// explains are sampled anew, so that slots which the sample missed vote in the
// next round. The runs, in order of GPA, are certain; extend judges how far the
// slots reach beyond them.
//
// All CPUs take part: EPT's mappings are sorted in batches, each by itself, so
// that what comes out does not depend on how many CPUs there are.
const (
	maxRounds = 8
	// maxDeltas and maxRuns bound the deltas and runs. A guest of QEMU has some
	// ten, and one for each DIMM plugged in. With more there are no slots: the
	// tables are noise, or those of a nested guest, whose memory lies in its
	// host's wherever that had room.
	maxDeltas = 256
	maxRuns   = 1024
	// maxWorkers bounds the goroutines that sort batches, batchMappings the
	// batches, and maxRest what no delta explains of one: a dump can have EPT
	// map 1 GiB pages where the process has 4 KiB ones.
	maxWorkers    = 16
	batchMappings = 1 << 10
	maxRest       = 4 * batchMappings
	// maxLookups bounds the mappings gone through and the addresses looked for in
	// the process, in all rounds together. 1 TiB in 4 KiB pages takes 2^28 in
	// each of two or three, and pages shared with everything alike take more.
	maxLookups = 1 << 32
)

// A run is memory that EPT maps, from its first to its last byte of one delta,
// with no byte of another between.
type run struct {
	lo, hi uint64 // GPA; hi is the first byte after it
	delta  uint64 // HVA - GPA, modulo 2^64
	pages  uint64 // of 4 KiB that are explained
}

// Slots infers the slots of the guest whose memory ept maps. open returns the
// process that runs it, each time with a cache of its own.
func Slots(ept Mapper, open func() Process) []Slot {
	proc := open()
	var deltas []uint64
	var lookups atomic.Int64 // that are left
	lookups.Store(maxLookups)
	for range maxRounds {
		runs, rest, ok := classify(ept, open, deltas, &lookups)
		if !ok {
			return nil
		}
		votes, ok := rest.pairs(proc)
		known := len(deltas)
		for _, p := range votes {
			if d := p.hva - p.addr; !slices.Contains(deltas, d) {
				deltas = append(deltas, d)
			}
			if len(deltas) > maxDeltas {
				return nil
			}
		}
		switch {
		case !ok:
			return nil
		case len(deltas) == known:
			return extend(runs, proc)
		}
	}
	return nil
}

// classify sorts EPT's mappings by the deltas that explain them: in runs, and a
// sample of the rest. It is false where that takes more lookups than are left,
// or there are too many runs.
func classify(ept Mapper, open func() Process, deltas []uint64, lookups *atomic.Int64) (runs []run, rest sample, ok bool) {
	workers := min(maxWorkers, runtime.GOMAXPROCS(0))
	work, inOrder := make(chan *batch), make(chan *batch, 2*workers)
	stop := make(chan struct{})
	var used sync.Pool
	var running sync.WaitGroup
	defer running.Wait()
	defer close(stop)
	running.Go(func() {
		defer close(inOrder)
		defer close(work)
		for b := range batches(ept, &used) {
			for _, to := range []chan *batch{inOrder, work} {
				select {
				case to <- b:
				case <-stop:
					return
				}
			}
		}
	})
	for range workers {
		running.Go(func() {
			proc := open()
			for b := range work {
				b.sort(proc, deltas, lookups)
				b.sorted <- struct{}{}
			}
		})
	}
	for b := range inOrder {
		<-b.sorted
		more := b.runs
		if n := len(runs); n > 0 && len(more) > 0 && runs[n-1].delta == more[0].delta {
			runs[n-1].hi = more[0].hi
			runs[n-1].pages += more[0].pages
			more = more[1:]
		}
		runs = append(runs, more...)
		if lookups.Load() < 0 || len(runs) > maxRuns {
			return nil, sample{}, false
		}
		for _, m := range b.rest {
			rest.add(m)
		}
		used.Put(b)
	}
	return runs, rest, true
}

// A batch is some of EPT's mappings, in order.
type batch struct {
	mappings []x86.Mapping
	sorted   chan struct{} // tells that runs and rest are complete
	runs     []run
	rest     []x86.Mapping // what no delta explains
}

// batches puts what EPT maps in batches, used ones if there are some.
func batches(ept Mapper, used *sync.Pool) iter.Seq[*batch] {
	used.New = func() any { return &batch{sorted: make(chan struct{}, 1)} }
	next := func() *batch {
		b := used.Get().(*batch)
		b.mappings, b.runs, b.rest = b.mappings[:0], b.runs[:0], b.rest[:0]
		return b
	}
	return func(yield func(*batch) bool) {
		b := next()
		for m, err := range ept.Mappings() {
			if err != nil {
				continue
			}
			if b.mappings = append(b.mappings, m); len(b.mappings) == batchMappings {
				if !yield(b) {
					return
				}
				b = next()
			}
		}
		yield(b)
	}
}

// sort fills in the batch's runs and rest. It gives up where that takes more
// lookups than are left, or more runs than there may be.
func (b *batch) sort(proc Process, deltas []uint64, left *atomic.Int64) {
	if len(deltas) == 0 {
		left.Add(-int64(len(b.mappings)))
		b.rest = append(b.rest, b.mappings...)
		return
	}
	c := classifier{batch: b, proc: proc, deltas: deltas, last: -1}
	most := left.Load()
	for _, m := range b.mappings {
		for m.Size > 0 && c.lookups <= most && len(b.runs) <= maxRuns+1 {
			size := c.piece(m)
			m.Addr, m.Phys, m.Size = m.Addr+size, m.Phys+size, m.Size-size
		}
	}
	left.Add(-c.lookups)
}

// A classifier sorts the mappings of a batch by the deltas that explain them.
type classifier struct {
	*batch
	proc    Process
	deltas  []uint64
	last    int   // the delta that explained the piece before; -1 for none
	lookups int64 // addresses looked for in the process
}

// piece sorts the first bytes of m, and returns how many: as far as the
// process has one mapping.
func (c *classifier) piece(m x86.Mapping) uint64 {
	size := m.Size
	if c.last >= 0 {
		n, user, ok := c.explains(c.last, m)
		// Where both map it read-only, it may be a page shared with everything
		// alike; it tells something only if no other delta explains it as well.
		if ok && (m.Entry&x86.EPTWrite != 0 || user.Entry&x86.Write != 0) {
			c.extend(m.Addr, n)
			return n
		}
		size = n
	}
	found := -1
	for i := range c.deltas {
		n, _, ok := c.explains(i, m)
		size = min(size, n)
		switch {
		case ok && found >= 0:
			return size // ambiguous
		case ok:
			found = i
		}
	}
	if found < 0 {
		m.Size = size
		c.leave(m)
		return size
	}
	c.last = found
	c.extend(m.Addr, size)
	return size
}

// leave adds a piece to the rest, where those of one large page are one.
func (c *classifier) leave(m x86.Mapping) {
	if n := len(c.rest); n > 0 && m.Level > 1 {
		if r := &c.rest[n-1]; r.Addr+r.Size == m.Addr && r.Phys+r.Size == m.Phys {
			r.Size += m.Size
			return
		}
	}
	if len(c.rest) < maxRest {
		c.rest = append(c.rest, m)
	}
}

// explains reports whether the process maps the start of m with the i-th delta,
// and for how many bytes that, or the contrary, holds.
func (c *classifier) explains(i int, m x86.Mapping) (size uint64, user x86.Mapping, ok bool) {
	c.lookups++
	hva := m.Addr + c.deltas[i]
	user, err := c.proc.Translate(hva)
	skip := hva - user.Addr
	size = min(m.Size, user.Size-skip)
	return size, user, err == nil && user.Phys+skip == m.Phys
}

// extend lets the last delta's run reach to gpa + size.
func (c *classifier) extend(gpa, size uint64) {
	delta := c.deltas[c.last]
	if n := len(c.runs); n == 0 || c.runs[n-1].delta != delta {
		c.runs = append(c.runs, run{lo: gpa, delta: delta})
	}
	r := &c.runs[len(c.runs)-1]
	r.hi = gpa + size
	r.pages += size / pageSize
}
