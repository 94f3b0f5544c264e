package plan

import (
	"io"
	"iter"
	"os"

	"vmcsnote/internal/atomicfile"
)

// Data yields the parts of n bytes of r at off that may hold something other
// than zeros, by rising offset: all but the holes of a file. If r has such a
// method itself, Data calls it. The n bytes must lie in r.
func Data(r io.ReaderAt, off, n int64) iter.Seq[Extent] {
	if r, ok := r.(interface {
		Data(off, n int64) iter.Seq[Extent]
	}); ok {
		return r.Data(off, n)
	}
	f, ok := r.(*os.File)
	return func(yield func(Extent) bool) {
		for at, end := off, off+n; at < end; {
			data, hole := at, end
			if ok {
				data, hole = atomicfile.NextData(f, at, end)
			}
			if at = hole; data < hole && !yield(Extent{Off: uint64(data), Size: uint64(hole - data)}) {
				return
			}
		}
	}
}
