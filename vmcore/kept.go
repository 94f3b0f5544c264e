package vmcore

import (
	"io"
	"math/bits"
	"slices"

	"github.com/pkg/errors"

	"vmcsnote/vmcore/internal/kdump"
	"vmcsnote/vmcore/internal/plan"
)

// keptBytes keeps parts of a plain form as its records go by, and reads as the
// plain form, with zeros where it keeps nothing.
type keptBytes struct {
	parts  []plan.Extent
	chunks map[int64]*keptChunk
	size   int64 // of the plain form so far
}

// A keptChunk is chunkKept bytes, and which of them were in a record.
type keptChunk struct {
	b    [chunkKept]byte
	have [chunkKept / 64]uint64
}

const chunkKept = 4 << 10

// keep returns a keptBytes for what the check at the end needs: headers,
// [smallNotes], what follows the notes as far as the planner looks for room
// there, and tables further on.
func (s *flatStream) keep() (*keptBytes, error) {
	notes := s.c.NotesOff() + s.c.Notes().Size
	end := notes + max(s.sp.Grow(), 0) + kdump.MaxBlockSize
	k := &keptBytes{chunks: map[int64]*keptChunk{}, parts: slices.Concat(
		[]plan.Extent{{Off: 0, Size: uint64(s.c.NotesOff())}}, smallNotes(s.c), []plan.Extent{{Off: uint64(notes), Size: uint64(end - notes)}})}
	sum := int64(0)
	for _, e := range k.parts {
		sum += int64(e.Size)
	}
	for _, p := range s.spans {
		if p.what == isTable && p.end > end {
			k.parts = append(k.parts, plan.Extent{Off: uint64(p.src), Size: uint64(p.end - p.src)})
			sum += p.end - p.src
		}
	}
	if sum > plan.MaxHead {
		return nil, errors.Wrapf(plan.ErrOnePass, "headers and notes have %#x bytes, the most that is kept of a stream in memory is %#x", sum, plan.MaxHead)
	}
	return k, nil
}

// put keeps what is wanted of the bytes b, which belong at off.
func (k *keptBytes) put(off int64, b []byte) {
	for _, e := range k.parts {
		from, end := max(off, int64(e.Off)), min(off+int64(len(b)), int64(e.Off+e.Size))
		for from < end {
			c := k.chunks[from/chunkKept]
			if c == nil {
				c = &keptChunk{}
				k.chunks[from/chunkKept] = c
			}
			i := from % chunkKept
			n := int64(copy(c.b[i:], b[from-off:end-off]))
			for j := i; j < i+n; {
				mask, k := wordMask(j, i+n)
				c.have[j/64] |= mask
				j += k
			}
			from += n
		}
	}
}

// read reads what is kept from off on.
func (k *keptBytes) read(b []byte, off int64) {
	for len(b) > 0 {
		i := off % chunkKept
		n := min(int64(len(b)), chunkKept-i)
		if c := k.chunks[off/chunkKept]; c != nil {
			copy(b[:n], c.b[i:])
		} else {
			clear(b[:n])
		}
		off, b = off+n, b[n:]
	}
}

// held returns how many of the n bytes at off were in a record.
func (k *keptBytes) held(off, n int64) (sum int64) {
	for end := off + n; off < end; {
		mask, bytes := wordMask(off, end)
		if c := k.chunks[off/chunkKept]; c != nil {
			sum += int64(bits.OnesCount64(c.have[off%chunkKept/64] & mask))
		}
		off += bytes
	}
	return sum
}

// wordMask returns the bits in have of the bytes from off up to end, or to the
// end of their word, and how many these are.
func wordMask(off, end int64) (mask uint64, n int64) {
	n = min(64-off%64, end-off)
	return (1<<n - 1) << (off % 64), n
}

// ReadAt reads up to the end of the plain form.
func (k *keptBytes) ReadAt(b []byte, off int64) (int, error) {
	n := min(max(k.size-off, 0), int64(len(b)))
	k.read(b[:n], off)
	if n < int64(len(b)) {
		return int(n), io.EOF
	}
	return int(n), nil
}
